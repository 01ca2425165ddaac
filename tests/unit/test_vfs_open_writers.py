"""Files that stay open: what a flush promises while its handle goes on, and the snapshots of what is never closed."""

import errno
import itertools
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from procorefs.journal.change import Change
from procorefs.journal.journal import Journal
from procorefs.journal.states import ChangeState
from procorefs.tree.nodes import ROOT, Inode
from procorefs.vfs.open_writers import QUIET_S, SNAPSHOT_EVERY_S, STAYS_OPEN_S, OpenWriters
from tests.support.offline_project import OfflineProject, offline_project
from tests.support.tree_documents import file


class Writers:
    """What looks at the files of a project, at times that a test names."""

    def __init__(self, project: OfflineProject) -> None:
        self.sent: list[Inode] = []
        self.held: set[Inode] = set()
        self.looker = OpenWriters(
            project.view,
            project.dirty_files,
            project.edits.sessions,
            is_sendable=lambda change: change.inode not in self.held,
            send=self.sent.append,
        )

    def look(self, clock: MockClock, after_s: float = 0.0) -> list[Inode]:
        """So long after the last look; returns what was sent then."""
        clock.jump(after_s)
        self.sent.clear()
        self.looker.look(clock.current_time())
        return list(self.sent)


async def test_a_file_that_is_closed_is_promised_before_its_release(tmp_path: Path) -> None:
    """The daemon dies between FLUSH and RELEASE of a plain close."""
    with offline_project(tmp_path) as project:
        inode = project.create("plan.dwg", b"the plan")
        await project.flush(inode)
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.PENDING


async def test_so_is_the_output_of_a_program_that_a_shell_redirects(tmp_path: Path) -> None:
    """The shell closes its own descriptor before the program has written anything."""
    with offline_project(tmp_path) as project:
        inode = project.create("out.txt")
        await project.flush(inode)
        await project.edits.sessions.write(project.dirty_file(inode), 0, b"half")
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.INCOMPLETE  # and no empty file
    with offline_project(tmp_path / "closed") as project:
        inode = project.create("out.txt")
        await project.flush(inode)
        await project.edits.sessions.write(project.dirty_file(inode), 0, b"whole")
        await project.flush(inode, is_first=False)
    with offline_project(tmp_path / "closed") as project:
        assert project.change(inode).state is ChangeState.PENDING


@pytest.mark.parametrize("is_flushed_again", [False, True])
async def test_a_handle_that_is_written_to_after_a_flush_promises_nothing_before_its_release(
    tmp_path: Path, is_flushed_again: bool
) -> None:
    """`{ a; b; c; } > report.csv`: killed while b writes, or between b and c."""
    for is_released in (False, True):
        directory = tmp_path / str(is_released)
        with offline_project(directory) as project:
            inode = project.create("report.csv", b"a")
            await project.flush(inode)
            await project.edits.sessions.write(project.dirty_file(inode), 1, b"b")
            if is_flushed_again:
                await project.flush(inode, is_first=False)
            if is_released:
                project.release(inode)
        with offline_project(directory) as project:
            change = project.change(inode)
            assert change.state is (ChangeState.PENDING if is_released else ChangeState.INCOMPLETE)
            assert project.staged_file(inode, change.shown).size_bytes == 2


async def test_a_handle_that_stays_open_after_a_flush_promises_nothing(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    for is_released in (False, True):
        directory = tmp_path / str(is_released)
        with offline_project(directory) as project:
            writers = Writers(project)
            inode = project.create("report.csv", b"a")
            await project.flush(inode)
            writers.look(mock_clock, STAYS_OPEN_S - 1)
            assert project.change(inode).state is ChangeState.PENDING
            writers.look(mock_clock, 1)
            assert project.change(inode).state is ChangeState.OPEN
            if is_released:
                project.release(inode)
        with offline_project(directory) as project:
            assert project.change(inode).state is (
                ChangeState.PENDING if is_released else ChangeState.INCOMPLETE
            )


async def test_a_document_keeps_its_bytes_while_its_writer_is_at_work(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "plan.dwg"))
        node = project.child(ROOT, b"plan.dwg")
        assert node is not None
        writers = Writers(project)
        await project.edits.sessions.write(project.reopen(node.inode), 0, b"new")
        await project.flush(node.inode)
        writers.look(mock_clock, STAYS_OPEN_S)
    with offline_project(tmp_path) as project:
        assert project.change(node.inode).state is ChangeState.INCOMPLETE


async def test_bytes_that_were_closed_before_stay_promised(tmp_path: Path, mock_clock: MockClock) -> None:
    """`cmd >> log.txt`: the shell's close promises nothing new, and so nothing is taken back."""
    with offline_project(tmp_path) as project:
        writers = Writers(project)
        inode = project.put("log.txt", b"first line\n")
        dirty_file = project.reopen(inode)
        await project.flush(inode)
        writers.look(mock_clock, STAYS_OPEN_S)
        await project.edits.sessions.write(dirty_file, 11, b"sec")
        assert project.change(inode).state is ChangeState.PENDING
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.PENDING
        assert sorted(project.staged.values()) == [b"first line\n", b"first line\nsec"]


