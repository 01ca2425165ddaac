"""The tree's file: damage is moved aside, a full disk is not damage, and inode numbers are never used again."""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from procorefs.procore.wire.models import Kind
from procorefs.storage.sqlite_files import is_damage
from procorefs.tree.nodes import ROOT
from procorefs.tree.rows import FIRST_INODE
from procorefs.tree.tree_store import TreeDamaged, TreeStore
from tests.support.connections import connection_to
from tests.support.tree_documents import ListedTree, file, folder


def filled(path: Path, files: int = 2000) -> ListedTree:
    tree = ListedTree(path)
    tree.apply(folder(10, "F"), *(file(100 + number, f"{number:04d}.pdf", 10) for number in range(files)))
    return tree


def _truncated(path: Path) -> None:
    with path.open("r+b") as tree:
        tree.truncate(path.stat().st_size // 2)


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(byte ^ 0xFF for byte in content[middle : middle + 4096])
    path.write_bytes(content)


def _another_format(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def _rootless(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM node WHERE inode = 1")
    db.close()


@pytest.mark.parametrize("damage", [_truncated, _garbage, _flipped, _another_format, _rootless])
def test_a_damaged_tree_is_moved_aside_and_begun_anew(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tree.sqlite"
    filled(path).store.close()
    damage(path)
    with caplog.at_level(logging.WARNING):
        store = TreeStore.open(path)
    assert (store.counts.live(), store.sync.read().is_complete) == (0, False)
    store.close()
    (aside,) = tmp_path.glob("tree.sqlite.damaged-*[0-9]")
    assert str(aside) in caplog.text
    assert "is damaged" in caplog.text


def test_damage_met_in_use_is_found_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "tree.sqlite"
    tree = filled(path)
    tree.store.mark_damaged()
    tree.store.close()
    TreeStore(path).close()  # it was a false alarm, and the mark is gone
    assert not list(tmp_path.glob("*.damaged"))


def test_an_entry_in_no_folder_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "tree.sqlite"
    filled(path, 3).store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE node SET parent = 999999 WHERE document_id = 101")
    db.close()
    with pytest.raises(TreeDamaged):
        TreeStore(path)


def test_a_full_disk_is_not_damage(tmp_path: Path) -> None:
    path = tmp_path / "tree.sqlite"
    tree = filled(path, 10)
    (pages,) = connection_to(path).execute("PRAGMA page_count").fetchone()
    connection_to(path).execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError) as full:
        tree.apply(*(file(5000 + number, "x" * 200 + str(number), 10) for number in range(5000)))
    assert not is_damage(full.value)
    assert tree.store.counts.live() == 11  # all or nothing
    connection_to(path).execute(f"PRAGMA max_page_count = {pages + 10_000}")
    tree.apply(file(5000, "x", 10))
    tree.store.close()
    store = TreeStore.open(path)
    assert store.counts.live() == 12
    store.close()


def test_inode_numbers_are_never_used_again(tmp_path: Path) -> None:
    path = tmp_path / "tree.sqlite"
    tree = ListedTree(path)
    tree.apply(file(10, "a"))
    first = tree.of(10).inode
    assert first >= FIRST_INODE
    tree.apply(folder(10, "a"))  # another kind: the old row is left to those who have it open
    second = tree.of(10).inode
    tree.apply(file(10, "a"))
    third = tree.of(10).inode
    tree.store.close()
    tree = ListedTree(path)  # drops the rows of the old ones
    assert tree.store.by_inode(first) is None
    tree.apply(file(11, "b"))
    assert len({first, second, third, tree.of(11).inode}) == 4
    assert tree.of(11).inode > third
    tree.store.close()


def test_inode_numbers_stay_over_restarts(tmp_path: Path) -> None:
    tree = filled(tmp_path / "tree", 50)
    before = {node.document_id: node.inode for node in tree.store.children(tree.of(10).inode)}
    tree.store.close()
    again = TreeStore(tmp_path / "tree")
    parent = again.child(ROOT, b"F")
    assert parent is not None
    assert {node.document_id: node.inode for node in again.children(parent.inode)} == before
    again.close()


def test_a_listing_is_read_in_parts(tmp_path: Path) -> None:
    tree = filled(tmp_path / "tree", 500)
    parent = tree.of(10).inode
    found = []
    after = 0
    while part := tree.store.children(parent, after=after, limit=64):
        found += part
        after = part[-1].inode
    assert [node.shown for node in found] == [f"{number:04d}.pdf".encode() for number in range(500)]
    assert all(node.kind is Kind.FILE for node in found)
    tree.store.close()


def test_writing_back_goes_on_beside_the_loops_own_connection(tmp_path: Path) -> None:
    tree = filled(tmp_path / "tree", 12_000)
    assert tree.store.checkpoint_due()
    assert not tree.store.checkpoint_due()
    written = (tmp_path / "tree").stat().st_size
    tree.store.checkpoint()
    assert (tmp_path / "tree").stat().st_size > written
    assert tree.store.counts.live() == 12_001
    tree.store.close()


def test_sizes_are_of_the_newest_versions(tmp_path: Path) -> None:
    tree = filled(tmp_path / "tree", 20)
    sizes = tree.store.counts.sizes()
    assert (sizes.documents, sizes.size_bytes) == (21, 200)
    tree.store.close()
