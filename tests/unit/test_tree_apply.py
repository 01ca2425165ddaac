"""What answers make of the tree, and what the kernel must invalidate."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from procorefs.procore.wire.models import Kind
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import ROOT, EntryGone, InodeChanged, ListingChanged, State
from procorefs.tree.tree_store import TreeStore
from tests.support.local_work import ME, Inside
from tests.support.tree_documents import ROOT_ID, SOMEBODY, ListedTree, file, folder, version

BIN = 2


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[ListedTree]:
    made = ListedTree(tmp_path / "tree")
    yield made
    made.store.close()
    TreeStore(tmp_path / "tree").close()  # its own check


def test_a_child_may_come_before_its_folder(tree: ListedTree) -> None:
    tree.apply(file(11, "a.pdf", 10))
    assert tree.paths() == {}
    tree.apply(folder(10, "Plans"))
    assert tree.paths() == {"Plans": 10, "Plans/a.pdf": 11}


def test_a_document_moves_into_a_folder_of_the_same_page(tree: ListedTree) -> None:
    tree.apply(file(11, "a.pdf"))
    inode = tree.of(11).inode
    tree.apply(file(11, "a.pdf", 10), folder(10, "New"))
    assert tree.paths() == {"New": 10, "New/a.pdf": 11}
    assert tree.of(11).inode == inode


def test_names_swapped_in_one_page(tree: ListedTree) -> None:
    tree.apply(file(10, "a"), file(11, "b"))
    inodes = tree.inodes((10, 11))
    changed = tree.apply(file(10, "b"), file(11, "a"))
    assert tree.paths() == {"a": 11, "b": 10}
    assert tree.inodes((10, 11)) == inodes
    assert {EntryGone(ROOT, b"a"), EntryGone(ROOT, b"b"), ListingChanged(ROOT)} <= set(changed.invalidations)


def test_names_swapped_in_two_slices_of_a_page(tree: ListedTree) -> None:
    tree.apply(file(10, "a"), file(11, "b"))
    tree.apply(file(10, "b"))
    assert tree.paths() == {"b": 11, "b ~10": 10}
    settled = tree.apply(file(11, "a"))
    assert tree.paths() == {"a": 11, "b": 10}
    assert {EntryGone(ROOT, b"b"), EntryGone(ROOT, b"b ~10")} <= set(settled.invalidations)


def test_a_name_that_becomes_free_goes_to_who_has_waited_for_it(tree: ListedTree) -> None:
    """The bin is listed after the changes: a file made anew meets the one that is not known to be deleted yet."""
    tree.apply(file(10, "a"), folder(20, "Plans"), file(21, "a", 20))
    tree.apply(file(11, "a"), file(12, "a ~11"), file(22, "a", 20))
    assert tree.paths() == {
        "a": 10,
        "a ~11": 11,
        "a ~11 ~12": 12,
        "Plans": 20,
        "Plans/a": 21,
        "Plans/a ~22": 22,
    }
    inode = tree.of(11).inode
    tree.apply_deleted(file(10, "a", deleted=True))
    assert tree.paths() == {"a": 11, "a ~11": 12, "Plans": 20, "Plans/a": 21, "Plans/a ~22": 22}
    assert tree.of(11).inode == inode


def test_a_file_and_a_folder_of_one_name(tree: ListedTree) -> None:
    tree.apply(folder(10, "Plans"), file(11, "Plans"), file(12, "a.pdf", 10))
    assert tree.paths() == {"Plans": 10, "Plans ~11": 11, "Plans/a.pdf": 12}
    tree.apply(folder(10, "Plans"), file(11, "Plans", updated_at_s=2001))
    assert tree.paths() == {"Plans": 10, "Plans ~11": 11, "Plans/a.pdf": 12}


def test_names_that_linux_cannot_hold(tree: ListedTree) -> None:
    tree.apply(
        file(10, "a/b.pdf"), folder(11, ".."), file(12, ""), file(13, "x" * 300 + ".pdf"), folder(14, ".")
    )
    shown = tree.paths()
    assert set(shown.values()) == {10, 11, 12, 13, 14}
    assert shown["a_b ~10.pdf"] == 10
    assert all(len(name.encode()) <= 255 for name in shown)


def test_the_mounts_own_entry_is_no_documents(tree: ListedTree) -> None:
    tree.apply(folder(10, ".procore"), folder(11, "Plans"), file(12, ".procore", 11))
    assert tree.paths() == {".procore ~10": 10, "Plans": 11, "Plans/.procore": 12}
    tree.apply(file(12, ".procore"))
    assert tree.paths() == {".procore ~10": 10, "Plans": 11, ".procore ~12": 12}
    tree.apply(folder(10, "plain"))
    assert tree.paths() == {"plain": 10, "Plans": 11, ".procore ~12": 12}


def test_what_we_put_into_the_root_takes_no_entry_of_the_mounts(tree: ListedTree) -> None:
    document = file(10, ".procore")
    with tree.applier.own.call(None):
        tree.applier.own.put(document, tree.store.reserve(1), ROOT, None)
    assert tree.paths() == {".procore ~10": 10}


def test_a_document_that_had_the_entry_before_the_mount_gives_it_up(tree: ListedTree) -> None:
    tree.apply(file(10, "older"), file(11, ".procore ~10"))
    inode = tree.of(10).inode
    with tree.store.transaction():
        tree.store.show(inode, b".procore")
    DocumentApplier(tree.store, Inside(), ME)
    assert tree.paths() == {".procore ~10-2": 10, ".procore ~10": 11}
    assert tree.of(10).inode == inode


def test_moving_keeps_the_inode_and_invalidates_both_places(tree: ListedTree) -> None:
    tree.apply(folder(10, "A"), folder(11, "B"), file(12, "a", 10))
    a, b, moved = tree.inodes((10, 11, 12))
    changed = tree.apply(file(12, "a", 11))
    assert tree.paths() == {"A": 10, "B": 11, "B/a": 12}
    assert tree.of(12).inode == moved
    assert {EntryGone(a, b"a"), ListingChanged(a), ListingChanged(b)} <= set(changed.invalidations)


def test_the_same_item_changes_nothing(tree: ListedTree) -> None:
    tree.apply(file(10, "a"), folder(11, "F"))
    again = tree.apply(file(10, "a"), folder(11, "F"))
    assert not again.invalidations
    assert not again.changed


def test_another_address_of_the_same_bytes_is_kept_and_is_no_change(tree: ListedTree) -> None:
    tree.apply(file(10, "a"))
    fresh = msgspec.structs.replace(version(10), url="https://store.example/fresh")
    assert not tree.apply(file(10, "a", version=fresh)).changed
    known = tree.of(10).version
    assert known is not None
    assert known.url == "https://store.example/fresh"


def test_a_new_version_with_nobody_inside_keeps_the_inode(tree: ListedTree) -> None:
    tree.apply(file(10, "a"))
    inode = tree.of(10).inode
    changed = tree.apply(file(10, "a", version=version(20, size_bytes=99)))
    assert tree.of(10).inode == inode
    assert changed.invalidations == [InodeChanged(inode, data=True)]


def test_a_new_version_while_somebody_reads_gets_an_inode_of_its_own(tree: ListedTree) -> None:
    tree.apply(file(10, "a"))
    old = tree.of(10)
    tree.open.add(old.inode)
    changed = tree.apply(file(10, "a", version=version(20, size_bytes=99)))
    assert tree.of(10).inode != old.inode
    assert tree.paths() == {"a": 10}
    left = tree.store.by_inode(old.inode)
    assert left is not None
    assert (left.version, left.in_tree) == (old.version, False)
    assert EntryGone(ROOT, b"a") in changed.invalidations


def test_a_rename_keeps_the_data(tree: ListedTree) -> None:
    tree.apply(file(10, "a"))
    changed = tree.apply(file(10, "b", updated_at_s=2001))
    assert InodeChanged(tree.of(10).inode, data=False) in changed.invalidations


def test_a_folder_that_becomes_a_file(tree: ListedTree) -> None:
    tree.apply(folder(10, "x"), file(11, "a", 10), folder(12, "y", 10), file(13, "b", 12))
    inode = tree.of(10).inode
    tree.apply(file(10, "x"))
    assert tree.paths() == {"x": 10}
    assert tree.of(10).inode != inode
    tree.apply(file(11, "a", ROOT_ID))
    assert tree.paths() == {"x": 10, "a": 11}


def test_a_file_that_becomes_a_folder(tree: ListedTree) -> None:
    tree.apply(file(10, "x"))
    tree.apply(file(11, "a", 10))  # its folder's own item has not come yet
    assert tree.paths() == {"x": 10}
    tree.apply(folder(10, "x"), file(11, "a", 10))
    assert tree.paths() == {"x": 10, "x/a": 11}


def test_an_expected_folder_that_is_a_file(tree: ListedTree) -> None:
    tree.apply(file(11, "a", 10))
    tree.apply(file(10, "x"))
    assert tree.paths() == {"x": 10}


def test_a_folder_in_itself_and_folders_in_each_other_are_nowhere(tree: ListedTree) -> None:
    tree.apply(folder(10, "self", 10), folder(11, "a", 12), folder(12, "b", 11), file(13, "f", 11))
    assert tree.paths() == {}
    assert not tree.store.reachable(tree.of(13).inode)
    assert not tree.store.reachable(tree.of(10).inode)
    assert tree.store.path(tree.of(13).inode).endswith("f")
    tree.apply(folder(11, "a", ROOT_ID))
    assert set(tree.paths()) == {"a", "a/b", "a/f"}


def test_one_document_twice_in_a_page(tree: ListedTree) -> None:
    tree.apply(file(10, "a"), file(10, "b"))
    assert list(tree.paths().values()) == [10]


def test_a_deleted_folder_goes_and_returns_with_what_it_holds(tree: ListedTree) -> None:
    tree.apply(folder(10, "A"), folder(11, "B", 10), file(12, "a", 11))
    inodes = tree.inodes((10, 11, 12))
    # Below it everything is listed as deleted too, and first.
    tree.apply_deleted(
        file(12, "a", 11, deleted=True), folder(11, "B", 10, deleted=True), folder(10, "A", BIN, deleted=True)
    )
    assert tree.paths() == {}
    assert tree.store.counts.hidden() == 2
    tree.apply(folder(10, "A"))
    assert tree.paths() == {"A": 10, "A/B": 11, "A/B/a": 12}
    assert tree.inodes((10, 11, 12)) == inodes
    assert not any(
        tree.of(number).listed for number in (10, 11)
    )  # nobody knows what happened in it meanwhile


def test_a_file_deleted_by_itself_does_not_return_with_its_folder(tree: ListedTree) -> None:
    tree.apply(folder(10, "A"), file(11, "a", 10), file(12, "b", 10))
    tree.apply_deleted(file(11, "a", 10, deleted=True))
    tree.apply_deleted(folder(10, "A", deleted=True))
    tree.apply(folder(10, "A"))
    assert tree.paths() == {"A": 10, "A/b": 12}


def test_the_bin_and_what_lies_in_it_are_out_of_sight(tree: ListedTree) -> None:
    tree.apply(
        folder(BIN, "Recycle Bin", recycle_bin=True),
        file(10, "gone", BIN, deleted=True),
        file(11, "not even marked", BIN),
        folder(ROOT_ID, "Documents", None),
    )
    assert tree.paths() == {}
    tree.apply(file(12, "here"))
    tree.apply_deleted(file(12, "here", BIN))
    assert tree.paths() == {}


def test_a_server_that_ignores_the_filter_empties_nothing(tree: ListedTree) -> None:
    tree.apply(file(10, "a"), folder(11, "F"))
    tree.apply_deleted(file(10, "a"), folder(11, "F"))
    assert set(tree.paths()) == {"a", "F"}


def test_what_an_answer_does_not_say_stays_known(tree: ListedTree) -> None:
    tree.apply(file(10, "a", read_only=True))
    tree.list_folder(
        ROOT,
        folder(ROOT_ID, "Documents", None),
        file(
            10,
            "a",
            read_only=None,
            created_by=None,
            created_at_s=0,
            updated_at_s=0,
            tracked=None,
            private=None,
        ),
    )
    node = tree.of(10)
    assert (node.read_only, node.created_at_s, node.updated_at_s) == (True, 1000, 2000)
    known = tree.store.known(node.document_id or file(10, "").id)
    assert known is not None
    assert SOMEBODY.login.encode() in known.detail
    tree.apply(file(10, "a", read_only=False))
    assert not tree.of(10).read_only


def test_a_folders_listing_removes_what_it_does_not_have(tree: ListedTree) -> None:
    tree.apply(folder(10, "A"), file(11, "a", 10), file(12, "b", 10))
    tree.list_folder(tree.of(10).inode, folder(10, "A"), file(12, "b", 10), refused=1)
    assert "A/a" in tree.paths()  # one item could not be understood: it may be this one
    tree.list_folder(tree.of(10).inode, folder(10, "A"), file(12, "b", 10))
    assert tree.paths() == {"A": 10, "A/b": 12}
    assert tree.of(10).listed


def test_a_folder_listed_as_deleted_is_gone(tree: ListedTree) -> None:
    tree.apply(folder(10, "A"), file(11, "a", 10))
    tree.list_folder(tree.of(10).inode, folder(10, "A", deleted=True))
    assert tree.paths() == {}


def test_an_old_answer_does_not_undo_a_newer_one(tree: ListedTree) -> None:
    tree.apply(file(10, "a"))
    with tree.applier.order.reading() as page:
        tree.apply(file(10, "b"))
        assert tree.apply(file(10, "a"), file(11, "c"), request=page).changed == {11}
    assert set(tree.paths()) == {"b", "c"}
    tree.apply(file(10, "a"))  # asked for later
    assert set(tree.paths()) == {"a", "c"}


def test_a_folder_made_during_a_look_is_known_whole(tree: ListedTree) -> None:
    tree.apply(folder(10, "new", created_at_s=5000), folder(11, "opened to us"), changes_since_s=4000)
    assert tree.of(10).listed
    assert not tree.of(11).listed


def test_a_root_that_came_as_a_folder_gives_way(tmp_path: Path) -> None:
    tree = ListedTree(tmp_path / "tree")
    tree.apply(folder(50, "The root", None), file(51, "a", 50), file(52, "a", ROOT_ID))
    tree.list_folder(ROOT, folder(50, "The root", None), file(51, "a", 50), file(53, "b", 50))
    assert tree.of(50).inode == ROOT
    assert 53 in tree.paths().values()
    tree.store.close()


def test_the_mounts_own_entry_stays_free_when_the_root_came_as_a_folder(tree: ListedTree) -> None:
    tree.apply(folder(50, "The root", None), file(51, ".procore", 50))
    tree.list_folder(ROOT, folder(50, "The root", None), refused=1)
    assert tree.paths() == {".procore ~51": 51}


def test_deleted_documents_count_as_seen_and_as_deleted(tree: ListedTree) -> None:
    tree.apply(file(10, "a"), file(11, "b", deleted=True), folder(BIN, "Bin", recycle_bin=True))
    assert (tree.store.counts.live(), tree.store.counts.rows().deleted) == (1, 1)
    assert tree.store.counts.seen(1, 0, 10**6) == 3
    tree.apply(file(10, "a", deleted=True))
    assert (tree.store.counts.live(), tree.store.counts.rows().deleted) == (0, 2)
    assert tree.store.counts.seen(1, 0, 10**6) == 3
    assert tree.of(10).state is State.DELETED


def test_restored_bytes_are_not_those_in_the_kernel(tree: ListedTree) -> None:
    tree.apply(file(10, "a"))
    inode = tree.of(10).inode
    tree.apply_deleted(file(10, "a", deleted=True))
    changed = tree.apply(file(10, "a", version=version(30)))
    assert tree.of(10).inode == inode
    assert InodeChanged(inode, data=True) in changed.invalidations


def test_a_file_without_a_usable_version(tree: ListedTree) -> None:
    tree.apply(file(10, "a", version=None, defect="its size is -1"))
    assert (tree.of(10).version, tree.of(10).defect) == (None, "its size is -1")
    assert tree.of(10).kind is Kind.FILE
    tree.apply(file(10, "a"))
    assert tree.of(10).version is not None
