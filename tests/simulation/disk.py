"""The computer's disk: where a death strikes between two writes, and what of the files a death or a power cut leaves.

kill   the kernel has what was written: all files as they are at that moment
power  only what was synced is sure: of what was written since, some may be there, and the rest may be zeros
"""

import os
import random
import re
import sqlite3
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from procorefs.staging import staged_bytes

_STAGED = re.compile(r"/staging/\d+(\.\w+)?$")
_WRITES = re.compile(r"\s*(COMMIT|INSERT|DELETE|UPDATE|REPLACE|CREATE|DROP)", re.IGNORECASE)
KERNEL_WRITES_BACK_S = 30.0
"""What was written so long ago is on disk, synced or not."""


class Disk:
    """The files below one directory, watched."""

    def __init__(self, directory: Path, now_s: Callable[[], float], on_disk: dict[str, bytes]) -> None:
        self._directory = str(directory)
        self._now_s = now_s
        self.writes = 0
        """Durable steps so far: each is a moment between two of them."""
        self.before_write: Callable[[], object] = lambda: None
        self.is_full = False
        self._looked_s = now_s()
        self._synced = on_disk
        self._unchanged: dict[tuple[str, int, int], float] = {}
        """Staged files as they were seen, and when first."""
        self._lengths: dict[str, list[tuple[float, int]]] = {}
        """Of SQLite's logs: how long they were when."""

    def has(self, path: str) -> bool:
        return path.startswith(self._directory)

    def will_write(self) -> None:
        """Something is about to be written. Raises OSError when there is no room."""
        self.writes += 1
        if self._now_s() - self._looked_s > 1.0:
            self._look_at_logs()
        self.before_write()

    def synced(self, path: str) -> None:
        """A file, or the names in a folder, are on disk."""
        if os.path.isfile(path):
            self._synced[path] = Path(path).read_bytes()

    def _look_at_logs(self) -> None:
        """Note how long SQLite's logs are now, before anything is added."""
        self._looked_s = self._now_s()
        for log in Path(self._directory).glob("state/*/*/tree.sqlite-wal"):
            self._lengths.setdefault(str(log), []).append((self._looked_s, log.stat().st_size))
        for staging in Path(self._directory).glob("state/*/*/staging"):
            for entry in os.scandir(staging):
                told = entry.stat()
                self._unchanged.setdefault((entry.path, told.st_size, told.st_mtime_ns), self._looked_s)

    def copy_to(self, target: Path, choose: random.Random | None) -> "dict[str, bytes]":
        """The files as the next run finds them; with `choose` the power was cut. Returns what of them is on disk."""
        on_disk = {str(target) + path.removeprefix(self._directory): at for path, at in self._synced.items()}
        for above, _, names in os.walk(self._directory):
            copied = target / os.path.relpath(above, self._directory)
            copied.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in names:
                if name.endswith(("-shm", ".sock")):
                    continue
                path = f"{above}/{name}"
                content: bytes | None = Path(path).read_bytes()
                if choose is not None:
                    content = self._after_power_cut(path, content or b"", choose)
                if content is not None:
                    (copied / name).write_bytes(content)
                    (copied / name).chmod(0o600)
                    if choose is not None:
                        on_disk[str(copied / name)] = content
        return on_disk

    def _after_power_cut(self, path: str, content: bytes, choose: random.Random) -> bytes | None:
        """What is there of a file; None: it has no name yet."""
        synced = self._synced.get(path)
        if path.endswith(("-rows0", "-rows1")):
            return content[: choose.randint(0, len(content))]
        if path.endswith("journal.sqlite-wal"):
            at_least = len(synced) if synced is not None and content.startswith(synced[:32]) else 0
            return content[: choose.randint(min(at_least, len(content)), len(content))]
        if path.endswith("tree.sqlite-wal"):
            return content[: choose.randint(self._length_before(path, len(content)), len(content))]
        if _STAGED.search(path) and not self._is_written_back(path):
            return _staged_after_power_cut(content, synced, choose)
        return content

    def _is_written_back(self, path: str) -> bool:
        told = Path(path).stat()
        seen_s = self._unchanged.get((path, told.st_size, told.st_mtime_ns))
        return seen_s is not None and self._now_s() - seen_s > KERNEL_WRITES_BACK_S

    def _length_before(self, path: str, length: int) -> int:
        """How long a log was when the kernel last wrote back what it had; shorter means that it began anew."""
        old_s = self._now_s() - KERNEL_WRITES_BACK_S
        lengths = [size for at_s, size in self._lengths.get(path, []) if at_s <= old_s]
        later = [size for at_s, size in self._lengths.get(path, []) if at_s > old_s]
        lengths += later[:1]  # nothing was added between
        return min(lengths[-1], length) if lengths else 0


