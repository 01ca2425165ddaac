"""Decides which files are junk, which programs keep for themselves beside documents: by name and content together.

Pure functions over a name and the first bytes of a file. Junk never goes to Procore, so Procore's rules for names do
not apply to it. A name alone proves nothing: `~$budget.xlsx` may be an owner file of Excel or somebody's budget. So
each entry of the table says how the program's own file begins; a file with such a name and other content is an ordinary
document. An empty file with such a name is junk. Folders have no content to check: their table has only names that no
person gives a folder, and everything in such a folder stays here.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

HEAD_BYTES = 4096
"""This many first bytes tell what a file is."""

_Test = Callable[[bytes, int], bool]
"""Whether a file that is not empty is the program's, by its first bytes and its size."""


def _begins(*starts: bytes) -> _Test:
    return lambda head, _size_bytes: head.startswith(starts)


def _holds(pattern: str, *, most_bytes: int = HEAD_BYTES) -> _Test:
    """A text of at most that length whose beginning matches the pattern."""
    compiled = re.compile(pattern, re.IGNORECASE | re.DOTALL)

    def holds(head: bytes, size_bytes: int) -> bool:
        text = _text(head)
        return size_bytes <= most_bytes and text is not None and compiled.match(text) is not None

    return holds


def _text(head: bytes) -> str | None:
    """The bytes as text; None: they are not text. Programs on Windows write UTF-16, with or without a BOM."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head[: len(head) & ~1].decode("utf-16", "replace")
    if head[1:2] == b"\0":
        text = head[: len(head) & ~1].decode("utf-16-le", "replace")
    elif head[:1] == b"\0":
        text = head[: len(head) & ~1].decode("utf-16-be", "replace")
    else:
        text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    return None if "\0" in text else text


def _is_owner_file(head: bytes, size_bytes: int) -> bool:
    """162 or 165 bytes: length and name in one byte a character, nothing else up to byte 53, and the name again."""
    if not 160 <= size_bytes <= 170 or len(head) < size_bytes:
        return False
    if 3 * sum(byte in b"\0 " for byte in head[:size_bytes]) >= 2 * size_bytes:
        return True  # other programs write the name alone, and fill the rest
    length = head[0]
    name, padding = head[1 : 1 + length], head[1 + length : 54]
    return 0 < length <= 53 and not padding.strip(b"\0 ") and not any(byte < 32 for byte in name)


def _is_access_lock(head: bytes, size_bytes: int) -> bool:
    """A record of 64 bytes for each user, at most 255: the names of machine and user, each in 32 bytes."""
    if size_bytes % 64 or size_bytes > 255 * 64:
        return False
    names = [head[at : at + 32] for at in range(0, len(head) // 32 * 32, 32)]
    return names[0][:1].isalnum() and all(_is_padded_name(name) for name in names)


def _is_padded_name(field: bytes) -> bool:
    name, nul, _ = field.partition(b"\0")
    return not any(byte < 32 for byte in name) and (bool(nul) or field.endswith(b" "))


def _anything(_head: bytes, _size_bytes: int) -> bool:
    """Only a program makes the name, and the content is that of another file."""
    return True


def _is_small(_head: bytes, size_bytes: int) -> bool:
    return size_bytes <= 1024


def _is_never_filled(_head: bytes, _size_bytes: int) -> bool:
    return False


class Junk(NamedTuple):
    """A kind of file that a program keeps for itself."""

    name: str
    """A regular expression for the whole name; case matters where the program's own name has one."""
    program: str
    is_the_programs: _Test


_EMACS = r"[^\s@]+@[^\s@]+\.\d+(?::\d+)?\s*\Z"
"""user@host.process:boot"""
_LIBREOFFICE = r"(?:[^,;\\\n]|\\.)*(?:,(?:[^,;\\\n]|\\.)*){3,4};\s*\Z"
_APDISK = r"<\?xml.*<!DOCTYPE plist"
_DOLPHIN = r"\s*(?:#[^\n]*\n\s*)*\[(?:Dolphin|Desktop Entry|Settings|ViewProperties)\]"
_EXPLORER = (
    r"\s*(?:;[^\n]*\n\s*)*"
    r"\[(?:\.ShellClassInfo|ViewState|LocalizedFileNames|DeleteOnCopy|ExtShellFolderViews|\{[0-9a-f-]{36}\})\]"
)
_DWL = r"[^\n]+\n[^\n]+\n[^\n]*\d:\d\d[^\n]*\s*\Z"
"""user, machine, time"""
_DWL2 = r".*<username>.*<machinename>"
_LCK = r"(?:[^\n|]+\|\|[^\n|]*|\s*\d+|[^\s@]+@[^\s@]+)\s*\Z"
"""name||mail, a process, or user@host"""
_SLOG = r"\s*(?:\$[0-9a-f]{8} \d{4}-\d\d-\d\d |>)|.{0,512}>Session"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

