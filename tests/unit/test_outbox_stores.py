"""The tree's file may be older than the journal, or lost: the journal alone says what belongs together."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from procorefs.journal.change import Location, Stage
from procorefs.procore.wire.models import DocumentId
from procorefs.tree.nodes import ROOT, Inode, Kept
from tests.support.outbox_room import JOURNAL, TREE, Room, room_in
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


def make_folder(room: Room, name: str, folder: Inode = ROOT) -> Inode:
    return room.edits.entries.make_folder(folder, name.encode(), Kept()).inode


def arrives(room: Room, inode: Inode, document: int, name: str, parent: Inode = ROOT) -> None:
    """Procore has made the folder."""
    change = room.change(inode)
    known = room.store.by_inode(parent)
    parent_id = ROOT_ID if parent == ROOT or known is None else known.document_id
    room.base.applier.own.put(folder(document, name, parent_id), inode, parent, change.kept)
    change.document = DocumentId(document)
    room.edits.takeover.reached(change, Location(parent, name))
    room.edits.changes.settle(change)


def paths(room: Room) -> set[str]:
    return {room.view.path(node.inode) for node in room.view.descendants(ROOT)}


async def test_an_older_tree_gives_no_folder_the_number_of_another(tmp_path: Path) -> None:
    """A document is on its way into a folder that the tree has forgotten: it goes to no other one."""
    with room_in(tmp_path) as room:
        room.list_root(file(7, "contract.pdf"))
        room.store.checkpoint()
        copy_tree(tmp_path, "old")
        private = make_folder(room, "Private")
        arrives(room, private, 20, "Private")
        room.edits.entries.rename(ROOT, b"contract.pdf", private, b"contract.pdf")
    put_back(tmp_path, "old")
    with room_in(tmp_path) as room:
        room.list_root(file(7, "contract.pdf"), folder(21, "Public for everybody"), folder(20, "Private"))
        assert paths(room) == {"Public for everybody", "Private", "Private/contract.pdf"}


async def test_a_number_that_only_a_place_names_is_given_to_nobody(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        room.list_root(file(7, "contract.pdf"))
        room.store.checkpoint()
        copy_tree(tmp_path, "old")
        lost = make_folder(room, "Private")
        room.edits.entries.rename(ROOT, b"contract.pdf", lost, b"contract.pdf")
        room.journal.drop(lost)
    put_back(tmp_path, "old")
    with room_in(tmp_path) as room:
        room.list_root(file(7, "contract.pdf"), folder(21, "Public for everybody"))
        assert room.view.child(ROOT, b"Public for everybody").inode > lost


async def test_folders_that_arrived_are_known_without_the_tree(tmp_path: Path) -> None:
    """Files wait in folders that have just arrived; the tree is lost."""
    with room_in(tmp_path) as room:
        new = make_folder(room, "New")
        deep = make_folder(room, "deep", new)
        room.create("file.txt", b"the only copy", deep)
        inode = room.view.child(deep, b"file.txt").inode
        room.close(inode)
        arrives(room, new, 20, "New")
        arrives(room, deep, 21, "deep", new)
    lose_tree(tmp_path)
    with room_in(tmp_path) as room:
        room.list_root(folder(20, "New"))
        room.look(folder(21, "deep", 20))
        assert paths(room) == {"New", "New/deep", "New/deep/file.txt"}
        assert (
            room.view.child(
                room.view.child(room.view.child(ROOT, b"New").inode, b"deep").inode, b"file.txt"
            ).inode
            == inode
        )


async def test_a_folder_that_nothing_explains_is_shown(tmp_path: Path) -> None:
    """As `failed` until somebody says what to do, and what waits in it with it."""
    with room_in(tmp_path) as room:
        lost = make_folder(room, "lost")
        inode = room.create("file.txt", b"the only copy", lost)
        room.close(inode)
        room.journal.drop(lost)
    for _ in range(2):
        with room_in(tmp_path) as room:
            assert room.change(lost).stage is Stage.FAILED
            assert room.view.path(inode) == f"Recovered folder {lost}/file.txt"
            assert "is unknown" in room.change(lost).error
    with room_in(tmp_path) as room:
        room.edits.entries.rename(lost, b"file.txt", ROOT, b"file.txt")
        assert room.view.path(inode) == "file.txt"


async def test_a_folder_that_was_deleted_before_it_was_listed_is_shown(tmp_path: Path) -> None:
    """The tree is lost, and a colleague has deleted the folder meanwhile."""
    with room_in(tmp_path) as room:
        new = make_folder(room, "New")
        arrives(room, new, 20, "New")
        inode = room.create("file.txt", b"the only copy", new)
        room.close(inode)
    lose_tree(tmp_path)
    with room_in(tmp_path) as room:
        room.list_root()
        assert room.view.path(inode) == "file.txt"  # nowhere yet
        assert room.edits.local.recover_folder(new)
        assert room.view.path(inode) == f"Recovered folder {new}/file.txt"
        assert not room.edits.local.recover_folder(new)


async def test_notes_that_nothing_needs_are_dropped(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        for number in range(5):
            arrives(room, make_folder(room, f"{number}"), 20 + number, f"{number}")
        needed = room.view.child(ROOT, b"3").inode
        room.create("file.txt", b"", needed)
        assert len(room.journal.folders()) == 5
    with room_in(tmp_path) as room:
        assert room.journal.folders() == {needed: DocumentId(23)}


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


async def sync(room: Room) -> None:
    """As the daemon does it within a second."""
    await room.durability.flush()


async def test_names_are_read_from_a_damaged_journal(tmp_path: Path) -> None:
    """As long as its rows can be found at all; what is shown goes nowhere by itself."""
    with room_in(tmp_path) as room:
        room.list_root(file(7, "old.dwg"))
        room.put("plan.dwg", b"the plan")
        new = make_folder(room, "New")
        room.create("deep.dwg", b"deeper", new)
        room.close(room.view.child(new, b"deep.dwg").inode)
        old = room.view.child(ROOT, b"old.dwg").inode
        assert room.reopen(old).file.write_now(0, b"newer bytes")
        room.close(old)
        await sync(room)
    damage_journal(tmp_path)
    for _ in range(2):
        with room_in(tmp_path) as room:
            assert paths(room) == {
                "plan.dwg",
                "old.dwg",
                "Recovered folder New",
                "Recovered folder New/deep.dwg",
            }
            files = [change for change in room.view.changes() if not change.is_folder]
            assert {change.stage for change in files} == {Stage.INCOMPLETE}
            assert room.change(old).document == DocumentId(7)
            assert {b"the plan", b"deeper", b"newer bytes"} <= set(room.staged.values())


async def test_an_emptied_journal_leaves_the_bytes_under_their_numbers(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        room.put("plan.dwg", b"the plan")
        await sync(room)
    lose_journal(tmp_path)
    for _ in range(2):
        with room_in(tmp_path) as room:
            [folder] = room.view.children(ROOT)
            assert folder.shown.startswith(b"Recovered folder files ")
            [shown] = room.view.children(folder.inode)
            assert shown.local_size_bytes == len(b"the plan")
            assert room.change(shown.inode).stage is Stage.INCOMPLETE
            assert room.change(folder.inode).stage is Stage.FAILED


async def test_an_older_journal_deletes_no_newer_files(tmp_path: Path) -> None:
    """A backup of the journal was put back."""
    with room_in(tmp_path) as room:
        room.put("one.dwg", b"one")
        await sync(room)
    backup = journal_of(tmp_path)
    with room_in(tmp_path) as room:
        room.put("two.dwg", b"two")
        await sync(room)
    lose_journal(tmp_path)
    for name, content in backup.items():
        (tmp_path / name).write_bytes(content)
    with room_in(tmp_path) as room:
        assert sorted(room.staged.values()) == [b"one", b"two"]
        assert len(paths(room)) == 3
    with room_in(tmp_path) as room:
        assert sorted(room.staged.values()) == [b"one", b"two"]