async def test_a_release_with_other_handles_promises_as_a_close_does(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.create("shared.txt", b"one")
        project.dirty_files.enter(inode, writes=True)
        await project.flush(inode)
        project.release(inode)
        await project.edits.sessions.write(project.dirty_file(inode), 3, b"two")
    with offline_project(tmp_path) as project:
        change = project.change(inode)
        assert change.state is ChangeState.PENDING
        assert change.staged is not None
        assert change.staged.size_bytes == 3


# Snapshots


async def test_what_is_never_closed_goes_when_it_was_quiet_for_a_minute(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    with offline_project(tmp_path) as project:
        writers = Writers(project)
        inode = project.create("log.txt", b"first line\n")
        assert writers.look(mock_clock) == []
        assert writers.look(mock_clock, QUIET_S - 1) == []
        project.write(inode, 11, b"second\n")
        assert writers.look(mock_clock, 1) == []
        assert writers.look(mock_clock, QUIET_S - 1) == []
        assert writers.look(mock_clock, 1) == [inode]
        assert project.change(inode).state is ChangeState.PENDING
        assert writers.look(mock_clock, QUIET_S) == []
        assert project.change(inode).state is ChangeState.PENDING
    with offline_project(tmp_path) as project:
        assert project.change(inode).state is ChangeState.PENDING


async def test_a_snapshot_goes_every_quarter_of_an_hour_at_most(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    with offline_project(tmp_path) as project:
        writers = Writers(project)
        inode = project.create("log.txt", b"0")
        sent_at_s = []
        for number in range(40):
            if writers.look(mock_clock, QUIET_S):
                sent_at_s.append(mock_clock.current_time())
            project.write(inode, number + 1, b"x")
            writers.look(mock_clock)
        waits_s = [later - earlier for earlier, later in itertools.pairwise(sent_at_s)]
        assert len(sent_at_s) == 3
        assert all(SNAPSHOT_EVERY_S <= wait_s < SNAPSHOT_EVERY_S + QUIET_S for wait_s in waits_s)


async def test_after_a_crash_the_snapshot_is_sent_and_the_rest_is_kept(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Also of a shared handle, which promises nothing by its flushes."""
    with offline_project(tmp_path) as project:
        writers = Writers(project)
        inode = project.create("log.txt", b"first line\n")
        await project.flush(inode)
        writers.look(mock_clock)
        writers.look(mock_clock, STAYS_OPEN_S)
        assert writers.look(mock_clock, QUIET_S) == [inode]
        await project.edits.sessions.write(project.dirty_file(inode), 11, b"sec")
        await project.flush(inode, is_first=False)
        writers.look(mock_clock, STAYS_OPEN_S)
    with offline_project(tmp_path) as project:
        change = project.change(inode)
        assert change.state is ChangeState.PENDING
        assert change.staged is not None
        assert project.staged[str(change.staged.number)] == b"first line\n"
        assert change.unclosed is not None
        assert change.unclosed.size_bytes == 14


async def test_a_full_disk_ends_nothing(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_journal: Journal, _change: Change) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with offline_project(tmp_path) as project:
        writers = Writers(project)
        inode = project.create("log.txt", b"first line\n")
        await project.flush(inode)
        writers.look(mock_clock)
        with monkeypatch.context() as full:
            full.setattr(Journal, "put", refuse)
            assert writers.look(mock_clock, STAYS_OPEN_S) == []
            assert writers.look(mock_clock, QUIET_S) == []
        assert writers.look(mock_clock, 1) == [inode]


async def test_what_may_not_go_by_itself_has_no_snapshot(tmp_path: Path, mock_clock: MockClock) -> None:
    """A temporary name, an empty file, one that was removed, and one that a crash cut off."""
    with offline_project(tmp_path) as project:
        torn = project.create("torn.txt", b"half")
    with offline_project(tmp_path) as project:
        writers = Writers(project)
        await project.edits.sessions.write(project.reopen(torn), 4, b" more")
        writers.held.add(project.create(".plan.dwg.x4Kp2Q", b"held"))
        project.create("empty.txt")
        project.create("gone.txt", b"gone")
        project.edits.entries.unlink(ROOT, b"gone.txt")
        writers.look(mock_clock)
        assert writers.look(mock_clock, QUIET_S) == []
        assert project.change(torn).state is ChangeState.INCOMPLETE


async def test_nothing_is_looked_at_while_nothing_is_open_for_writing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle mount does not wake for it, however long it is idle."""
    with offline_project(tmp_path) as project:
        writers = Writers(project).looker
        times: list[object] = []
        monkeypatch.setattr(writers, "look", times.append)
        async with trio.open_nursery() as nursery:
            await nursery.start(writers.run)
            await trio.sleep(3600)
            assert times == []
            inode = project.create("log.txt", b"line\n")
            await trio.sleep(10.5)
            assert len(times) == 10
            project.close(inode)
            await trio.sleep(3600)
            assert len(times) <= 11
            nursery.cancel_scope.cancel()
