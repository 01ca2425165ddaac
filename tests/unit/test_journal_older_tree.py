"""The tree's file may be older than the journal, or lost: the journal alone says what belongs together."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from procorefs.journal.change import Location
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import DocumentId
from procorefs.tree.nodes import ROOT, Inode, Kept
from tests.support.offline_project import JOURNAL, TREE, OfflineProject, offline_project
from tests.support.tree_documents import ROOT_ID, file, folder


def copy_tree(directory: Path, to: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        side = directory / f"{TREE}{suffix}"
        (directory / f"{to}{suffix}").unlink(missing_ok=True)
        if side.exists():
            shutil.copy(side, directory / f"{to}{suffix}")


def lose_tree(directory: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (directory / f"{TREE}{suffix}").unlink(missing_ok=True)


def put_back(directory: Path, old: str) -> None:
    """The tree is as it was when it was copied."""
    lose_tree(directory)
    for suffix in ("", "-wal", "-shm"):
        if (directory / f"{old}{suffix}").exists():
            shutil.copy(directory / f"{old}{suffix}", directory / f"{TREE}{suffix}")


def make_folder(project: OfflineProject, name: str, folder: Inode = ROOT) -> Inode:
    return project.edits.entries.make_folder(folder, name.encode(), Kept()).inode


def arrives(project: OfflineProject, inode: Inode, document: int, name: str, parent: Inode = ROOT) -> None:
    """Procore has made the folder."""
    change = project.change(inode)
    known = project.store.by_inode(parent)
    parent_id = ROOT_ID if parent == ROOT or known is None else known.document_id
    project.base.applier.own.put(folder(document, name, parent_id), inode, parent, change.kept)
    change.document = DocumentId(document)
    project.edits.takeover.reached(change, Location(parent, name))
    project.edits.changes.settle(change)


def paths(project: OfflineProject) -> set[str]:
    return {project.view.path(node.inode) for node in project.view.descendants(ROOT)}


async def test_an_older_tree_gives_no_folder_the_number_of_another(tmp_path: Path) -> None:
    """A document is on its way into a folder that the tree has forgotten: it goes to no other one."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "contract.pdf"))
        project.store.checkpoint()
        copy_tree(tmp_path, "old")
        private = make_folder(project, "Private")
        arrives(project, private, 20, "Private")
        project.edits.entries.rename(ROOT, b"contract.pdf", private, b"contract.pdf")
    put_back(tmp_path, "old")
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "contract.pdf"), folder(21, "Public for everybody"), folder(20, "Private"))
        assert paths(project) == {"Public for everybody", "Private", "Private/contract.pdf"}


async def test_a_number_that_only_a_place_names_is_given_to_nobody(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "contract.pdf"))
        project.store.checkpoint()
        copy_tree(tmp_path, "old")
        lost = make_folder(project, "Private")
        project.edits.entries.rename(ROOT, b"contract.pdf", lost, b"contract.pdf")
        project.journal.drop(lost)
    put_back(tmp_path, "old")
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "contract.pdf"), folder(21, "Public for everybody"))
        assert project.child(ROOT, b"Public for everybody").inode > lost


async def test_folders_that_arrived_are_known_without_the_tree(tmp_path: Path) -> None:
    """Files wait in folders that have just arrived; the tree is lost."""
    with offline_project(tmp_path) as project:
        new = make_folder(project, "New")
        deep = make_folder(project, "deep", new)
        project.create("file.txt", b"the only copy", deep)
        inode = project.child(deep, b"file.txt").inode
        project.close(inode)
        arrives(project, new, 20, "New")
        arrives(project, deep, 21, "deep", new)
    lose_tree(tmp_path)
    with offline_project(tmp_path) as project:
        project.list_root(folder(20, "New"))
        project.look(folder(21, "deep", 20))
        assert paths(project) == {"New", "New/deep", "New/deep/file.txt"}
        assert (
            project.child(project.child(project.child(ROOT, b"New").inode, b"deep").inode, b"file.txt").inode
            == inode
        )


async def test_a_folder_that_nothing_explains_is_shown(tmp_path: Path) -> None:
    """As `failed` until somebody says what to do, and what waits in it with it."""
    with offline_project(tmp_path) as project:
        lost = make_folder(project, "lost")
        inode = project.create("file.txt", b"the only copy", lost)
        project.close(inode)
        project.journal.drop(lost)
    for _ in range(2):
        with offline_project(tmp_path) as project:
            assert project.change(lost).state is ChangeState.FAILED
            assert project.view.path(inode) == f"Recovered folder {lost}/file.txt"
            assert "is unknown" in project.change(lost).reason
    with offline_project(tmp_path) as project:
        project.edits.entries.rename(lost, b"file.txt", ROOT, b"file.txt")
        assert project.view.path(inode) == "file.txt"


