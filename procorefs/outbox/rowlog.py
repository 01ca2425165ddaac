"""Rows of changes that are not in the journal's database yet: appended to a file, which costs far less than a commit.

    append ─▶ the active file ─▶ (the database takes them over) ─▶ taken_over ─▶ turn ─▶ (it is on disk) ─▶ clear

It is there for kill -9 alone: what the kernel has been given outlives the daemon. For a power cut the database is
synced, with all rows that were appended before in it. Each record carries a generation, which grows when the database
takes the rows over and is stored there with them, so that no older row ever replaces a newer one, whatever of both is
on disk. That is why there are two files: the one with rows that were taken over is emptied when the database that has
them is on disk, and not before.
"""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from zlib import crc32

from procorefs.storage.disk_wait import loop_waits
from procorefs.tree.nodes import Inode

SUFFIXES = ("-rows0", "-rows1")
"""Of the two files, beside the database."""

_CHECKED = struct.Struct("<QQ")  # generation and inode
_HEADER = struct.Struct("<II")  # length and CRC-32 of what follows


class RowLog:
    """The two files. Synchronous, on the loop's thread. Raises OSError when the disk refuses."""

    def __init__(self, database: Path) -> None:
        self._files = [
            os.open(f"{database}{suffix}", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            for suffix in SUFFIXES
        ]
        self._active = 0
        self._is_left = False  # the other file waits for a sync that does not fail
        self.generation = 0
        """Of what is appended next."""
        self.rows: dict[Inode, bytes] = {}
        """The newest of each inode that the database does not have yet."""

    def begin(self, generation: int, *, is_new: bool) -> None:
        """Read what an earlier run left and the database of that generation lacks; a new database lacks nothing."""
        self.generation = generation
        found: list[tuple[int, Inode, bytes]] = []
        if not is_new:
            for file in self._files:
                found += (record for record in _records(_whole(file)) if record[0] >= generation)
        for record in sorted(found, key=lambda record: record[0]):
            self.rows[record[1]] = record[2]
            self.generation = record[0]

    def append(self, inode: Inode, body: bytes) -> None:
        """Note a row; it survives the daemon when this returns. One that was refused has left nothing behind."""
        checked = _CHECKED.pack(self.generation, inode) + body
        record = _HEADER.pack(len(checked), crc32(checked)) + checked
        file = self._files[self._active]
        written, error = 0, None
        loop_waits.begins(perf_counter())
        try:
            written = os.write(file, record)
        except OSError as caught:
            error = caught
        finally:
            loop_waits.ends()
        if written < len(record):
            with suppress(OSError):
                os.ftruncate(file, os.fstat(file).st_size - written)
            raise error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.rows[inode] = body

    def taken_over(self) -> None:
        """The database has all rows, and the next generation's number."""
        self.rows.clear()
        self.generation += 1

    def turn(self) -> int | None:
        """Go on in the other file, if it is empty; the rows have just been taken over.

        Returns the file to be cleared when the database, with all of its rows, is on disk.
        """
        spent, other = self._files[self._active], 1 - self._active
        if os.fstat(self._files[other]).st_size:
            is_left, self._is_left = self._is_left, False
            return self._files[other] if is_left else None
        self._active = other
        return spent

    def not_cleared(self) -> None:
        """The database could not be brought to disk: the next one that is clears the file of that `turn`."""
        self._is_left = True

    def clear_all(self) -> None:
        """Empty both; the database, with all rows, is on disk."""
        for file in self._files:
            clear(file)

    @property
    def is_clear(self) -> bool:
        """Whether both files are empty."""
        return not any(os.fstat(file).st_size for file in self._files)

    def close(self) -> None:
        for file in self._files:
            os.close(file)


def clear(file: int) -> None:
    """Empty one that `turn` has returned. May run in a thread."""
    os.ftruncate(file, 0)


def _whole(file: int) -> bytes:
    with open(file, "rb", closefd=False) as content:
        content.seek(0)
        return content.read()


def _records(content: bytes) -> Iterator[tuple[int, Inode, bytes]]:
    """Generation, inode and body of each, up to the first that is not whole: a power cut leaves zeros and halves."""
    at = 0
    while at + _HEADER.size + _CHECKED.size <= len(content):
        length, checksum = _HEADER.unpack_from(content, at)
        at += _HEADER.size
        checked = content[at : at + length]
        if length < _CHECKED.size or len(checked) < length or crc32(checked) != checksum:
            return
        generation, inode = _CHECKED.unpack_from(checked)
        yield generation, Inode(inode), checked[_CHECKED.size :]
        at += length
