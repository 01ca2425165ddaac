"""Reading ahead over files: which rows are noticed, what is downloaded for them, and what is not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from procorefs.cache.reader import ContentReader
from procorefs.cache.sibling_read_ahead import (
    LARGEST_BYTES,
    MOST_FILES_AHEAD,
    Order,
    Position,
    SiblingReadAhead,
)
from procorefs.procore.errors import Unavailable
from procorefs.procore.wire.models import Version
from tests.support.content_source import MemorySource, running, version

SIZE = 3000


class Folders:
    """A tree of files: {folder: [(inode, name, size)]}; a version's id is its inode."""

    def __init__(self, folders: dict[int, list[tuple[int, bytes, int]]]) -> None:
        self.folders = folders

    def following(self, at: Position, order: Order, limit: int) -> list[tuple[Position, Version]]:
        def key(file: tuple[int, bytes, int]) -> int | bytes:
            return file[0] if order is Order.LISTED else file[1]

        place: int | bytes = at.inode if order is Order.LISTED else at.name
        files = sorted(self.folders[at.folder], key=key)
        after = [file for file in files if key(file) > place]  # type: ignore[operator]
        return [(Position(at.folder, i, name), version(i, size)) for i, name, size in after[:limit]]


class Program:
    """Opens files and reads them."""

    def __init__(self, content: ContentReader, ahead: SiblingReadAhead, folders: Folders) -> None:
        self.content = content
        self.ahead = ahead
        self._files = {i: (f, n, s) for f, files in folders.folders.items() for i, n, s in files}

    async def read(self, inode: int, *, whole: bool = True) -> None:
        folder, name, size = self._files[inode]
        reader = self.content.open(version(inode, size))
        self.ahead.opened(Position(folder, inode, name), reader)
        if size:
            await reader.read(0, size if whole else 1)
        reader.close()
        with trio.fail_after(5):  # the workers' turn
            await trio.testing.wait_all_tasks_blocked(0.01)


@asynccontextmanager
async def reading(tmp_path: Path, folders: Folders) -> AsyncIterator[tuple[Program, MemorySource]]:
    source = MemorySource()
    async with running(tmp_path, source) as (content, _), trio.open_nursery() as nursery:
        ahead = SiblingReadAhead(content, folders.following)
        await nursery.start(ahead.run)
        yield Program(content, ahead, folders), source
        nursery.cancel_scope.cancel()


def downloaded(source: MemorySource) -> set[int]:
    return {version_id for version_id, _, _ in source.requests}


def one_folder(count: int, size: int = SIZE) -> Folders:
    return Folders({1: [(i, b"%03d" % i, size) for i in range(10, 10 + count)]})


async def test_two_files_in_a_row_are_no_row_yet_and_three_are(tmp_path: Path) -> None:
    async with reading(tmp_path, one_folder(40)) as (program, source):
        await program.read(10)
        await program.read(11)
        assert downloaded(source) == {10, 11}
        await program.read(12)
        assert downloaded(source) == set(range(10, 17))
        await program.read(13)
        assert downloaded(source) == set(range(10, 22))


async def test_it_never_runs_further_ahead_than_the_limit_and_downloads_nothing_twice(tmp_path: Path) -> None:
    async with reading(tmp_path, one_folder(60)) as (program, source):
        for inode in range(10, 40):
            await program.read(inode)
            assert max(downloaded(source)) <= inode + MOST_FILES_AHEAD
        assert len(source.requests) == len(downloaded(source))


@pytest.mark.parametrize("step", [1, -1])
async def test_both_orders_are_noticed(tmp_path: Path, step: int) -> None:
    """Names that run against the inodes: whoever goes by name goes by falling inodes."""
    folders = Folders({1: [(i, b"%03d" % (100 - step * i), SIZE) for i in range(10, 50)]})
    async with reading(tmp_path, folders) as (program, source):
        order = range(10, 50) if step == -1 else range(49, 9, -1)
        for inode in list(order)[:4]:
            await program.read(inode)
        assert len(downloaded(source)) > 4
        assert downloaded(source) == set(list(order)[: len(downloaded(source))])


async def test_heads_that_are_read_in_a_row_bring_the_next_heads_along(tmp_path: Path) -> None:
    async with reading(tmp_path, one_folder(40, size=600_000)) as (program, source):
        for inode in range(10, 13):
            await program.read(inode, whole=False)
        assert downloaded(source) == set(range(10, 17))
        for inode in range(13, 20):
            await program.read(inode, whole=False)
        assert len(source.requests) == len(downloaded(source))
        assert source.delivered_bytes == 65536 * len(source.requests)


async def test_small_files_among_heads_are_read_ahead_and_large_ones_are_not(tmp_path: Path) -> None:
    folders = Folders({1: [(i, b"%03d" % i, 600_000 if i % 3 else SIZE) for i in range(10, 40)]})
    async with reading(tmp_path, folders) as (program, source):
        for inode in range(10, 20):
            await program.read(inode, whole=False)
        assert len(downloaded(source)) > 10
        assert max(end for _, _, end in source.requests) == 65536


async def test_who_reads_large_files_whole_after_heads_gets_whole_files(tmp_path: Path) -> None:
    async with reading(tmp_path, one_folder(40, size=600_000)) as (program, source):
        for inode in range(10, 13):
            await program.read(inode, whole=False)
        for inode in range(13, 25):
            await program.read(inode)
        assert any(inode >= 25 and end == 600_000 for inode, _, end in source.requests)


async def test_files_that_are_picked_make_no_row(tmp_path: Path) -> None:
    for whole in (True, False):
        async with reading(tmp_path / str(whole), one_folder(40, size=600_000)) as (program, source):
            for inode in range(10, 40, 3):
                await program.read(inode, whole=whole)
            assert downloaded(source) == set(range(10, 40, 3))


async def test_a_row_goes_on_in_the_next_folder(tmp_path: Path) -> None:
    folders = Folders(
        {f: [(100 * f + i, b"%03d" % i, SIZE) for i in range(5)] for f in (1, 2, 3)}
        | {9: [(900, b"a", SIZE), (901, b"b", SIZE), (902, b"c", SIZE)]}
    )
    async with reading(tmp_path, folders) as (program, source):
        for inode in range(100, 105):
            await program.read(inode)
        await program.read(200)
        assert downloaded(source) == set(range(100, 105)) | set(range(200, 205))
        await program.read(901)  # not the first one: somebody else, who looks for something
        assert 902 not in downloaded(source)


async def test_large_files_are_left_to_their_readers(tmp_path: Path) -> None:
    folders = Folders({1: [(i, b"%03d" % i, SIZE if i != 13 else LARGEST_BYTES + 1) for i in range(10, 20)]})
    async with reading(tmp_path, folders) as (program, source):
        for inode in (10, 11, 12):
            await program.read(inode)
        assert 13 not in downloaded(source)
        assert 14 in downloaded(source)


async def test_a_download_that_fails_ahead_is_nobodys_error(tmp_path: Path) -> None:
    async with reading(tmp_path, one_folder(20)) as (program, source):
        await program.read(10)
        await program.read(11)
        source.failures[0] = Unavailable("no network")
        with pytest.raises(Unavailable):
            await program.read(12)
        source.failures.clear()
        await program.read(12)
        await program.read(13)
        source.failures[0] = Unavailable("no network")
        await program.read(14)
        assert 15 in downloaded(source) or 16 in downloaded(source)
        for inode in range(15, 20):
            await program.read(inode)
        assert downloaded(source) >= set(range(10, 20))
