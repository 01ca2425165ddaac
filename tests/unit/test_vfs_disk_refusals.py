"""A disk that refuses a row, a file or a descriptor takes no bytes along and leaves nothing open."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from procorefs.journal.row_log import RowLog
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import DocumentId
from procorefs.staging.staging_area import StagedFile
from procorefs.tree.nodes import ROOT, Inode, Kept
from tests.support.connections import full_disk
from tests.support.offline_project import JOURNAL, offline_project
from tests.support.tree_documents import file


@pytest.mark.parametrize("is_read", [False, True])
async def test_a_change_that_the_disk_refused_takes_no_bytes_along(tmp_path: Path, is_read: bool) -> None:
    """It has not happened: the bytes that it would have made superfluous are still wanted."""
    with offline_project(tmp_path) as project:
        inodes = {name: project.put(name, name.encode()) for name in ("one.dwg", "other.dwg")}
        if is_read:
            for inode in inodes.values():
                project.dirty_file(inode)
                project.dirty_files.enter(inode, writes=False)
        changes = {inode: project.change(inode) for inode in inodes.values()}
        with full_disk(tmp_path / JOURNAL):
            with pytest.raises(sqlite3.OperationalError):
                project.edits.entries.unlink(ROOT, b"one.dwg")
            with pytest.raises(sqlite3.OperationalError):
                project.edits.entries.rename(ROOT, b"one.dwg", ROOT, b"other.dwg")
        if is_read:
            for inode in inodes.values():
                project.dirty_files.leave(inode, writes=False)
                project.edits.sessions.left(inode)
        for file in project.staging.take_discarded():
            file.delete()
        for name, inode in inodes.items():
            dirty_file = project.dirty_files.find(inode, project.change(inode).staged)
            assert dirty_file is not None
            assert bytes(await dirty_file.file.read(0, 10)) == name.encode()
            assert project.child(ROOT, name.encode()).inode == inode
            assert project.change(inode) is changes[inode], "a call may be under way for it"
    with offline_project(tmp_path) as project:
        assert {project.change(inode).state for inode in inodes.values()} == {ChangeState.PENDING}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("is_departed", [False, True])
async def test_a_file_that_the_disk_refused_to_make_leaves_nothing(tmp_path: Path, is_departed: bool) -> None:
    """A descriptor each would be left until none is to be had any more."""
    with offline_project(tmp_path) as project:
        if is_departed:
            project.list_root(file(7, "new.dwg"))
            project.edits.entries.unlink(ROOT, b"new.dwg")
        before = descriptors()
        with pytest.MonkeyPatch.context() as full, full_disk(tmp_path / JOURNAL):
            full.setattr(RowLog, "append", refuse_row)
            for _ in range(5):
                with pytest.raises((OSError, sqlite3.OperationalError)):
                    project.edits.entries.create(ROOT, b"new.dwg", Kept())
        assert descriptors() <= before + 1, "but for a thread that makes spare files"
        assert project.view.child(ROOT, b"new.dwg") is None
        assert not project.dirty_files.written


def refuse_row(_log: RowLog, _inode: Inode, _body: bytes) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("writes", [False, True])
async def test_who_gets_no_descriptor_is_not_inside(tmp_path: Path, writes: bool) -> None:
    """The file would count as being written for ever, and never go."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        for file_of in (project.edits.sessions.open_for_writing, None):
            if file_of is not None:
                project.dirty_file(inode)
            else:
                project.dirty_files.find(inode, project.change(inode).staged)
            with pytest.MonkeyPatch.context() as full:
                full.setattr(StagedFile, "hold", refuse_descriptor)
                with pytest.raises(OSError, match="Too many"):
                    project.dirty_files.enter(inode, writes=writes)
            assert not project.dirty_files.is_open(inode)
            assert not project.dirty_files.is_written(inode)
            assert not project.dirty_files.has(inode), "it is parked, as before"
        assert bytes(await project.dirty_file(inode).file.read(0, 10)) == b"the plan"


def refuse_descriptor(_file: StagedFile) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_bytes_that_could_not_be_noted_when_they_were_closed_are_noted_later(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.create("plan.dwg", b"the plan")
        with pytest.MonkeyPatch.context() as full:
            full.setattr(RowLog, "append", refuse_row)
            with pytest.raises(OSError, match="No space"):
                project.edits.sessions.flushed(inode)
            project.dirty_files.leave(inode, writes=True)
            with pytest.raises(OSError, match="No space"):
                project.edits.sessions.flushed(inode)
            project.edits.sessions.released(inode)
            project.edits.sessions.left(inode)
            assert project.edits.sessions.is_unflushed(inode)
            with pytest.raises(OSError, match="No space"):
                project.edits.sessions.flushed_late(inode)
        project.edits.sessions.flushed_late(inode)
        assert not project.edits.sessions.is_unflushed(inode)
        assert not project.dirty_files.has(inode)
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.PENDING
        assert bytes(await project.dirty_file(inode).file.read(0, 10)) == b"the plan"


async def test_fetched_bytes_whose_row_the_disk_refused_are_still_to_be_fetched(tmp_path: Path) -> None:
    """Else whoever has them could go, and the journal would name bytes that are nowhere."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"), file(8, "new.dwg"))
        project.edits.entries.rename(ROOT, b"old.dwg", ROOT, b"new.dwg")
        inode = project.child(ROOT, b"new.dwg").inode
        change = project.change(inode)
        fetched = project.staging.create(change.pending_copy)
        with pytest.MonkeyPatch.context() as full:
            full.setattr(RowLog, "append", refuse_row)
            with pytest.raises(OSError, match="No space"):
                project.edits.sessions.take_fetched(change, fetched)
        assert change.staged is None
        assert project.view.pending_copy_of(DocumentId(7)) == inode
        assert fetched not in project.dirty_files.parked
        project.edits.sessions.take_fetched(change, fetched)
        assert change.pending_copy is None


async def test_after_a_moment_that_the_disk_refused_all_that_differs_is_looked_at(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inodes = [project.put(name, b"bytes") for name in ("one.dwg", "two.dwg")]
        before = project.change(inodes[0])
        before.give_reason("only in memory")
        project.base.queue.take_fresh(100)
        with full_disk(tmp_path / JOURNAL), pytest.raises(sqlite3.OperationalError):
            project.edits.entries.unlink(ROOT, b"two.dwg")
        assert not project.change(inodes[0]).reason
        assert project.base.queue.fresh >= set(inodes)
