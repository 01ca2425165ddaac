"""Says what becomes of a file or folder by its name, and what programs keep under names of their own.

What is junk by name and content says the product's table, which has tests of its own. Everything that follows from it
is said here once more.
"""

import enum

from procorefs.locks.office_locks import Program, content_for
from procorefs.tree.naming.junk_names import HEAD_BYTES, is_junk, may_be_junk

TEMPORARY = ("~a.tmp", ".a.Xk3z9Q", "a~")
REFUSED_TEMPORARY = ".a:b.Xk3z9Q"
"""As rsync writes `a:b`: Procore takes neither name."""
REFUSED = ("a:b", "c ")
LOCAL_FOLDERS = ("__MACOSX", ".Trash-1000")
HELD_FOLDER = ".~tmp~"
"""Of `rsync --delay-updates`."""
LOCKS = (".~lock.a#", ".~lock.b#", "~$a", ".~lock.a?#")
"""Lock files of office programs; no document can have the last one's name."""
JUNK = {
    "._a": "macos",
    "._a: b": "macos",
    ".DS_Store": "finder",
    ".~lock.a#": "libreoffice",
    ".~lock.b#": "libreoffice",
    ".~lock.a?#": "libreoffice",
    "~$a": "excel",
}
"""Names of junk, with the program that writes each."""

ENCODED = ("a:b", "a\uff1ab", "a?", "c ")
"""Names that programs give where they are encoded: what Procore refuses, and a substitute that is meant."""
MADE_BY_OTHERS = ("a:b", "a?", "c ")
"""Names that Procore refuses today, and may still have."""
SUBSTITUTES = ("a\uff1ab", "a\uff1f", "c\u2420", "a\u201b\uff1ab")
"""Names in Procore that programs see as others."""

_HELD = (TEMPORARY[0], TEMPORARY[1], REFUSED_TEMPORARY)


def program_content(program: str, number: int, word: bytes) -> bytes:
    """What a program writes into a file that it keeps for itself: each time something else."""
    match program:
        case "macos":
            return b"\0\5\x16\7" + word
        case "finder":
            return b"\0\0\0\1Bud1" + word
        case "libreoffice":
            return f",user{number},host,01.02.2026 10:00,profile;".encode()
        case _:
            return content_for(Program.EXCEL, f"User {number}")


class Stay(enum.Enum):
    """What becomes of an entry that nobody touches any more."""

    SENT = enum.auto()
    """Procore has it."""
    JUNK = enum.auto()
    """It stays here while it is mounted, unless it was a document before it became junk."""
    LOCAL = enum.auto()
    """It stays here because of a folder's name."""
    HELD = enum.auto()
    """It has a temporary name that Procore refuses: it waits until it is renamed."""
    FAILED = enum.auto()
    """Procore refuses its name, and it is not sent."""


def is_refused(name: str) -> bool:
    """Whether Procore takes no such name."""
    return any(character in "?<>:|\\*" for character in name) or name != name.rstrip()


def stay_of(path: str, content: bytes | None, *, encodes: bool) -> Stay:
    """What becomes of an entry. `content` None: it is a folder. `encodes`: Procore gets no name that it refuses."""
    *above, name = path.split("/")
    is_local, is_held = lies_in(path)
    if is_local or (content is None and name in LOCAL_FOLDERS):
        return Stay.LOCAL
    if content is not None and is_junk_file(path, content):
        return Stay.JUNK
    if not encodes and any(map(is_refused, [*above, name])):
        is_temporary = name == HELD_FOLDER if content is None else name in _HELD
        return Stay.HELD if is_held or is_temporary else Stay.FAILED
    return Stay.SENT


def lies_in(path: str) -> tuple[bool, bool]:
    """Whether a folder above keeps it on this machine for ever, and whether one is temporary."""
    above = path.split("/")[:-1]
    return any(name in LOCAL_FOLDERS for name in above), HELD_FOLDER in above


def is_junk_file(path: str, content: bytes) -> bool:
    """Whether a file is a program's own."""
    return is_junk(path.rpartition("/")[2], content[:HEAD_BYTES], len(content))


def has_name_of_junk(path: str) -> bool:
    """Whether nobody can say of a path alone whether Procore has it."""
    is_local, _ = lies_in(path)
    name = path.rpartition("/")[2]
    return is_local or name in LOCAL_FOLDERS or may_be_junk(name)


def stays_for_ever(path: str, *, encodes: bool) -> bool:
    """Whether an entry of that path may wait for ever, as `status` says: it is local, or Procore refuses its name."""
    return has_name_of_junk(path) or (not encodes and any(map(is_refused, path.split("/"))))


def may_be_made(path: str, *, is_folder: bool, has_document: bool = False) -> bool:
    """Whether a new entry may have that name, or one may be renamed to it, where names are not encoded."""
    name = path.rpartition("/")[2]
    if not is_refused(name) or any(lies_in(path)):
        return True
    if is_folder:
        return name in (*LOCAL_FOLDERS, HELD_FOLDER)
    return name in _HELD or (may_be_junk(name) and not has_document)
