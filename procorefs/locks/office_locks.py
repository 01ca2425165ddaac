"""Recognises lock files of office programs, has their documents checked out, and makes those that show other users.

    program                 lock file of NAME                                        content
    LibreOffice             .~lock.NAME#                                             one line of five fields
    Excel, PowerPoint       ~$NAME                                                   owner file, 165 bytes
    Word                    ~$NAME, without NAME's first two characters if the       owner file, 162 bytes
                            part before the extension has 8 or more, without the
                            first one if it has 7

A program that opens a document creates its lock file beside it and removes it at the end. A program that finds one
shows the name in it and offers a copy. Names are a directory's bytes.
"""

import enum
from collections.abc import Callable, Collection
from datetime import datetime

from procorefs.locks.check_outs import CheckOuts
from procorefs.locks.claims import Claims
from procorefs.tree.nodes import Inode

MAX_NAME_BYTES = 255

SHORTENED = b"~$"
"""How Microsoft's lock files begin; Word's leave out characters of the name."""

_LIBRE_PREFIX, _LIBRE_SUFFIX = b".~lock.", b"#"

_WORD = frozenset({"doc", "docm", "docx", "dot", "dotm", "dotx", "odt", "rtf"})
_EXCEL = frozenset({"ods", "xls", "xlsb", "xlsm", "xlsx", "xlt", "xltm", "xltx"})
_POWERPOINT = frozenset({"odp", "pot", "potm", "potx", "pps", "ppsm", "ppsx", "ppt", "pptm", "pptx"})

_OWNER_NAME_CHARACTERS = 52
"""The longest name that the programs take."""


class Program(enum.Enum):
    """Whose format a lock file has."""

    LIBREOFFICE = "LibreOffice"
    WORD = "Word"
    EXCEL = "Excel"
    POWERPOINT = "PowerPoint"


def is_lock_file(name: bytes) -> bool:
    """Whether a name is that of a lock file, of whatever document."""
    is_libre = name.startswith(_LIBRE_PREFIX) and name.endswith(_LIBRE_SUFFIX)
    return (is_libre and len(name) > len(_LIBRE_PREFIX + _LIBRE_SUFFIX)) or (
        name.startswith(SHORTENED) and len(name) > len(SHORTENED)
    )


def plain_names(lock_name: bytes) -> list[bytes]:
    """Names that the document may have when its program shortens nothing."""
    if lock_name.startswith(_LIBRE_PREFIX):
        return [lock_name[len(_LIBRE_PREFIX) : -len(_LIBRE_SUFFIX)]]
    return [lock_name[len(SHORTENED) :]]


def document_of(lock_name: bytes, siblings: Collection[bytes]) -> bytes | None:
    """The document that a lock file in the same folder is for.

    None when there is none, and when several have the name that Word shortens to this one.
    """
    if not is_lock_file(lock_name):
        return None
    if lock_name.startswith(_LIBRE_PREFIX):
        name = lock_name[len(_LIBRE_PREFIX) : -len(_LIBRE_SUFFIX)]
        return name if name in siblings else None
    meant = [name for name in siblings if _owner_name(name) == lock_name and not is_lock_file(name)]
    if not meant and lock_name[len(SHORTENED) :] in siblings:
        return lock_name[len(SHORTENED) :]
    return meant[0] if len(meant) == 1 else None


def lock_file_names(document_name: bytes) -> dict[bytes, Program]:
    """The lock files that programs look for beside a document: LibreOffice opens anything, the others their own."""
    names = {_LIBRE_PREFIX + document_name + _LIBRE_SUFFIX: Program.LIBREOFFICE}
    program = _program_of(document_name)
    if program is not None and (owner_name := _owner_name(document_name)) is not None:
        names[owner_name] = program
    return {name: program for name, program in names.items() if len(name) <= MAX_NAME_BYTES}


def _program_of(document_name: bytes) -> Program | None:
    _stem, dot, suffix = document_name.rpartition(b".")
    extension = suffix.decode("utf-8", "surrogateescape").lower() if dot else ""
    if extension in _WORD:
        return Program.WORD
    if extension in _EXCEL:
        return Program.EXCEL
    return Program.POWERPOINT if extension in _POWERPOINT else None


