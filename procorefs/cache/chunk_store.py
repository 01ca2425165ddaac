"""Stores chunks in a diskcache directory: one file and one database row a chunk, for one process and one thread.

Each chunk is a file `XX/VERSION-NUMBER.val` and a row with its length and CRC-32. A row is written after its file
and deleted before it, so a row without a whole file is damage; a file without a row is a leftover that the next start
after an unclean end removes. Everything here blocks.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_BINARY

from procorefs.cache.chunk_files import write_chunk
from procorefs.cache.chunks import CHUNK_BYTES, ChunkKey, chunk_key, number_of, record, version_of
from procorefs.storage import processes

log = logging.getLogger(__name__)

_SETTLED_S = 120
"""What was stored this long before a machine went down is on disk: the kernel writes dirty pages within about half a
minute (vm.dirty_expire_centisecs)."""


Data = bytes | bytearray | memoryview


@dataclass(slots=True, frozen=True)
class NewChunk:
    """A whole chunk that is to be stored."""

    key: ChunkKey
    data: Data


class CacheInUse(Exception):
    """Another process uses this directory."""


class StoreDamaged(Exception):
    """The database cannot be used any more: `open` moves it aside and starts a new one."""


def chunk_path(key: ChunkKey) -> str:
    """Where a chunk's file lies in the directory."""
    return f"{version_of(key) & 0xFF:02x}/{_text_of(key)}.val"


class _NamedFiles(diskcache.Disk):
    """Files whose names follow from the key, written without a copy and removed without their folder.

    diskcache's own gives each file a random name, which would have to be kept for a million chunks, takes nothing but
    `bytes` without pickling it, and tries to remove the folder with each file. Measured on one core, with the row:

        a chunk of       store, here and diskcache's      remove, here and diskcache's
        64 KiB           0.8 ms     2.9 ms                0.1 ms     2.0 ms
        4 MiB            12 ms      23 ms                 0.8 ms     5.5 ms
    """

    def store(self, value: Data, _read: bool, key: object = None) -> tuple[int, int, str, None]:
        name = chunk_path(_key_of(str(key)))
        write_chunk(Path(self._directory, name), value)
        return len(value), MODE_BINARY, name, None

    def remove(self, file_path: str) -> None:
        with contextlib.suppress(OSError):
            Path(self._directory, file_path).unlink()


class _Database(diskcache.Cache):
    """Closes its connection when it cannot be opened; diskcache leaves it open."""

    def __init__(self, directory: str, **settings: Any) -> None:  # noqa: ANN401 - diskcache's own
        try:
            super().__init__(directory, **settings)  # type: ignore[no-untyped-call]  # diskcache has no types
        except BaseException:
            self.close()  # type: ignore[no-untyped-call]  # diskcache has no types
            raise