async def test_a_folder_that_was_deleted_before_it_was_listed_is_shown(tmp_path: Path) -> None:
    """The tree is lost, and a colleague has deleted the folder meanwhile."""
    with offline_project(tmp_path) as project:
        new = make_folder(project, "New")
        arrives(project, new, 20, "New")
        inode = project.create("file.txt", b"the only copy", new)
        project.close(inode)
    lose_tree(tmp_path)
    with offline_project(tmp_path) as project:
        project.list_root()
        assert project.view.path(inode) == "file.txt"  # nowhere yet
        assert project.edits.local.recover_folder(new)
        assert project.view.path(inode) == f"Recovered folder {new}/file.txt"
        assert not project.edits.local.recover_folder(new)


async def test_notes_that_nothing_needs_are_dropped(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        for number in range(5):
            arrives(project, make_folder(project, f"{number}"), 20 + number, f"{number}")
        needed = project.child(ROOT, b"3").inode
        project.create("file.txt", b"", needed)
        assert len(project.journal.folders()) == 5
    with offline_project(tmp_path) as project:
        assert project.journal.folders() == {needed: DocumentId(23)}


# A journal that is damaged, or older than the staged files


def damage_journal(directory: Path) -> None:
    with closing(sqlite3.connect(directory / JOURNAL)) as journal:
        journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((directory / JOURNAL).read_bytes())
    data[:64] = bytes(64)
    (directory / JOURNAL).write_bytes(data)


def journal_of(directory: Path) -> dict[str, bytes]:
    return {side.name: side.read_bytes() for side in directory.glob(f"{JOURNAL}*")}


def lose_journal(directory: Path) -> None:
    for name in journal_of(directory):
        (directory / name).unlink()


async def sync(project: OfflineProject) -> None:
    """As the daemon does it within a second."""
    await project.durability.flush()


async def test_names_are_read_from_a_damaged_journal(tmp_path: Path) -> None:
    """As long as its rows can be found at all; what is shown goes nowhere by itself."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        project.put("plan.dwg", b"the plan")
        new = make_folder(project, "New")
        project.create("deep.dwg", b"deeper", new)
        project.close(project.child(new, b"deep.dwg").inode)
        old = project.child(ROOT, b"old.dwg").inode
        assert project.reopen(old).file.write_now(0, b"newer bytes")
        project.close(old)
        await sync(project)
    damage_journal(tmp_path)
    for _ in range(2):
        with offline_project(tmp_path) as project:
            assert paths(project) == {
                "plan.dwg",
                "old.dwg",
                "Recovered folder New",
                "Recovered folder New/deep.dwg",
            }
            files = [change for change in project.view.changes() if not change.is_folder]
            assert {change.state for change in files} == {ChangeState.INCOMPLETE}
            assert project.change(old).document == DocumentId(7)
            assert {b"the plan", b"deeper", b"newer bytes"} <= set(project.staged.values())


async def test_an_emptied_journal_leaves_the_bytes_under_their_numbers(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.put("plan.dwg", b"the plan")
        await sync(project)
    lose_journal(tmp_path)
    for _ in range(2):
        with offline_project(tmp_path) as project:
            [folder] = project.view.children(ROOT)
            assert folder.shown.startswith(b"Recovered folder files ")
            [shown] = project.view.children(folder.inode)
            assert shown.local_size_bytes == len(b"the plan")
            assert project.change(shown.inode).state is ChangeState.INCOMPLETE
            assert project.change(folder.inode).state is ChangeState.FAILED


async def test_an_older_journal_deletes_no_newer_files(tmp_path: Path) -> None:
    """A backup of the journal was put back."""
    with offline_project(tmp_path) as project:
        project.put("one.dwg", b"one")
        await sync(project)
    backup = journal_of(tmp_path)
    with offline_project(tmp_path) as project:
        project.put("two.dwg", b"two")
        await sync(project)
    lose_journal(tmp_path)
    for name, content in backup.items():
        (tmp_path / name).write_bytes(content)
    with offline_project(tmp_path) as project:
        assert sorted(project.staged.values()) == [b"one", b"two"]
        assert len(paths(project)) == 3
    with offline_project(tmp_path) as project:
        assert sorted(project.staged.values()) == [b"one", b"two"]
