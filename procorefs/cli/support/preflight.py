"""Checks a local tree before it is copied into a project: what Procore would refuse, and what the rest costs.

It reads names and sizes, and the first bytes of files whose names may be junk; it sends nothing.
"""

import os
import stat
from collections import Counter

import msgspec

from procorefs.tree.naming import junk_names
from procorefs.tree.naming.name_fate import Fate, own_fate
from procorefs.tree.naming.name_rules import (
    Refusal,
    entry_refusal,
    name_refusal,
    path_refusal,
    split_extension,
)
from procorefs.tree.nodes import OWN_ENTRY

WHOLE_BYTES = 32 << 20
"""Larger files are uploaded in segments, which takes one more call."""

CALLS_A_FILE, CALLS_A_SEGMENTED_FILE, CALLS_A_FOLDER = 2, 3, 1


class RefusedName(msgspec.Struct, frozen=True):
    """An entry that could not be copied into the project."""

    path: str
    reason: str
    rule: str = ""
    """The rule of names that it breaks; empty: the reason is not the name."""
    character: str = ""


class Preflight(msgspec.Struct):
    """The result; counts and bytes are of files that would be uploaded."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    junk: int = 0
    """Files that are never sent: private files of programs, and all files in their folders."""
    held: int = 0
    """Files with temporary names that Procore refuses: they stay here until they are renamed."""
    api_calls: int = 0
    longest_path: str = ""
    """The longest path that would be uploaded, from the project's root."""
    types: Counter[str] = msgspec.field(default_factory=Counter)
    """The number of files for each extension, with its dot, in lower case."""
    refused: list[RefusedName] = []

    def hours(self, calls_an_hour: int) -> float:
        """How long the calls take at that hourly limit; the bytes may take longer."""
        return self.api_calls / calls_an_hour


def preflight(root: str, into: str = "") -> Preflight:
    """Check everything below `root`, as if it were copied into the folder `into` of the project.

    Entries below a refused folder are checked too, because their names also have to be changed. Raises OSError if
    `root` cannot be read.
    """
    found = Preflight()
    pending = [(os.fsencode(root), into.strip("/"), Fate.SENT)]
    first = True
    while pending:
        local, target, above = pending.pop()
        try:
            with os.scandir(local) as entries:
                for entry in entries:
                    path = f"{target}/{_text(entry.name)}" if target else _text(entry.name)
                    fate = max(above, _fate_of(entry))
                    if _check_entry(entry, path, fate, found):
                        pending.append((entry.path, path, fate))
        except OSError as error:
            if first:
                raise
            found.refused.append(RefusedName(_shown(local), f"it cannot be read ({error.strerror})"))
        first = False
    return found


def _fate_of(entry: "os.DirEntry[bytes]") -> Fate:
    name, is_folder = _text(entry.name), entry.is_dir(follow_symlinks=False)
    is_junk = not is_folder and junk_names.may_be_junk(name) and _is_junk(entry, name)
    return own_fate(name, is_folder=is_folder, is_junk=is_junk)


def _is_junk(entry: "os.DirEntry[bytes]", name: str) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return False
    try:
        with open(entry.path, "rb") as file:  # noqa: PTH123 - a name of bytes
            return junk_names.is_junk(name, file.read(junk_names.HEAD_BYTES), os.fstat(file.fileno()).st_size)
    except OSError:
        return False


def _check_entry(entry: "os.DirEntry[bytes]", path: str, fate: Fate, found: Preflight) -> bool:
    """Count one entry; returns whether it is a folder."""
    is_folder = entry.is_dir(follow_symlinks=False)
    refusal = name_refusal(entry.name) or path_refusal(len(path))
    stays = fate is Fate.LOCAL or (fate is Fate.HELD and refusal is not None)
    if stays:
        refusal = entry_refusal(entry.name)
    if not is_folder and not entry.is_file(follow_symlinks=False):
        found.refused.append(RefusedName(_shown(entry.path), _no_such_kind(entry)))
    elif path == OWN_ENTRY.decode():
        found.refused.append(
            RefusedName(_shown(entry.path), "a mount has its own entry of that name in its root")
        )
    elif refusal is not None:
        found.refused.append(_refused(entry.path, refusal))
    elif stays:
        found.junk += fate is Fate.LOCAL and not is_folder
        found.held += fate is Fate.HELD and not is_folder
    else:
        found.longest_path = max(found.longest_path, path, key=len)
        _count(entry, is_folder, found)
    return is_folder


def _count(entry: "os.DirEntry[bytes]", is_folder: bool, found: Preflight) -> None:
    if is_folder:
        found.folders += 1
        found.api_calls += CALLS_A_FOLDER
        return
    size_bytes = entry.stat(follow_symlinks=False).st_size
    found.files += 1
    found.bytes += size_bytes
    found.api_calls += CALLS_A_FILE if size_bytes <= WHOLE_BYTES else CALLS_A_SEGMENTED_FILE
    found.types[split_extension(_text(entry.name))[1].lower()] += 1


def _no_such_kind(entry: "os.DirEntry[bytes]") -> str:
    if entry.is_symlink():
        return "Procore has no symbolic links"
    mode = entry.stat(follow_symlinks=False).st_mode
    what = "sockets" if stat.S_ISSOCK(mode) else "pipes" if stat.S_ISFIFO(mode) else "devices"
    return f"Procore has no {what}"


def _refused(path: bytes, refusal: Refusal) -> RefusedName:
    return RefusedName(_shown(path), str(refusal), refusal.rule.name.lower(), refusal.character)


def _text(name: bytes) -> str:
    """The name for counting characters; a name that is not UTF-8 is refused in any case."""
    return name.decode("utf-8", "replace")


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