def _owner_name(document_name: bytes) -> bytes | None:
    """The lock file that Microsoft's program makes; None for what none of them opens."""
    program = _program_of(document_name)
    if program is None:
        return None
    name = document_name.decode("utf-8", "surrogateescape")
    if program is Program.WORD:
        stem_characters = len(name.rpartition(".")[0])
        name = name[2 if stem_characters >= 8 else stem_characters == 7 :]
    return SHORTENED + name.encode("utf-8", "surrogateescape")


def content_for(program: Program, holder_name: str, *, since: datetime | None = None) -> bytes:
    """The content of a lock file. LibreOffice shows `since` beside the name when it is known."""
    if program is Program.LIBREOFFICE:
        return _libre_line(holder_name, since)
    return _owner_file(program, holder_name)


def _libre_line(holder_name: str, since: datetime | None) -> bytes:
    """User, account, host, time, profile. Account and host are invented, else LibreOffice takes it for its own."""
    time = since.strftime("%d.%m.%Y %H:%M") if since else ""
    fields = (holder_name, "procore", "procore", time, "procore")
    return (",".join(map(_escaped, fields)) + ";").encode("utf-8", "replace")


def _escaped(field: str) -> str:
    field = "".join(c if c.isprintable() else " " for c in field)
    for special in ("\\", ",", ";"):
        field = field.replace(special, "\\" + special)
    return field


def _owner_file(program: Program, holder_name: str) -> bytes:
    """Length and name in one byte a character, padded; length and name in UTF-16; padded to its size."""
    units = holder_name.encode("utf-16-le", "replace")[: 2 * _OWNER_NAME_CHARACTERS]
    name = units.decode("utf-16-le", "ignore")  # a pair cut in two is left out whole
    units = name.encode("utf-16-le")
    length = len(units) // 2
    narrow = name.encode("cp1252", "replace")[:length]
    if program is Program.WORD:
        return (
            bytes([length]) + narrow.ljust(53, b"\0") + length.to_bytes(2, "little") + units.ljust(106, b"\0")
        )
    if program is Program.POWERPOINT:
        narrow += b"\0"
    wide = units + b" \0" * ((108 - len(units)) // 2)
    return bytes([length]) + narrow.ljust(54, b" ") + length.to_bytes(2, "little") + wide


class OfficeLocks:
    """The lock files that programs on this mount have made; each one holds its document's check-out.

    Nothing here waits: creating and removing a file hold their folder's lock. While another user has the document
    checked out, the hold remains, and the document is checked out when they are done.
    """

    def __init__(self, claims: Claims, check_outs: CheckOuts) -> None:
        self._claims = claims
        self._check_outs = check_outs
        self._documents: dict[tuple[Inode, bytes], Inode] = {}

    def created(self, folder: Inode, lock_name: bytes, document: Inode) -> None:
        """A lock file of that document was created, or got its name."""
        self.removed(folder, lock_name)
        self._documents[folder, lock_name] = document
        self._check_outs.hold(document, (folder, lock_name))

    def replaced(self, folder: Inode, document_name: bytes, inode: Inode) -> None:
        """Another file has a document's name now, as when a program saves: the holds go over to it."""
        if not self._documents:
            return
        for lock_name in lock_file_names(document_name):
            before = self._documents.get((folder, lock_name))
            if before is not None and before != inode:
                self._documents[folder, lock_name] = inode
                self._check_outs.hold(inode, (folder, lock_name))
                self._check_outs.drop(before, (folder, lock_name))

    def removed(self, folder: Inode, lock_name: bytes) -> None:
        """A file is gone, or has another name; it may never have been a lock file."""
        inode = self._documents.pop((folder, lock_name), None)
        if inode is not None:
            self._check_outs.drop(inode, (folder, lock_name))

    def keep(self, is_there: Callable[[Inode, bytes], bool]) -> None:
        """Drop the holds of lock files that are gone; `is_there` tells by folder and name."""
        for folder, lock_name in list(self._documents):
            if not is_there(folder, lock_name):
                self.removed(folder, lock_name)

    def shown_beside(self, document_name: bytes, inode: Inode) -> dict[bytes, bytes]:
        """The lock files, with their content, that show beside a document which another user has checked out."""
        holder = self._claims.holder(inode)
        if holder is None or is_lock_file(document_name):
            return {}
        name = holder.name or "another user of Procore"
        return {
            lock_name: content_for(program, name)
            for lock_name, program in lock_file_names(document_name).items()
        }
