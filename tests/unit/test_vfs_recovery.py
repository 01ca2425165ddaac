"""What a crash leaves behind, and what the next start makes of it: no staged byte goes, and no doubtful one is sent."""

import errno
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from procorefs.journal.change import Location
from procorefs.journal.journal import Journal
from procorefs.journal.states import ChangeState
from procorefs.staging.staged_bytes import Disk
from procorefs.staging.staging_area import StagedFile, StagedRecord, Staging, StagingFull
from procorefs.tree.nodes import ROOT
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.dirty_files import DirtyFiles
from tests.support.offline_project import OfflineProject, offline_project
from tests.support.tree_documents import file


async def test_what_was_closed_survives(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
    with offline_project(tmp_path) as project:
        change = project.change(inode)
        assert change.state is ChangeState.PENDING
        assert project.staged_file(inode, change.staged).size_bytes == 8
        assert list(project.staged.values()) == [b"the plan"]


async def test_what_needs_no_mending_is_not_looked_at_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand files may wait, and no program is answered before the end of the start."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        old = project.child(ROOT, b"old.dwg").inode
        async with project.syncing():
            dirty_file = project.edits.sessions.open_for_writing(old, truncates=True)
            project.dirty_files.enter(old, writes=True)
            await project.edits.sessions.write(dirty_file, 0, b"new bytes")
            project.close(old)
            new = project.put("plan.dwg", b"the plan")
            await project.durability.reached()
        late = project.put("late.dwg", b"not synced")
    with monkeypatch.context() as watched:
        for one, name in ((Staging, "adopt"), (TreeStore, "move_row"), (Journal, "put")):
            watched.setattr(one, name, None)
        with offline_project(tmp_path) as project:
            found = {inode: project.change(inode).staged for inode in (old, new, late)}
            files = {inode: project.staged_file(inode, record) for inode, record in found.items()}
            assert {inode: staged.is_on_disk for inode, staged in files.items()} == {
                old: True,
                new: True,
                late: False,
            }
            assert project.node(old).document_id == 7
    with offline_project(tmp_path) as project:
        async with project.syncing():
            await project.durability.reached()
            assert project.staged_file(late, project.change(late).staged).is_on_disk


async def test_what_was_never_closed_is_incomplete(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.create("plan.dwg", b"half a pl")
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.INCOMPLETE
        assert list(project.staged.values()) == [b"half a pl"]


@pytest.mark.parametrize("is_written", [False, True])
async def test_a_new_name_does_not_complete_what_was_cut_off(tmp_path: Path, is_written: bool) -> None:
    with offline_project(tmp_path) as project:
        inode = project.create("plan.dwg", b"half a pl")
    with offline_project(tmp_path) as project:
        if is_written:
            project.reopen(inode)
        project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"other.dwg")
        assert project.change(inode).state is ChangeState.INCOMPLETE
        assert project.change(inode).location == Location(ROOT, "other.dwg")
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.INCOMPLETE


@pytest.mark.parametrize("swaps", [False, True])
async def test_a_document_that_was_cut_off_goes_to_its_new_name_without_the_bytes(
    tmp_path: Path, swaps: bool
) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "plan.dwg"), file(8, "other.dwg"))
        node = project.child(ROOT, b"plan.dwg")
        assert node is not None
        await project.edits.sessions.write(project.reopen(node.inode), 0, b"half")
    with offline_project(tmp_path) as project:
        assert project.change(node.inode).state is ChangeState.INCOMPLETE
        if swaps:
            project.edits.entries.exchange(ROOT, b"plan.dwg", ROOT, b"other.dwg")
        else:
            project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"new.dwg")
        change = project.change(node.inode)
        assert (change.state, change.staged) == (ChangeState.PENDING, None)
        assert change.unclosed is not None
        project.edits.takeover.reached(change, change.location if change.location is not None else None)
        project.edits.changes.settle(change)
        assert project.change(node.inode).state is ChangeState.INCOMPLETE


