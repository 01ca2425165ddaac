"""A staging area over bases in memory, whose reads a test can stop and break."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from procorefs.procore.wire.models import Version
from procorefs.staging.quota import Outlook
from procorefs.staging.staging_area import StagedFile, Staging
from tests.support.content_source import content_of, version

KIB = 1024
MIB = 1024 * KIB


class Bases:
    """Gives out readers of versions; notes every read."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []  # offset, size
        self.open_readers = 0
        self.failure: Exception | None = None  # raised by the next reads
        self.short_by = 0  # reads return so many bytes too few
        self.gate: Gate | None = None

    def open(self, one: Version) -> "BaseReader":
        self.open_readers += 1
        return BaseReader(self, one)


class Gate:
    """Stops reads until `open` is set."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self.open = trio.Event()


class BaseReader:
    def __init__(self, bases: Bases, one: Version) -> None:
        self._bases = bases
        self._version = one
        self._closed = False

    async def read(self, offset: int, size_bytes: int, /) -> bytes:
        assert not self._closed
        self._bases.reads.append((offset, size_bytes))
        await trio.lowlevel.checkpoint()
        if self._bases.gate is not None:
            self._bases.gate.reached.set()
            await self._bases.gate.open.wait()
        assert not self._closed
        if self._bases.failure is not None:
            raise self._bases.failure
        return content_of(self._version, offset, offset + size_bytes - self._bases.short_by)

    def close(self) -> None:
        assert not self._closed
        self._closed = True
        self._bases.open_readers -= 1


@contextmanager
def staging_in(
    directory: Path, bases: Bases | None = None, limit_bytes: int = 100 * MIB, outlook: Outlook = Outlook.NONE
) -> Iterator[Staging]:
    """A staging area; nobody may still read from a base when it closes."""
    bases = bases or Bases()
    staging = Staging(directory, limit_bytes, bases.open, lambda: outlook)
    try:
        yield staging
    finally:
        staging.close()
    assert bases.open_readers == 0


def left_in(staging: Staging) -> list[int]:
    """The numbers of the files that are there, but for spare ones, once what was deleted is gone."""
    staging.remover.finish()
    return sorted(set(staging.numbers()) - set(spares_of(staging)))


def spares_of(staging: Staging) -> list[int]:
    """The numbers of the files made ahead, once as many are there as wanted."""
    return staging.spare_files.wait_filled()


async def bytes_of(file: StagedFile) -> bytes:
    return bytes(await file.read(0, file.size_bytes))


def base_of(size_bytes: int, version_id: int = 7) -> Version:
    return version(version_id, size_bytes)


def need_reads_without_waiting(directory: Path) -> None:
    """Where a file system has none (tmpfs), everything is read in a thread."""
    file = os.open(directory / "probe", os.O_RDWR | os.O_CREAT)
    try:
        os.write(file, b"x")
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip("the file system does not know RWF_NOWAIT")
        raise
    finally:
        os.close(file)
