"""What programs must see: a filesystem of names and bytes, as POSIX has it."""

import errno
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from tests.simulation.attributes import KEYS, Value, check_settable, value_of
from tests.simulation.kernel import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.simulation.names import LOCAL_FOLDERS, lies_in, may_be_made


@dataclass(eq=False)
class File:
    """A file, with or without a name."""

    content: bytearray = field(default_factory=bytearray)
    closed: bytes | None = None
    """What it had at the last close, flush or truncation by its name: what was promised. None: it was never closed."""

    snapshots: list[bytes] = field(default_factory=list)
    """What it had since then while it was quiet for so long that it may have been sent, although it is open."""

    mtime_ns: tuple[int, int] | None = None
    """Between which two moments it was changed last; None: nobody can tell."""
    attributes: dict[str, Value] = field(default_factory=dict)
    """By key (attributes.py), those that are known; an empty one is known to be none."""

    def close(self) -> None:
        """What it has is promised."""
        self.closed = bytes(self.content)
        self.snapshots.clear()

    @property
    def promised(self) -> list[bytes]:
        """What a death may leave of it, if not what it has now."""
        return [*([self.closed] if self.closed is not None else []), *self.snapshots]

    @property
    def is_dirty(self) -> bool:
        return self.closed is None or self.closed != self.content


@dataclass(eq=False)
class Folder:
    """A folder."""

    children: "dict[str, File | Folder]" = field(default_factory=dict)
    attributes: dict[str, Value] = field(default_factory=dict)
    """As those of a file."""


Entry = File | Folder


@dataclass(eq=False)
class Opened:
    """A file descriptor."""

    file: File
    reads: bool
    writes: bool
    appends: bool
    lock: str = ""
    """How it has locked the file: shared, exclusive, or not at all."""