async def test_a_close_does_not_promise_a_block_that_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slow: a thread is still writing for one descriptor when another one is closed."""
    begun, may_end = threading.Event(), threading.Event()
    write_all = Disk.write

    def write_slowly(disk: Disk, descriptor: int, offset: int, data: bytes) -> tuple[int, OSError | None]:
        begun.set()
        assert may_end.wait(10)
        return write_all(disk, descriptor, offset, data)

    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"one state")
        dirty_file = project.reopen(inode)
        project.dirty_files.enter(inode, writes=True)
        project.staging.disk.is_slow_for(math.inf)
        monkeypatch.setattr(Disk, "write", write_slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(project.edits.sessions.write, dirty_file, 4, b"other")
            await trio.to_thread.run_sync(begun.wait, 10)
            project.edits.sessions.flushed(inode)
            assert project.change(inode).state is ChangeState.OPEN
            nursery.start_soon(project.edits.sessions.flush, inode)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert project.change(inode).state is ChangeState.OPEN
            may_end.set()
        assert project.change(inode).state is ChangeState.PENDING
        assert list(project.staged.values()) == [b"one other"]


async def test_what_was_closed_and_is_being_added_to(tmp_path: Path) -> None:
    """What was closed is there as it was; what came behind it was never closed, and is kept beside it."""
    with offline_project(tmp_path) as project:
        inode = project.put("log.txt", b"first line\n")
        await project.edits.sessions.write(project.reopen(inode), 11, b"sec")
    for _ in range(2):
        with offline_project(tmp_path) as project:
            change = project.change(inode)
            assert change.state is ChangeState.PENDING
            assert change.staged is not None
            assert project.staged[str(change.staged.number)] == b"first line\n"
            assert project.staged_file(inode, change.shown).size_bytes == 14
            assert sorted(project.staged.values()) == [b"first line\n", b"first line\nsec"]
            assert project.staging.used_bytes == 11 + 14


async def test_what_was_added_is_not_cut_off_when_there_is_no_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file stays as it is until there is: nothing is sent, and nobody writes to it, before that."""
    with offline_project(tmp_path) as project:
        inode = project.put("log.txt", b"closed")
        project.reopen(inode)
        project.write(inode, 6, b", and added")
        number = str(project.change(inode).records[0].number)
    for _ in range(2):  # and so it does at the next start without room
        with monkeypatch.context() as full, room_in_full(tmp_path, full) as project:
            assert project.staged[number] == b"closed, and added"
            change = project.change(inode)
            assert (change.state, change.unclosed) == (ChangeState.PENDING, None)
            assert change.staged is not None
            found = project.dirty_files.with_tail(change.staged)
            assert found is not None
            assert bytes(await found.read(0, 100)) == b"closed"
            with pytest.raises(StagingFull):
                await project.edits.sessions.save_tail(inode)
            assert project.staged[number] == b"closed, and added"
    with monkeypatch.context() as full, room_in_full(tmp_path, full) as project:
        full.undo()
        await project.edits.sessions.save_tail(inode)
        change = project.change(inode)
        assert change.unclosed is not None
        assert project.staged[number] == b"closed"
        assert project.staged[str(change.unclosed.number)] == b"closed, and added"


@contextmanager
def room_in_full(directory: Path, full: pytest.MonkeyPatch) -> Iterator[OfflineProject]:
    """There is no room for a copy."""

    def refuse_copy(_source: int, _target: int, _size_bytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full.setattr("procorefs.staging.staged_bytes.copy_all", refuse_copy)
    with offline_project(directory) as project:
        yield project


async def test_what_was_added_outlives_a_start_that_is_cut_off_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline_project(tmp_path) as project:
        inode = project.put("log.txt", b"first line\n")
        await project.edits.sessions.write(project.reopen(inode), 11, b"sec")
    adopt = DirtyFiles.adopt

    def adopt_and_die(dirty_files: DirtyFiles, record: StagedRecord) -> None:
        adopt(dirty_files, record)
        raise MemoryError

    with monkeypatch.context() as dying:
        dying.setattr(DirtyFiles, "adopt", adopt_and_die)
        with pytest.raises(MemoryError), offline_project(tmp_path):
            pass
    with offline_project(tmp_path) as project:
        staged = filter(
            None, project.staged.values()
        )  # the thread of the start that died makes spare files still
        assert sorted(staged) == [b"first line\n", b"first line\nsec"]
        assert project.change(inode).unclosed is not None


async def test_what_was_closed_and_is_being_written_over(tmp_path: Path) -> None:
    """Half of one state and half of another: nobody saved that, so it is not sent by itself."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"one state")
        await project.edits.sessions.write(project.reopen(inode), 4, b"other")
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.INCOMPLETE
        assert list(project.staged.values()) == [b"one other"]


async def test_what_was_closed_and_is_being_written_anew(tmp_path: Path) -> None:
    """As `cp` does it: cut to nothing, then written. An empty file must not become a version."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the state that was closed")
        dirty_file = project.reopen(inode)
        for size_bytes in (3, 0):
            await project.edits.sessions.truncate(dirty_file, size_bytes)
        await project.edits.sessions.write(dirty_file, 0, b"the new st")
    for _ in range(2):
        with offline_project(tmp_path) as project:
            assert project.change(inode).state is ChangeState.INCOMPLETE
            assert list(project.staged.values()) == [b"the new st"]


