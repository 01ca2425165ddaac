"""Appends rows of changes to a file before they are in the journal's database, which costs far less than a commit.

    append ─▶ the active file ─▶ (moved to the database) ─▶ taken_over ─▶ turn ─▶ (synced) ─▶ clear

The files protect against kill -9: what the kernel has accepted outlives the daemon. For a power cut the database is
synced, with all rows that were appended before. Rows and transactions are numbered as entries of one sequence, and
the database stores the number of its last entry. A power cut may leave an older database and newer files, or the
reverse. A row counts only if all entries before it exist, so the state that is found existed at some moment. There
are two files: one whose rows were moved is emptied only when the database is on disk.
"""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from zlib import crc32

from procorefs.storage.blocking_work import loop_waits
from procorefs.tree.nodes import Inode

SUFFIXES = ("-rows0", "-rows1")
"""Of the two files, beside the database."""

CHECKED = struct.Struct("<QQ")  # number of the entry, and inode
HEADER = struct.Struct("<II")  # length and CRC-32 of what follows


class RowLog:
    """The two files. Synchronous, on the loop's thread. Raises OSError."""

    def __init__(self, database: Path) -> None:
        self._files = [
            os.open(f"{database}{suffix}", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            for suffix in SUFFIXES
        ]
        self._active = 0
        self._is_left = False  # the other file waits for a successful sync
        self.position = 0
        """The number of the last entry in the files or the database."""
        self.rows: dict[Inode, bytes] = {}
        """The newest row of each inode that the database lacks."""

    def begin(self, position: int, *, is_new: bool, is_numbered: bool = True) -> None:
        """Read the rows of an earlier run after `position`, the last entry of the database. A new database lacks
        nothing.

        `is_numbered` False: both were written by an earlier version, which numbered the database's transactions and
        gave each row the number of the next one.
        """
        self.position = position
        if is_new:
            return
        records = [record for file in self._files for record in _records(_whole(file))]
        records.sort(key=lambda record: record[0])
        for number, inode, body in records:
            if number >= position if not is_numbered else number == self.position + 1:
                self.rows[inode] = body
                self.position = number
        # A file that should be empty may come back after a power cut: its numbers are never given again.
        self.position = max([self.position, *(number for number, _, _ in records)])

    def append(self, inode: Inode, body: bytes) -> None:
        """Append a row, which survives the daemon when this returns. After an error nothing of it remains."""
        checked = CHECKED.pack(self.position + 1, inode) + body
        record = HEADER.pack(len(checked), crc32(checked)) + checked
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
            if error is None or error.errno == errno.ENOSPC:
                raise OSError(errno.ENOSPC, "there is no room on the disk for the journal") from error
            raise error
        self.rows[inode] = body
        self.position += 1

    def taken_over(self, position: int) -> None:
        """Note that the database has all rows and all entries up to that position."""
        self.rows.clear()
        self.position = position

    def turn(self) -> int | None:
        """Switch to the other file if it is empty, after the rows were taken over.

        Returns the file to clear when the database with all of its rows is on disk.
        """
        spent, other = self._files[self._active], 1 - self._active
        if os.fstat(self._files[other]).st_size:
            is_left, self._is_left = self._is_left, False
            return self._files[other] if is_left else None
        self._active = other
        return spent

    def not_cleared(self) -> None:
        """Note a failed sync: the next successful one clears the file of that `turn`."""
        self._is_left = True

    def clear_all(self) -> None:
        """Empty both files; the database with all rows is on disk."""
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
    """Empty a file that `turn` returned. May run in a thread."""
    os.ftruncate(file, 0)


def _whole(file: int) -> bytes:
    with open(file, "rb", closefd=False) as content:
        content.seek(0)
        return content.read()


def _records(content: bytes) -> Iterator[tuple[int, Inode, bytes]]:
    """Number, inode and body of each row up to the first damaged one: a power cut leaves zeros and partial rows."""
    at = 0
    while at + HEADER.size + CHECKED.size <= len(content):
        length, checksum = HEADER.unpack_from(content, at)
        at += HEADER.size
        checked = content[at : at + length]
        if length < CHECKED.size or len(checked) < length or crc32(checked) != checksum:
            return
        number, inode = CHECKED.unpack_from(checked)
        yield number, Inode(inode), checked[CHECKED.size :]
        at += length
