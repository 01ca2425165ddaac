"""Counts the documents of the tree, and finds those that a full listing did not see."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from procorefs.tree.nodes import ROOT, Inode, Node, State
from procorefs.tree.rows import APART, COLUMNS, node_of
from procorefs.tree.sync_state import RowCounts


@dataclass(frozen=True, slots=True)
class Sizes:
    """What statfs tells: how many documents there are and how many bytes their newest versions have."""

    documents: int
    size_bytes: int


class DocumentCounts:
    """Questions about all rows, on the tree's own connection."""

    def __init__(self, db: sqlite3.Connection, path: Path, moves: Callable[[], int]) -> None:
        """`moves`: a count that differs whenever a row may have another place."""
        self._db = db
        self._path = path
        self._moves = moves
        self._hidden: tuple[int, int] | None = None
        """The count of moves, and the hidden documents at that count."""

    def rows(self) -> RowCounts:
        return RowCounts(self.live(), self.hidden(), self._deleted())

    def live(self) -> int:
        """How many documents Procore lists as existing, without the root."""
        (rows,) = self._db.execute("SELECT count(*) FROM node").fetchone()
        (apart,) = self._db.execute(f"SELECT count(*) FROM node WHERE {APART}").fetchone()
        return int(rows - apart - 1)

    def hidden(self) -> int:
        """How many documents that count as existing are below a deleted folder."""
        if self._hidden is None or self._hidden[0] != self._moves():
            (hidden,) = self._db.execute(
                "WITH RECURSIVE below(inode) AS ("
                " SELECT child.inode FROM node folder INDEXED BY node_apart"
                "  CROSS JOIN node child ON child.parent = folder.inode"
                f" WHERE folder.{APART}"
                " UNION ALL SELECT child.inode FROM below CROSS JOIN node child ON child.parent = below.inode)"
                " SELECT count(*) FROM below"
            ).fetchone()
            self._hidden = (self._moves(), int(hidden))
        return self._hidden[1]

    def unlisted_in(self, folder: Inode) -> int:
        """How many folders in a folder are not listed."""
        found = self._db.execute(
            "SELECT count(*) FROM node WHERE parent = ? AND kind = 1 AND listed = 0", (folder,)
        )
        return int(found.fetchone()[0])

    def _deleted(self) -> int:
        found = self._db.execute(f"SELECT count(*) FROM node WHERE {APART} AND state = {State.DELETED.value}")
        return int(found.fetchone()[0])

    def last_inode(self) -> Inode:
        return Inode(self._db.execute("SELECT max(inode) FROM node").fetchone()[0])

    def seen(self, listing_pass: int, first: int, last: int) -> int:
        """How many rows with inodes from `first` to `last` were in an answer of that full listing."""
        found = self._db.execute(
            "SELECT count(*) FROM node WHERE inode BETWEEN ? AND ? AND pass = ?", (first, last, listing_pass)
        )
        return int(found.fetchone()[0])

    def unseen(self, listing_pass: int, first: int, last: int) -> list[Node]:
        """Documents in that range of inodes that were in no answer of it, without the root."""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM node"
            " WHERE inode BETWEEN ? AND ? AND pass < ? AND state = 0 AND document_id IS NOT NULL AND inode <> ?",
            (first, last, listing_pass, ROOT),
        )
        return [node_of(row) for row in rows]

    def folders_of_unseen(self, listing_pass: int, first: int, last: int) -> list[Inode]:
        """Folders that an answer of that full listing had, and that hold documents of the range that none had."""
        rows = self._db.execute(
            "SELECT DISTINCT folder.inode FROM node child CROSS JOIN node folder ON folder.inode = child.parent"
            " WHERE child.inode BETWEEN ? AND ? AND child.pass < ? AND child.state = 0"
            " AND child.document_id IS NOT NULL"
            " AND (folder.inode = ? OR (folder.state = 0 AND folder.pass >= ?)) ORDER BY folder.inode",
            (first, last, listing_pass, ROOT, listing_pass),
        )
        return [Inode(row[0]) for row in rows]

    def sizes(self) -> Sizes:
        """Documents and their bytes; opens its own connection, so it may run in a thread."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as db:
            count, size = db.execute("SELECT count(*), total(size) FROM node WHERE state = 0").fetchone()
        return Sizes(documents=count - 1, size_bytes=int(size))