def _staged_after_power_cut(content: bytes, synced: bytes | None, choose: random.Random) -> bytes | None:
    if synced == content:
        return content
    fate = choose.choice(("all", "zeros", "synced", "some"))
    if fate == "synced":
        return synced
    if fate == "zeros":
        return bytes(len(content))
    if fate == "some":
        cut = choose.randint(0, len(content))
        return content[:cut] + bytes(len(content) - cut)
    return content


_disk: Disk | None = None


def begin(disk: Disk | None) -> None:
    """Watch this disk from here on."""
    global _disk
    _disk = disk


def _path_of(file: Any) -> str:
    if isinstance(file, int):
        return os.readlink(f"/proc/self/fd/{file}")
    return os.fspath(file) if not isinstance(file, bytes) else os.fsdecode(file)


def _watch(name: str, *, grows: bool) -> None:
    original = getattr(os, name)

    @wraps(original)
    def watched(file: Any, *args: Any, **kwargs: Any) -> Any:
        disk = _disk
        if disk is not None and disk.has(_path_of(file)):
            disk.will_write()
            if grows and disk.is_full:
                raise OSError(28, os.strerror(28))
        return original(file, *args, **kwargs)

    setattr(os, name, watched)


def _watch_sync(name: str) -> None:
    original = getattr(os, name)

    @wraps(original)
    def watched(file: int) -> Any:
        path, disk = _path_of(file), _disk
        if disk is not None and disk.has(path):
            disk.will_write()
            disk.synced(path)
        return None  # memory has nothing to be synced

    setattr(os, name, watched)


def _sync_filesystem(descriptor: int) -> None:
    folder, disk = _path_of(descriptor), _disk
    if disk is not None and disk.has(folder):
        disk.will_write()
        for entry in os.scandir(folder):
            disk.synced(entry.path)


class _Connection(sqlite3.Connection):
    """Tells before each statement that commits something."""

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if (
            _disk is not None
            and _WRITES.match(sql)
            and (sql[:6].upper() == "COMMIT" or not self.in_transaction)
        ):
            self._will_write()
        return super().execute(sql, *args)

    def _will_write(self) -> None:
        disk = _disk
        if disk is not None and disk.has(self.file):
            disk.will_write()
            if disk.is_full:
                raise sqlite3.OperationalError("database or disk is full")

    file = ""


_connect = sqlite3.connect


def _watched_connect(database: Any, *args: Any, **kwargs: Any) -> sqlite3.Connection:
    kwargs.setdefault("factory", _Connection)
    connection: sqlite3.Connection = _connect(database, *args, **kwargs)
    if isinstance(connection, _Connection):
        connection.file = str(database)
    return connection


def _install() -> None:
    for name in ("write", "pwrite"):
        _watch(name, grows=True)
    for name in ("ftruncate", "unlink", "remove", "rename", "replace"):
        _watch(name, grows=False)
    for name in ("fsync", "fdatasync"):
        _watch_sync(name)
    staged_bytes.sync_filesystem = _sync_filesystem
    sqlite3.connect = _watched_connect  # type: ignore[assignment]


_install()