class Model:
    """Raises OSError as system calls do."""

    def __init__(self, root: Folder | None = None) -> None:
        self.root = root if root is not None else Folder()
        self.encodes = False
        """Whether names that Procore refuses are encoded."""
        self.may_describe = True
        """Whether the account may set descriptions."""
        self.during_ns = (0, 0)
        """The begin and the end of the operation under way."""

    def all(self) -> Iterator[tuple[str, Entry]]:
        """Every entry with its path."""
        yield from _below(self.root, "")

    def has(self, path: str, content: bytes | None) -> None:
        """Procore had it before the first mount."""
        folder, name = self._folder(path)
        folder.children[name] = Folder() if content is None else File(bytearray(content), content)

    def find(self, path: str) -> Entry:
        if not path:
            return self.root
        folder, name = self._folder(path)
        found = folder.children.get(name)
        if found is None:
            raise _error(errno.ENOENT)
        return found

    def _folder(self, path: str) -> tuple[Folder, str]:
        *above, last = path.split("/")
        folder: Entry = self.root
        for name in above:
            assert isinstance(folder, Folder)
            below = folder.children.get(name)
            if below is None:
                raise _error(errno.ENOENT)
            if isinstance(below, File):
                raise _error(errno.ENOTDIR)
            folder = below
        assert isinstance(folder, Folder)
        return folder, last

    def open(self, path: str, flags: int) -> Opened:
        folder, name = self._folder(path)
        found = folder.children.get(name)
        if found is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT)
            self._check_name(path, is_folder=False)
            found = folder.children[name] = File(mtime_ns=self.during_ns, attributes={"foreign": ""})
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise _error(errno.EEXIST)
        if isinstance(found, Folder):
            raise _error(errno.EISDIR)
        if flags & os.O_TRUNC:
            found.content.clear()
            found.mtime_ns = self.during_ns
        access = flags & os.O_ACCMODE
        return Opened(found, access != os.O_WRONLY, access != os.O_RDONLY, bool(flags & os.O_APPEND))

    def write(self, opened: Opened, offset: int, data: bytes) -> int:
        if not opened.writes:
            raise _error(errno.EBADF)
        content = opened.file.content
        if opened.appends:
            offset = len(content)
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        opened.file.mtime_ns = self.during_ns
        return len(data)

    def flush(self, opened: Opened) -> None:
        """Also close: what was written is promised from here on."""
        if opened.writes:
            opened.file.close()

    def fsync(self, opened: Opened) -> None:
        """Whoever wrote it: a descriptor for reading promises what the file has as well."""
        opened.file.close()

    def read(self, opened: Opened, offset: int, size: int) -> bytes:
        if not opened.reads:
            raise _error(errno.EBADF)
        return bytes(opened.file.content[offset : offset + size])

    def ftruncate(self, opened: Opened, size: int) -> None:
        if not opened.writes:
            raise _error(errno.EINVAL)
        self._resize(opened.file, size)

    def truncate(self, path: str, size: int, *, is_written: bool) -> None:
        """`is_written`: somebody has it open for writing, and promises what it has by closing it."""
        found = self.find(path)
        if isinstance(found, Folder):
            raise _error(errno.EISDIR)
        self._resize(found, size)
        if not is_written:
            found.close()

    def _resize(self, file: File, size: int) -> None:
        """Whether a file of that size already is changed is for each filesystem to say."""
        file.mtime_ns = self.during_ns if size != len(file.content) else None
        if size < len(file.content):
            del file.content[size:]
        else:
            file.content.extend(bytes(size - len(file.content)))

    def utime(self, path: str, mtime_ns: int) -> None:
        found = self.find(path)
        if isinstance(found, File):
            found.mtime_ns = (mtime_ns, mtime_ns)

    def forget_times(self) -> None:
        """Nobody can tell any more when what was changed."""
        for _, entry in self.all():
            if isinstance(entry, File):
                entry.mtime_ns = None

    def flock(self, opened: Opened, lock: str, all_opened: Iterable[Opened]) -> None:
        """Lock, or unlock with an empty `lock`. What is not free is EAGAIN, and the old lock is lost then."""
        opened.lock = ""
        others = {one.lock for one in all_opened if one.file is opened.file} - {""}
        if lock and "exclusive" in others | ({lock} if others else set()):
            raise _error(errno.EAGAIN)
        opened.lock = lock

    def describe(self, path: str, text: str) -> None:
        """Procore describes files alone."""
        found = self.find(path)
        if isinstance(found, Folder):
            raise _error(errno.ENOTSUP)
        if not self.may_describe:
            raise _error(errno.EACCES)
        found.attributes["description"] = text

    def setxattr(self, path: str, name: str, text: str) -> None:
        found = self.find(path)
        check_settable(name, is_folder=isinstance(found, Folder))
        found.attributes[KEYS[name]] = value_of(name, text)

    def removexattr(self, path: str, name: str) -> bool:
        """False: there may be none."""
        found = self.find(path)
        check_settable(name, is_folder=isinstance(found, Folder), removes=True)
        before = found.attributes.get(KEYS[name])
        found.attributes[KEYS[name]] = frozenset() if KEYS[name] == "tags" else ""
        return bool(before)

    def getxattr(self, path: str, name: str) -> Value | None:
        """None: nobody can tell."""
        found = self.find(path)
        if KEYS[name] == "description" and isinstance(found, Folder):
            raise _error(errno.ENOTSUP)
        value = found.attributes.get(KEYS[name])
        if value is not None and not value:
            raise _error(errno.ENODATA)
        return value

    def listing(self, path: str) -> set[str]:
        found = self.find(path)
        if isinstance(found, File):
            raise _error(errno.ENOTDIR)
        return set(found.children)

    def mkdir(self, path: str) -> None:
        folder, name = self._folder(path)
        if name in folder.children:
            raise _error(errno.EEXIST)
        self._check_name(path, is_folder=True)
        folder.children[name] = Folder(attributes={"foreign": ""})

    def unlink(self, path: str) -> None:
        folder, name = self._folder(path)
        found = folder.children.get(name)
        if found is None:
            raise _error(errno.ENOENT)
        if isinstance(found, Folder):
            raise _error(errno.EISDIR)
        del folder.children[name]

    def rmdir(self, path: str) -> None:
        folder, name = self._folder(path)
        found = folder.children.get(name)
        if found is None:
            raise _error(errno.ENOENT)
        if isinstance(found, File):
            raise _error(errno.ENOTDIR)
        if found.children:
            raise _error(errno.ENOTEMPTY)
        del folder.children[name]

    def _check_name(self, path: str, *, is_folder: bool, has_document: bool = False) -> None:
        if not self.encodes and not may_be_made(path, is_folder=is_folder, has_document=has_document):
            raise _error(errno.EINVAL)

    def _check_place(self, entry: Entry, path: str, has_document: bool) -> None:
        """Whether an entry may be renamed to a path; what is in Procore can't move where nothing is sent from."""
        is_folder = isinstance(entry, Folder)
        self._check_name(path, is_folder=is_folder, has_document=has_document)
        is_local = lies_in(path)[0] or (is_folder and path.rpartition("/")[2] in LOCAL_FOLDERS)
        if is_local and has_document:
            raise _error(errno.EACCES)

    def rename(self, path: str, to: str, flags: int = 0, documents: Collection[str] = ()) -> None:
        """`documents`: those of the two paths at or below which something is in Procore."""
        old_folder, old_name = self._folder(path)
        new_folder, new_name = self._folder(to)
        old, new = old_folder.children.get(old_name), new_folder.children.get(new_name)
        if old is None:
            raise _error(errno.ENOENT)
        _check_rename(path, to, old, new, flags)
        if old is new:
            return
        if flags != RENAME_EXCHANGE and isinstance(new, Folder) and new.children:
            raise _error(errno.ENOTEMPTY)
        self._check_place(old, to, path in documents)
        if flags == RENAME_EXCHANGE and new is not None:
            self._check_place(new, path, to in documents)
        for moved in [old] if new is None else [old, new]:
            for key in moved.attributes.keys() - {"foreign"}:
                del moved.attributes[key]  # they stay with the document, and that follows the name
        if flags == RENAME_EXCHANGE and new is not None:
            old_folder.children[old_name], new_folder.children[new_name] = new, old
            return
        del old_folder.children[old_name]
        new_folder.children[new_name] = old


def _check_rename(path: str, to: str, old: Entry, new: Entry | None, flags: int) -> None:
    if flags == RENAME_NOREPLACE and new is not None:
        raise _error(errno.EEXIST)
    if flags == RENAME_EXCHANGE and new is None:
        raise _error(errno.ENOENT)
    if path != to and f"{to}/".startswith(f"{path}/"):
        raise _error(errno.EINVAL)
    if path != to and f"{path}/".startswith(f"{to}/"):
        raise _error(errno.EINVAL if flags == RENAME_EXCHANGE else errno.ENOTEMPTY)
    if new is None or flags == RENAME_EXCHANGE or old is new:
        return
    if isinstance(old, Folder) and isinstance(new, File):
        raise _error(errno.ENOTDIR)
    if isinstance(old, File) and isinstance(new, Folder):
        raise _error(errno.EISDIR)


def _below(folder: Folder, above: str) -> Iterator[tuple[str, Entry]]:
    for name, entry in folder.children.items():
        path = f"{above}/{name}".lstrip("/")
        yield path, entry
        if isinstance(entry, Folder):
            yield from _below(entry, path)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
