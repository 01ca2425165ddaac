"""The record of how far the tree has followed Procore: kept with the rows, and taken over from earlier versions."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.sync_state import (
    COUNTINGS,
    KnownTotal,
    LastRelisting,
    ListingProgress,
    RowCounts,
    SyncState,
)
from procorefs.tree.tree_store import TreeStore

EARLIER = Path(__file__).parents[1] / "support" / "tree_before_sync_state.sql"
"""A tree during its second full listing, written by the version that kept each field as a fact."""


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(EARLIER.read_text())
    return path


def facts(path: Path) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, value FROM fact"))


def test_a_tree_of_an_earlier_version_is_taken_over(earlier: Path) -> None:
    expected = SyncState(
        is_complete=True,
        listing_pass=2,
        listing=ListingProgress(newest_s=1700000340, reached_s=1700000150),
        undisturbed_pass=1,
        newest_s=1700000340,
        settled_s=1700000334,
        unsettled=1,
        total=KnownTotal(2, RowCounts(0, 0, 0)),
        countings=COUNTINGS[:2],
        bin_total=KnownTotal(1, RowCounts(0, 0, 1)),
        relisting=LastRelisting(ended_at_s=1700000500, calls=4, futile=2),
    )
    for _ in range(2):
        with closing(TreeStore(earlier)) as store:
            assert store.sync.read() == expected
            assert store.counts.rows() == RowCounts(live=24, hidden=0, deleted=1)
            assert len(store.children(ROOT)) == 13
            assert (store.fact("mark"), store.fact("project_name")) == ("0011223344556677", "Tower")
    assert facts(earlier).keys() == {"sync_state", "mark", "project_name"}


class Interrupted(Exception):
    """What ends a transaction early."""


def _change_and_fail(store: TreeStore, *, fails_within: bool) -> None:
    with store.transaction():
        with store.sync.change() as state:
            state.newest_s = 8
            if fails_within:
                raise Interrupted
        raise Interrupted


def test_the_record_is_written_with_the_rows_or_not_at_all(tmp_path: Path) -> None:
    with closing(TreeStore(tmp_path / "tree")) as store:
        assert store.sync.read() == SyncState()
        with store.transaction(), store.sync.change() as state:
            state.newest_s = 7
            state.listing = ListingProgress(5, None)
        for fails_within in (True, False):
            with pytest.raises(Interrupted):
                _change_and_fail(store, fails_within=fails_within)
        assert store.sync.read() == SyncState(newest_s=7, listing=ListingProgress(5, None))
    with closing(TreeStore(tmp_path / "tree")) as store:
        assert store.sync.read().newest_s == 7


def test_a_record_that_cannot_be_read_is_a_damaged_tree(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tree"
    TreeStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        record = msgspec.json.encode({"listing_pass": "many"}).decode()
        db.execute("UPDATE fact SET value = ? WHERE name = 'sync_state'", (record,))
        db.commit()
    with closing(TreeStore.open(path)) as store:
        assert store.sync.read() == SyncState()
    assert "is damaged" in caplog.text
    assert len(list(tmp_path.glob("tree.damaged-*"))) == 1


def test_private_documents_of_an_earlier_version_are_known_as_such(earlier: Path) -> None:
    with closing(sqlite3.connect(earlier)) as db:
        [(inode,)] = db.execute("SELECT inode FROM node WHERE kind = 2 LIMIT 1").fetchall()
        db.execute("UPDATE node SET detail = ? WHERE inode = ?", (b'{"private":true}', inode))
        db.commit()
    with closing(TreeStore(earlier)) as store:
        node = store.by_inode(Inode(inode))
        assert node is not None
        assert node.private
        assert sum(child.private for child in store.children(ROOT)) <= 1
