"""What a crash leaves behind, and what the next start makes of it: no staged byte goes, and no doubtful one is sent."""

import errno
import math
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from procorefs.journal.change import Location, MetadataPatch, Pending
from procorefs.journal.journal import Journal
from procorefs.journal.row_log import RowLog
from procorefs.journal.states import ChangeState
from procorefs.procore.errors import Unanswered
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.staging.staged_bytes import Disk
from procorefs.staging.staging_area import StagedFile, StagedRecord, StagingFull
from procorefs.storage import processes
from procorefs.tree.nodes import ROOT, Inode, Kept
from procorefs.vfs.change_store import is_unknown
from procorefs.vfs.dirty_files import DirtyFiles
from tests.support.connections import full_disk
from tests.support.offline_project import JOURNAL, STAGING, OfflineProject, offline_project
from tests.support.tree_documents import file, folder


def kept_bytes(directory: Path) -> list[bytes]:
    """Everything that lies in staging areas of this state directory, swept or moved aside or not."""
    return sorted(
        path.read_bytes()
        for area in directory.glob(f"{STAGING}*")
        if area.is_dir()
        for path in area.iterdir()
    )


async def test_what_was_closed_survives(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
    with offline_project(tmp_path) as project:
        change = project.change(inode)
        assert change.state is ChangeState.PENDING
        assert project.staged_file(inode, change.staged).size_bytes == 8
        assert list(project.staged.values()) == [b"the plan"]


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


# The power cut


class Boots:
    """The machine's boot id, as a test sets it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        monkeypatch.setattr(processes, "BOOT_ID", path)
        self.boot("first")

    def boot(self, number: str) -> None:
        self.path.write_text(f"{number}\n")


def start_and_end(directory: Path) -> None:
    with offline_project(directory):
        pass


@pytest.fixture
def boots(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Boots:
    return Boots(tmp_path_factory.mktemp("proc") / "boot_id", monkeypatch)


async def test_after_a_power_cut_what_was_not_synced_is_doubted(tmp_path: Path, boots: Boots) -> None:
    """What a group commit had brought to disk goes on; what came after may be zeros, and is not sent by itself."""
    with offline_project(tmp_path) as project:
        durability = project.durability
        safe = project.put("safe.dwg", b"synced")
        await durability.flush()
        lost = project.put("lost.dwg", b"not synced")
    boots.boot("second")
    with offline_project(tmp_path) as project:
        assert project.change(safe).state is ChangeState.PENDING
        assert project.change(lost).state is ChangeState.INCOMPLETE
        assert "went down" in project.change(lost).reason
    with offline_project(tmp_path) as project:
        assert project.change(lost).state is ChangeState.INCOMPLETE  # once doubted, always


async def test_after_a_power_cut_incomplete_bytes_that_were_retried_are_doubted(
    tmp_path: Path, boots: Boots
) -> None:
    """Nothing of them was on disk when somebody had them sent: they may be zeros."""
    with offline_project(tmp_path) as project:
        inode = project.create("plan.dwg", b"half a pl")
    with offline_project(tmp_path) as project:
        change = project.change(inode)
        project.edits.sessions.promise_incomplete(change)
        change.step(Pending())
        project.edits.changes.save(change)
    boots.boot("second")
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.INCOMPLETE


async def test_a_daemon_that_only_died_doubts_nothing(tmp_path: Path, boots: Boots) -> None:
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"not synced")
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.PENDING


async def test_killed_in_the_recovery_from_a_power_cut(
    tmp_path: Path, boots: Boots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new boot is noted only when every row was doubted: the next start would take them for good ones."""
    with offline_project(tmp_path) as project:
        inodes = [project.put(f"{number}.dwg", b"not synced") for number in range(2)]
    boots.boot("second")

    def die(_self: Journal, _change: object) -> None:
        raise OSError("killed")

    monkeypatch.setattr(Journal, "put", die)
    with pytest.raises(OSError, match="killed"):
        start_and_end(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(processes, "BOOT_ID", boots.path)
    with offline_project(tmp_path) as project:
        assert [project.change(inode).state for inode in inodes] == [ChangeState.INCOMPLETE] * 2


async def test_a_tree_that_lost_its_numbers_gives_none_of_the_journals_out(tmp_path: Path) -> None:
    """The tree is not synced with the journal: after a power cut its counter may be older than the journal's rows."""
    with offline_project(tmp_path) as project:
        before = project.store.reserve(0) - 1
        inode = project.put("plan.dwg", b"the plan")
    with closing(sqlite3.connect(tmp_path / "tree.sqlite")) as tree, tree:
        tree.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'node'", (before,))
    with offline_project(tmp_path) as project:
        others = {project.put(f"{number}.txt", b"") for number in range(3)}
        assert inode not in others
        assert project.node(inode).shown == b"plan.dwg"


# A journal that can't be read


async def test_a_row_that_cannot_be_read_keeps_its_bytes(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        spoilt, whole = project.put("spoilt.dwg", b"spoilt"), project.put("whole.dwg", b"whole")
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as journal, journal:
        journal.execute("UPDATE change SET body = x'7b' WHERE inode = ?", (spoilt,))
    for turn in range(2):
        with offline_project(tmp_path) as project:
            assert project.view.change(spoilt) is None
            assert project.change(whole).state is ChangeState.PENDING
            assert project.put(f"new {turn}.dwg", b"new") != spoilt
        assert b"spoilt" in kept_bytes(tmp_path)


@pytest.mark.parametrize("place", ["header", "pages", "gone"])
async def test_a_damaged_journal_keeps_all_staged_files(tmp_path: Path, place: str) -> None:
    """However many mounts follow; the log names where they lie."""
    contents = [b"file %03d" % number * 400 for number in range(60)]
    with offline_project(tmp_path) as project:
        for number, data in enumerate(contents):
            project.put(f"{number}.dwg", data)
    damage(tmp_path / JOURNAL, place)
    for turn in range(3):
        with offline_project(tmp_path) as project:
            project.put(f"later {turn}.dwg", b"later")
        found = kept_bytes(tmp_path)
        assert [data for data in found if data != b"later"] == sorted(contents)


def damage(path: Path, place: str) -> None:
    with closing(sqlite3.connect(path)) as journal:
        journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    match place:
        case "header":
            data[:64] = bytes(64)
            path.write_bytes(data)
        case "pages":
            data[4096 * 4 :] = b"\xff" * (len(data) - 4096 * 4)
            path.write_bytes(data)
        case _:
            path.unlink()
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)


# A tree that can't be read


async def test_a_lost_tree_takes_no_change_along(tmp_path: Path) -> None:
    """The journal's inodes stay those of their documents when the new tree lists them."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        old = project.child(ROOT, b"old.dwg").inode
        project.edits.entries.rename(ROOT, b"old.dwg", ROOT, b"renamed.dwg")
        made = project.put("new.dwg", b"new")
    (tmp_path / "tree.sqlite").write_bytes(b"no tree" * 1000)
    for side in ("-wal", "-shm"):
        (tmp_path / f"tree.sqlite{side}").unlink(missing_ok=True)
    with offline_project(tmp_path) as project:
        project.list_root(file(6, "other.dwg"), file(7, "old.dwg"))
        assert {node.shown: node.inode for node in project.view.children(ROOT)} == {
            b"renamed.dwg": old,
            b"new.dwg": made,
            b"other.dwg": project.child(ROOT, b"other.dwg").inode,
        }


@pytest.mark.parametrize("is_cut", [False, True])
async def test_synced_bytes_are_not_written_over_before_their_row_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    """After a power cut the row of before would promise bytes that are half other ones."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        durability = project.durability
        await durability.flush()
        synced: list[tuple[ChangeState, bytes]] = []

        async def reached() -> None:
            synced.append((project.change(inode).state, project.staged["1"]))
            await durability.flush()

        monkeypatch.setattr(durability, "reached", reached)
        dirty_file = project.reopen(inode)
        number = str(dirty_file.file.number)
        assert number == "1"
        if is_cut:
            await project.edits.sessions.truncate(dirty_file, 3)
        else:
            await project.edits.sessions.write(dirty_file, 0, b"THE")
        assert synced == [(ChangeState.OPEN, b"the plan")]
        assert project.staged[number] == (b"the" if is_cut else b"THE plan")
        await project.edits.sessions.write(dirty_file, 0, b"His")
        project.edits.sessions.flushed(inode)
        await project.edits.sessions.write(dirty_file, 0, b"Her")
        assert len(synced) == 1, "no row that is on disk promises any of it"


# A disk that refuses


@pytest.mark.parametrize("is_read", [False, True])
async def test_a_change_that_the_disk_refused_takes_no_bytes_along(tmp_path: Path, is_read: bool) -> None:
    """It has not happened: the bytes that it would have made superfluous are still wanted."""
    with offline_project(tmp_path) as project:
        inodes = {name: project.put(name, name.encode()) for name in ("one.dwg", "other.dwg")}
        if is_read:
            for inode in inodes.values():
                project.dirty_file(inode)
                project.dirty_files.enter(inode, writes=False)
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
        assert project.change(inodes[0]) is not before
        assert project.base.queue.fresh >= set(inodes)


# What a lost call may have made


async def test_a_removed_file_waits_for_what_became_of_its_making(tmp_path: Path) -> None:
    """It stands for what may have been made, over a restart too, until that is known."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        change = project.change(inode)
        place = change.location
        assert place is not None
        with pytest.raises(Unanswered), project.calls.sending(inode, Kind.FILE, None, place):
            raise Unanswered("no answer")
        project.edits.entries.unlink(ROOT, b"plan.dwg")
        assert project.view.child(ROOT, b"plan.dwg") is None
    with offline_project(tmp_path) as project:
        [change] = project.view.changes()
        assert is_unknown(change)
        [call] = project.calls.unconfirmed(change.inode, None)
        assert call.place == place
        project.calls.forget(call)
        project.edits.changes.dismiss(change)
        assert project.view.changes() == []


async def test_who_takes_over_a_document_takes_over_its_calls(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        old = project.child(ROOT, b"old.dwg").inode
        project.edits.entries.set_metadata(old, MetadataPatch(description="new"))
        with pytest.raises(Unanswered), project.calls.sending(old, Kind.FILE, DocumentId(7)):
            raise Unanswered("no answer")
        saved = project.put("saved.tmp.dwg", b"saved")
        project.edits.entries.rename(ROOT, b"saved.tmp.dwg", ROOT, b"old.dwg")
        assert project.change(saved).document == 7
        assert [call.inode for call in project.calls.unconfirmed(saved, DocumentId(7))] == [saved]


async def test_a_rename_outlives_that_its_document_becomes_another_inode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its row is written under the other inode, the daemon has the row of before."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        old = project.child(ROOT, b"old.dwg").inode
        project.edits.entries.rename(ROOT, b"old.dwg", ROOT, b"new.dwg")
        monkeypatch.setattr(project.journal, "put", lambda _change: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            project.edits.changes.move_to_inode(old, Inode(old + 1))
    with offline_project(tmp_path) as project:
        assert [(change.document, change.location) for change in project.view.changes()] == [
            (DocumentId(7), Location(ROOT, "new.dwg"))
        ]


async def test_a_document_is_not_handed_on_while_its_deletion_is_unconfirmed(tmp_path: Path) -> None:
    """It may still be deleted, and what was written under its name would go with it."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        old = project.child(ROOT, b"old.dwg").inode
        project.edits.entries.unlink(ROOT, b"old.dwg")
        with pytest.raises(Unanswered), project.calls.sending(old, Kind.FILE, DocumentId(7), removes=True):
            raise Unanswered("no answer")
        made = project.put("old.dwg", b"made anew")
        assert project.change(made).document is None
        assert project.change(old).document == 7


async def test_killed_between_the_trees_row_and_the_journals(tmp_path: Path) -> None:
    """What our call has made is the change's, also when the file got another name meanwhile."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        place = project.change(inode).location
        assert place is not None
        with pytest.raises(KeyboardInterrupt):
            _die_with_the_answer(project, inode, place)
    with offline_project(tmp_path) as project:
        assert project.change(inode).document == 7
        [found] = project.calls.unconfirmed(inode, DocumentId(7))
        assert (found.document, found.place) == (7, place)
        project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"other.dwg")
        assert [node.shown for node in project.view.children(ROOT)] == [b"other.dwg"]


def _die_with_the_answer(project: OfflineProject, inode: Inode, place: Location) -> None:
    with project.calls.sending(inode, Kind.FILE, None, place) as sending:
        sending.answered()
        project.base.applier.own.put(file(7, "plan.dwg"), inode, ROOT, None)
        raise KeyboardInterrupt


@pytest.mark.parametrize("was_closed", [False, True])
async def test_an_empty_file_under_a_documents_name_is_not_the_document(
    tmp_path: Path, was_closed: bool
) -> None:
    """It takes over the document that was renamed away; what that had is not what was written."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "plan.dwg"))
        project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"plan.bak")
        if was_closed:
            inode = project.put("plan.dwg", b"")
            await project.edits.sessions.write(project.reopen(inode), 0, b"")
            project.edits.sessions.will_overwrite(project.dirty_file(inode))
        else:
            inode = project.create("plan.dwg")
        assert project.change(inode).document == 7
    for _ in range(2):
        with offline_project(tmp_path) as project:
            assert project.node(inode).local_size_bytes == 0
            assert project.change(inode).unclosed is not None


async def test_a_folder_that_a_listing_brought_before_the_answer_can_be_removed(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.edits.entries.make_folder(ROOT, b"plans", Kept()).inode
        project.list_root(folder(7, "plans"))
        project.base.applier.own.put(folder(7, "plans"), inode, ROOT, None, is_new=True)
        change = project.change(inode)
        change.document = DocumentId(7)
        project.edits.takeover.follow_if_there(change)
        project.edits.changes.settle(change)
        project.edits.entries.remove_folder(ROOT, b"plans")
        assert project.view.child(ROOT, b"plans") is None


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


async def test_what_a_repeated_call_may_have_made_stays_hidden(tmp_path: Path) -> None:
    """A look has shown it between the call and its repeat."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        place = project.change(inode).location
        assert place is not None
        with pytest.raises(Unanswered), project.calls.sending(inode, Kind.FILE, None, place):
            raise Unanswered("no answer")
        project.list_root(file(7, "plan.dwg"))
        project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"other.dwg")
        [call] = project.calls.unconfirmed(inode, None)
        assert project.view.child(ROOT, b"plan.dwg") is None
        with project.calls.sending(inode, Kind.FILE, None, place, repeats=call):
            assert project.view.child(ROOT, b"plan.dwg") is None
            assert [node.shown for node in project.view.children(ROOT)] == [b"other.dwg"]


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