FILES = (
    Junk(r"\.#.+", "Emacs: who edits the file", _holds(_EMACS)),
    Junk(r"\._.+", "macOS: resource fork and attributes", _begins(b"\0\x05\x16\x07")),
    Junk(r"\.apdisk", "macOS: identity of a share", _holds(_APDISK)),
    Junk(r"\.directory", "KDE: view of a folder", _holds(_DOLPHIN)),
    Junk(r"\.DS_Store", "macOS: view of a folder", _begins(b"\0\0\0\1Bud1")),
    Junk(r"(?i:.+\.dwl)", "AutoCAD: who edits the drawing", _holds(_DWL, most_bytes=1024)),
    Junk(r"(?i:.+\.dwl2)", "AutoCAD: the same as XML", _holds(_DWL2, most_bytes=2048)),
    Junk(r"\.fuse_hidden[0-9a-f]{16,}", "libfuse: removed while it was open", _anything),
    Junk(r"(?i:.+\.laccdb)", "Access: who uses the database", _is_access_lock),
    Junk(r"(?i:.+\.lck)", "Dreamweaver, Java: who uses the file", _holds(_LCK, most_bytes=512)),
    Junk(r"(?i:.+\.ldb)", "Access until 2003: who uses the database", _is_access_lock),
    Junk(r"\.localized", "macOS: the folder's name is translated", _holds(r"\s*\Z")),
    Junk(r"\.nfs[0-9a-f]{24}", "NFS: removed while it was open", _anything),
    Junk(r"(?i:.+\.slog)", "Revit: who uses the central model", _holds(_SLOG, most_bytes=1 << 62)),
    Junk(r".+\.sw[a-p]", "vim, Neovim, nano: what is edited", _begins(b"b0VIM", b"b0nano")),
    Junk(r"\.~lock\..+\#", "LibreOffice: who edits the document", _holds(_LIBREOFFICE)),
    Junk(r"(?i:desktop\.ini)", "Windows: view of a folder", _holds(_EXPLORER)),
    Junk(r"(?i:(?:eh)?thumbs(?:_vista)?\.db)", "Windows: thumbnails", _begins(_OLE, b"CMMM")),
    Junk("Icon\r", "macOS: a folder's icon, in its resource fork", _is_never_filled),
    Junk(r"~\$.+", "Word, Excel, PowerPoint: who edits the document", _is_owner_file),
    Junk(r"(?i:~.+\.idlk)", "InDesign: who edits the document", _is_small),
)
"""Sorted by what all of its names have in common."""

FOLDERS = (
    (r"\$RECYCLE\.BIN", "Windows: what was removed"),
    (r"\.AppleDB", "netatalk: its database"),
    (r"\.AppleDesktop", "netatalk: icons"),
    (r"\.AppleDouble", "netatalk: resource forks and attributes"),
    (r"\.DocumentRevisions-V100", "macOS: versions of documents"),
    (r"\.fseventsd", "macOS: log of changes"),
    (r"\.Spotlight-V100", "macOS: search index"),
    (r"\.TemporaryItems", "macOS: files while they are saved"),
    (r"\.Trash-\d+", "file managers on Linux: what was removed"),
    (r"\.Trashes", "macOS: what was removed"),
    (r"@eaDir", "Synology: thumbnails and attributes"),
    (r"__MACOSX", "macOS: attributes out of an archive"),
    (r"System Volume Information", "Windows: restore points and index"),
)
"""Names and who makes them."""

_KINDS = tuple((re.compile(junk.name, re.DOTALL), junk.is_the_programs) for junk in FILES)
_MAY_BE = re.compile("|".join(f"(?:{junk.name})" for junk in FILES), re.DOTALL)
_FOLDER = re.compile("|".join(name for name, _ in FOLDERS))


def may_be_junk(name: str) -> bool:
    """Whether a file of that name is junk if its content is."""
    return _MAY_BE.fullmatch(name) is not None


def is_junk(name: str, head: bytes, size_bytes: int) -> bool:
    """Whether a file is junk. `head`: its first HEAD_BYTES bytes, or all."""
    tests = [test for pattern, test in _KINDS if pattern.fullmatch(name)]
    return bool(tests) and (size_bytes == 0 or any(test(head, size_bytes) for test in tests))


def is_junk_folder(name: str) -> bool:
    """Whether everything in a folder of that name is junk."""
    return _FOLDER.fullmatch(name) is not None