class ChunkStore:
    """The directory of one cache. All methods belong to one thread (diskcache keeps a connection a thread)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cache: Any = None
        """Diskcache.Cache, which has no types; None: not open."""
        self._lock_fd = -1
        self._has_leftovers = False

    def open(self) -> OrderedDict[ChunkKey, int]:
        """Open or create the directory; returns the records of its chunks, oldest first.

        A damaged database is moved aside and replaced by a new one. Raises CacheInUse, OSError, sqlite3.Error.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        self._take_lock()
        clean, same_boot = self._mark_in_use()
        try:
            return self._open_database(clean, same_boot)
        except (sqlite3.DatabaseError, diskcache.Timeout) as error:
            if not _means_damage(error):
                raise
            self._move_aside(error)
            return self._open_database(clean=False, same_boot=True)

    def apply(
        self, deletes: Iterable[ChunkKey], writes: Iterable[NewChunk]
    ) -> tuple[set[ChunkKey], OSError | None]:
        """Delete, then write; returns the chunks that were written, and the first error about a single chunk.

        Raises StoreDamaged; OSError when nothing at all could be done.
        """
        stored: set[ChunkKey] = set()
        failure: OSError | None = None
        try:
            with self._cache.transact():
                for key in deletes:
                    self._delete(key)
                for chunk in writes:
                    try:
                        self._write(chunk)
                        stored.add(chunk.key)
                    except OSError as error:
                        failure = failure or error
        except (sqlite3.DatabaseError, diskcache.Timeout) as error:
            if _means_damage(error):
                raise StoreDamaged(str(error)) from error
            raise OSError(f"the cache's database cannot be written ({_words(error)})") from error
        return stored, failure

    def reopen(self, error: StoreDamaged) -> None:
        """Replace the database after damage was met in use. Raises OSError, sqlite3.Error."""
        self._close_database()
        self._move_aside(error)
        self._open_database(clean=False, same_boot=True)

    def close(self) -> None:
        """Close in order, so that the next start trusts all chunks."""
        self._close_database()
        if self._lock_fd >= 0:
            with contextlib.suppress(OSError):
                (self._directory / "in-use").unlink()
            os.close(self._lock_fd)
            self._lock_fd = -1

    def sweep(self, known: Container[ChunkKey]) -> None:
        """Remove the files of chunks that are not known, if an unclean end can have left some."""
        if not self._has_leftovers:
            return
        for path in self._directory.glob("[0-9a-f][0-9a-f]/*"):
            try:
                keep = path.suffix == ".val" and _key_of(path.stem) in known
            except ValueError:
                keep = False
            if not keep:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _take_lock(self) -> None:
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise CacheInUse(f"{self._directory} is in use by another process") from None
        self._lock_fd = descriptor

    def _mark_in_use(self) -> tuple[bool, bool]:
        """Write the mark that `close` removes; returns whether there was none, and whether it is of this boot."""
        mark = self._directory / "in-use"
        boot = processes.boot_id()
        before = mark.read_text(errors="replace").strip() if mark.exists() else None
        descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(boot)
        return before is None, before == boot

    def _open_database(self, clean: bool, same_boot: bool) -> OrderedDict[ChunkKey, int]:
        database = self._directory / "cache.db"
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would make it 0644
        self._cache = _Database(
            str(self._directory),
            timeout=5,
            disk=_NamedFiles,
            eviction_policy="none",  # chunk_cache.py evicts: diskcache's LRU policy writes at every read
            cull_limit=0,
            disk_min_file_size=0,
            sqlite_cache_size=1024,  # pages, 4 MiB
            sqlite_mmap_size=0,  # a database that becomes shorter would kill us
        )
        try:
            chunks, unusable = self._load(database, trust_all=clean or same_boot)
            if unusable:
                with self._cache.transact():
                    for text in unusable:
                        self._cache.delete(text)
        except BaseException:
            self._close_database()
            raise
        self._has_leftovers = not clean
        return chunks

    def _load(self, database: Path, trust_all: bool) -> tuple[OrderedDict[ChunkKey, int], list[str]]:
        chunks: OrderedDict[ChunkKey, int] = OrderedDict()
        unusable: list[str] = []
        with contextlib.closing(sqlite3.connect(database)) as connection:
            newest = connection.execute("SELECT max(store_time) FROM Cache").fetchone()[0] or 0.0
            trusted = float("inf") if trust_all else newest - _SETTLED_S
            rows = connection.execute("SELECT key, size, tag, store_time FROM Cache ORDER BY rowid")
            for text, length, checksum, stored_at in rows:
                try:
                    if not 0 < length <= CHUNK_BYTES or stored_at > trusted:
                        raise ValueError("not to be trusted")
                    chunks[_key_of(str(text))] = record(length, checksum & 0xFFFFFFFF)
                except (TypeError, ValueError):
                    if isinstance(text, str):
                        unusable.append(text)
        return chunks, unusable

    def _move_aside(self, error: Exception) -> None:
        aside = self._directory / "damaged"
        aside.mkdir(mode=0o700, exist_ok=True)  # one is enough: an older one is replaced
        for name in ("cache.db", "cache.db-wal", "cache.db-shm"):
            with contextlib.suppress(FileNotFoundError):
                (self._directory / name).replace(aside / name)
        log.warning(
            "The chunk cache %s was damaged (%s): its database was moved to %s and the cache starts empty.",
            self._directory,
            error,
            aside,
        )

    def _write(self, chunk: NewChunk) -> None:
        checksum = zlib.crc32(chunk.data)
        self._delete(chunk.key)  # else diskcache would remove "the old file", which has the same name
        self._cache.set(_text_of(chunk.key), chunk.data, tag=checksum)

    def _delete(self, key: ChunkKey) -> None:
        self._cache.delete(_text_of(key))

    def _close_database(self) -> None:
        if self._cache is not None:
            with contextlib.suppress(sqlite3.Error):
                self._cache.close()
            self._cache = None


def _text_of(key: ChunkKey) -> str:
    return f"{version_of(key)}-{number_of(key)}"


def _key_of(text: str) -> ChunkKey:
    """Raises ValueError when it is not what `_text_of` made."""
    version, _, number = text.rpartition("-")
    key = chunk_key(int(version), int(number))
    if _text_of(key) != text:
        raise ValueError(f"{text!r} is not a chunk's name")
    return key


def _means_damage(error: Exception) -> bool:
    """Whether the database itself is broken, and not the disk full, read-only or busy."""
    if isinstance(error, diskcache.Timeout):
        return False
    text = str(error)
    if isinstance(error, sqlite3.OperationalError):
        return "no such" in text or "has no column" in text or "malformed" in text
    return True


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
