"""What the answers to our own calls make of the tree, whatever Procore made of what was sent."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from procorefs.procore.wire.models import Document, DocumentId, Person, UserId, Version
from procorefs.tree.nodes import ROOT, EntryGone, Inode, Kept, ListingChanged
from procorefs.tree.tree_store import TreeStore
from tests.support.tree_documents import SOMEBODY, ListedTree, file, version

ME = Person(UserId(9), "Me", "me@example.com")
COMPOSED, DECOMPOSED = "Pl\u00e4ne.pdf", "Pla\u0308ne.pdf"
DONE_S = 5000


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[ListedTree]:
    made = ListedTree(tmp_path / "tree")
    yield made
    made.store.close()
    TreeStore(tmp_path / "tree").close()  # its own check


def put(tree: ListedTree, document: Document, shown: str | None = None, kept: Kept | None = None) -> Inode:
    """Our call is answered."""
    known = tree.store.known(document.id)
    inode = known.node.inode if known is not None else tree.store.reserve(1)
    with tree.applier.own.call(document.id) as request:
        request.sent()
        entry = shown.encode() if shown is not None else None
        tree.applier.own.put(document, inode, ROOT, kept, shown=entry)
    return inode


def test_an_entry_stays_what_it_was_made_as(tree: ListedTree) -> None:
    inode = put(tree, file(10, COMPOSED), DECOMPOSED)
    assert tree.paths() == {DECOMPOSED: 10}
    put(tree, file(10, COMPOSED, version=version(11), updated_at_s=DONE_S))
    tree.apply(file(10, COMPOSED, version=version(12), updated_at_s=DONE_S + 1))
    assert tree.paths() == {DECOMPOSED: 10}
    assert tree.of(10).inode == inode
    tree.apply(file(10, "other.pdf", updated_at_s=DONE_S + 2))
    assert tree.paths() == {"other.pdf": 10}


def test_an_entry_that_another_document_has_is_marked(tree: ListedTree) -> None:
    tree.apply(file(20, DECOMPOSED))
    put(tree, file(10, COMPOSED), DECOMPOSED)
    assert tree.paths() == {DECOMPOSED: 20, COMPOSED: 10}


@pytest.mark.parametrize("is_read_before", [True, False])
def test_a_poll_that_overtakes_our_answer_says_nothing_of_the_document(
    tree: ListedTree, *, is_read_before: bool
) -> None:
    """It was sent later; whether it was read before or after the call was done, nobody can tell."""
    tree.apply(file(10, "plan.pdf"))
    inode = tree.of(10).inode
    ours = msgspec.structs.replace(version(11, size_bytes=20), number=2)
    theirs = version(10) if is_read_before else msgspec.structs.replace(version(12), number=3)
    listed = file(10, "plan.pdf", version=theirs, updated_at_s=2000 if is_read_before else DONE_S + 1)
    with tree.applier.own.call(listed.id) as request:
        request.sent()
        applied = tree.apply(listed)
        assert tree.of(10).version == version(10)  # and where its bytes are is known as before
        tree.applier.own.put(file(10, "plan.pdf", version=ours, updated_at_s=DONE_S), inode, ROOT, None)
    assert (applied.overtaken, applied.changed) == ([listed], set())
    assert tree.of(10).version == ours
    tree.apply(listed)  # asked for again
    assert tree.of(10).version == theirs


def test_an_answer_that_names_no_version(tree: ListedTree) -> None:
    tree.apply(file(10, "plan.pdf"))
    answer = tree.applier.own.unchanged_bytes(file(10, "new.pdf", version=None, defect="none"), "change")
    assert (answer.version, answer.defect) == (tree.of(10).version, "")
    assert tree.applier.own.unchanged_bytes(file(11, "x", version=None), "change").version is None


def echo(**changes: object) -> Version:
    """What a server makes of the same bytes when it is asked for something else."""
    made = Version(version(77).id, 2, 10, DONE_S, "https://store.example/77", ME)
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize(
    ("answered", "is_same"),
    [
        (echo(), True),
        (echo(created_at_s=DONE_S - 1), True),
        (echo(number=1), False),
        (echo(size_bytes=11), False),
        (echo(created_by=SOMEBODY), False),
        (echo(created_by=None), False),
        (echo(created_at_s=DONE_S - 60), False),
    ],
)
def test_a_version_that_our_call_made_of_the_same_bytes(
    tree: ListedTree, answered: Version, *, is_same: bool
) -> None:
    kept = Kept(version_id=10, mtime_ns=7, sha256=b"x")
    inode = put(tree, file(10, "plan.pdf"), kept=kept)
    tree.open.add(inode)
    answer = file(10, "plan.pdf", version=answered, updated_at_s=DONE_S)
    tree.apply(tree.applier.own.unchanged_bytes(answer, "check-out"))
    assert (tree.of(10).inode == inode) is is_same
    if is_same:
        assert tree.of(10).kept == Kept(version_id=77, mtime_ns=7)


def test_a_server_that_makes_none_never_does(tree: ListedTree) -> None:
    """Then another host of the same user has made a newer version."""
    own = tree.applier.own
    inode = put(tree, file(10, "plan.pdf"))
    own.unchanged_bytes(file(10, "plan.pdf", updated_at_s=DONE_S), "check-out")
    tree.open.add(inode)
    tree.apply(own.unchanged_bytes(file(10, "plan.pdf", version=echo(), updated_at_s=DONE_S), "check-out"))
    assert tree.of(10).inode != inode


@pytest.mark.parametrize("is_removed", [True, False])
def test_an_entry_that_our_call_frees_goes_to_who_has_the_name(tree: ListedTree, *, is_removed: bool) -> None:
    """A poll showed the other document's new name before the answer to the call that freed it."""
    tree.apply(file(10, "plan.pdf"))
    tree.apply(file(20, "plan.pdf"))
    [marked] = tree.paths().keys() - {"plan.pdf"}
    before = tree.of(10)
    if is_removed:
        tree.applier.own.removed(DocumentId(10))
    else:
        put(tree, file(10, "old.pdf", updated_at_s=DONE_S))
    told = tree.applier.own.give_entry(before)
    assert tree.paths() == {"plan.pdf": 20} | ({} if is_removed else {"old.pdf": 10})
    assert told == [EntryGone(ROOT, marked.encode()), ListingChanged(ROOT)]
    assert tree.applier.own.give_entry(before) == []