async def test_what_was_written_over_and_closed_goes(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"one state")
        await project.edits.sessions.write(project.reopen(inode), 4, b"other")
        assert project.change(inode).state is ChangeState.OPEN
        project.close(inode)
        assert project.change(inode).state is ChangeState.PENDING
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.PENDING
        assert list(project.staged.values()) == [b"one other"]


async def test_what_a_crash_left_is_renamed_while_somebody_writes_to_it(tmp_path: Path) -> None:
    """A name says nothing about its bytes; those that are written to it are promised when they are closed."""
    with offline_project(tmp_path) as project:
        inode = project.create("half.dwg", b"half a pl")
    with offline_project(tmp_path) as project:
        dirty_file = project.reopen(inode)
        async with project.syncing():
            await project.edits.sessions.write(dirty_file, 0, b"HALF")
            project.edits.entries.rename(ROOT, b"half.dwg", ROOT, b"whole.dwg")
            await project.edits.sessions.truncate(dirty_file, 4)
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.INCOMPLETE
        assert list(project.staged.values()) == [b"HALF"]
        project.edits.entries.rename(ROOT, b"whole.dwg", ROOT, b"half.dwg")
        assert project.change(inode).state is ChangeState.INCOMPLETE
        async with project.syncing():
            await project.edits.sessions.write(project.reopen(inode), 4, b" way")
        project.close(inode)
        assert project.change(inode).state is ChangeState.PENDING


# Bytes that are being uploaded


async def test_a_write_that_waited_never_changes_what_is_uploaded(tmp_path: Path) -> None:
    """It waits for room; meanwhile `sync` begins the upload of what there is. Afterwards it has a copy of its own."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"closed")
        dirty_file = project.reopen(inode)
        books = project.staging.quota
        project.base.queue.put(inode, trio.current_time())
        taken = books.left_bytes()
        assert books.take(taken)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(project.edits.sessions.write, dirty_file, 6, b" and more")
            nursery.start_soon(project.edits.sessions.truncate, dirty_file, 20)
            await trio.testing.wait_all_tasks_blocked()
            staged = project.change(inode).staged
            assert staged is not None
            sent = project.dirty_files.freeze(inode, staged)
            books.freed(taken)
        assert bytes(await sent.read(0, 100)) == b"closed"
        assert dirty_file.file is not sent
        assert bytes(await dirty_file.file.read(0, 100)).rstrip(b"\0") == b"closed and more"
        project.dirty_files.thaw(inode, sent, is_wanted=True)


async def test_what_an_earlier_run_wrote_is_brought_to_disk(tmp_path: Path) -> None:
    """It was killed within the second in which it would have done so, and what it wrote must outlive a power cut."""
    with offline_project(tmp_path) as project:
        closed = project.put("closed.dwg", b"the plan")
        cut_off = project.create("cut off.dwg", b"half")
    with offline_project(tmp_path) as project:
        records = [project.change(inode).staged for inode in (closed, cut_off)]
        files = [project.dirty_files.file(closed, record) for record in records if record is not None]
        durability = project.durability
        assert [file.is_on_disk for file in files if file is not None] == [False, False]
        await durability.flush()
        assert [file.is_on_disk for file in files if file is not None] == [True, True]


async def test_a_file_that_nobody_has_open_is_brought_to_disk_with_its_row(tmp_path: Path) -> None:
    """What was missing of it has just been fetched, say: the document that had it may go as soon as it is here."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "plan.dwg"))
        inode = project.child(ROOT, b"plan.dwg").inode
        project.reopen(inode)
        await project.edits.sessions.write(project.dirty_file(inode), 0, b"ab")
        project.close(inode)
        durability = project.durability
        await durability.flush()
        change = project.change(inode)
        assert change.staged is not None
        staged = project.dirty_files.file(inode, change.staged)
        assert staged is not None
        assert staged.is_on_disk
        await staged.complete()
        assert not staged.is_on_disk
        project.edits.changes.save_if_current(change)
        await durability.flush()
        assert staged.is_on_disk


async def test_a_removal_is_brought_to_disk_also_while_the_bytes_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go when the upload ends; the row that is gone must not come back with a power cut until then."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        staged = project.change(inode).staged
        assert staged is not None
        sent = project.dirty_files.freeze(inode, staged)
        told: list[StagedFile | None] = []
        monkeypatch.setattr(project.durability, "journaled", told.append)
        project.edits.entries.unlink(ROOT, b"plan.dwg")
        assert told
        project.dirty_files.thaw(inode, sent, is_wanted=False)
