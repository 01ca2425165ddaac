"""A start after a power cut, or with a journal or tree that cannot be read, keeps every byte."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from procorefs.journal.change import Pending
from procorefs.journal.journal import Journal
from procorefs.journal.states import ChangeState
from procorefs.staging.staging_area import StagedRecord
from procorefs.storage import processes
from procorefs.tree.nodes import ROOT, Inode, Kept
from procorefs.vfs import write_sessions
from tests.support.offline_project import JOURNAL, OfflineProject, kept_bytes, offline_project
from tests.support.tree_documents import file, version

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


@pytest.mark.parametrize("was_seen", [True, False])
async def test_a_tree_that_lost_a_version_makes_it_nobody_elses(tmp_path: Path, *, was_seen: bool) -> None:
    """A version that showed here is known although the older tree takes it for a new one. Another user's version below
    bytes that were written here never showed: attributes that are set meanwhile do not make it known."""
    first, second = file(7, "plan.dwg"), file(7, "plan.dwg", version=version(8), updated_at_s=3000)
    with offline_project(tmp_path) as project:
        project.list_root(first)
        inode = project.child(ROOT, b"plan.dwg").inode
        if was_seen:
            project.look(second)
            project.edits.changes.keep(inode, Kept(mtime_ns=1))
        project.reopen(inode)
        await project.dirty_file(inode).file.write(0, b"new")
        project.close(inode)
        if was_seen:  # the tree is set back
            project.store.set_version(inode, version(7))
        project.look(second)
        project.edits.changes.keep(inode, Kept(mtime_ns=2))
        change = project.change(inode)
        assert (change.seen is None) is was_seen
        assert change.kept.is_bound_to(version(8)) is was_seen


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


async def overwrite(project: OfflineProject, inode: Inode, *, is_cut: bool) -> None:
    dirty_file = project.reopen(inode)
    if is_cut:
        await project.edits.sessions.truncate(dirty_file, 3)
    else:
        await project.edits.sessions.write(dirty_file, 0, b"THE")


@pytest.mark.parametrize("is_cut", [False, True])
async def test_synced_bytes_of_a_short_file_stay_until_a_later_row_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    """No program waits for the disk for that: it writes to a copy."""
    new = b"the" if is_cut else b"THE plan"
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        await project.durability.flush()
        monkeypatch.setattr(project.durability, "reached", None)
        await overwrite(project, inode, is_cut=is_cut)
    with offline_project(tmp_path) as project:  # after a kill
        change = project.change(inode)
        assert (change.state, change.staged) == (ChangeState.PENDING, StagedRecord(1, 8, None, ()))
        assert sorted(project.staged.values()) == sorted([b"the plan", new])
        project.edits.sessions.flushed(inode)
        assert change.unclosed is not None, "nobody has closed it"
        assert project.staged_file(inode, change.unclosed).size_bytes == len(new)
        await project.edits.sessions.write(project.reopen(inode), len(new), b"!")
        project.edits.sessions.flushed(inode)
        assert project.staged["1"] == b"the plan"
        await project.durability.flush()
        assert list(project.staged.values()) == [new + b"!"]
        assert project.staging.used_bytes == len(new) + 1


async def test_without_space_for_a_copy_the_overwriting_program_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        await project.durability.flush()
        monkeypatch.setattr(project.staging.quota, "limit_bytes", 15)
        monkeypatch.setattr(project.durability, "reached", project.durability.flush)
        await overwrite(project, inode, is_cut=False)
        assert project.change(inode).state is ChangeState.OPEN
        assert list(project.staged.values()) == [b"THE plan"]


@pytest.mark.parametrize("is_cut", [False, True])
async def test_synced_bytes_are_not_written_over_before_their_row_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    """After a power cut the row of before would promise bytes that are half other ones. A long file is not copied."""
    monkeypatch.setattr(write_sessions, "COPIED_BYTES", 7)
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
