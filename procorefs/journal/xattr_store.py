"""Stores the extended attributes that Procore has no place for, by inode, in the journal's database.

The tree's database can be rebuilt from Procore, and these attributes cannot. The document of each inode is stored,
too, so that a new tree gives it the same inode.
"""

import sqlite3
from collections.abc import Callable

from procorefs.procore.wire.models import DocumentId
from procorefs.tree.nodes import Inode

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attribute (
    inode INTEGER NOT NULL,
    name  BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (inode, name)
) STRICT, WITHOUT ROWID
"""


class XattrStore:
    """The rows of attributes; raises sqlite3.Error."""

    def __init__(
        self,
        db: sqlite3.Connection,
        write: Callable[[str, tuple[object, ...]], None],
        note: Callable[[Inode, DocumentId], None],
    ) -> None:
        """`write` executes a statement within the journal's transaction; `note` records the document of an inode."""
        self._db = db
        self._write = write
        self._note = note
        db.execute(_SCHEMA)
        self._inodes: set[Inode] = set()
        self._documents: dict[DocumentId, Inode] = {}

    def bind(self, inode: Inode, document: DocumentId) -> None:
        """Record the document of the inode if it has attributes."""
        if inode in self._inodes and self._documents.get(document) != inode:
            self._note(inode, document)
            self._documents[document] = inode

    def handed_over(self, document: DocumentId, inode: Inode) -> None:
        """Note that another file takes over the document: the attributes stay with the inode that had it before."""
        before = self._documents.get(document)
        if before is not None and before != inode:
            del self._documents[document]
            self._note(inode, document)  # in the place of the inode before

    def read(self, documents: dict[Inode, DocumentId]) -> None:
        """Know again which inodes have attributes, and the documents of these: at the start and after a rollback."""
        self._inodes = {Inode(row[0]) for row in self._db.execute("SELECT DISTINCT inode FROM attribute")}
        self._documents = {documents[inode]: inode for inode in self._inodes if inode in documents}

    def has_any(self, inode: Inode) -> bool:
        """Whether the inode has attributes; known in memory."""
        return inode in self._inodes

    def of(self, inode: Inode) -> dict[bytes, bytes]:
        if inode not in self._inodes:
            return {}
        rows = self._db.execute("SELECT name, value FROM attribute WHERE inode = ? ORDER BY name", (inode,))
        return dict(rows)

    def put(self, inode: Inode, name: bytes, value: bytes) -> None:
        self._write("INSERT OR REPLACE INTO attribute VALUES (?, ?, ?)", (inode, name, value))
        self._inodes.add(inode)

    def drop(self, inode: Inode, name: bytes) -> None:
        self._write("DELETE FROM attribute WHERE inode = ? AND name = ?", (inode, name))
        if not self.of(inode):
            self._inodes.discard(inode)

    def drop_all(self, inode: Inode) -> None:
        """Drop the attributes of an inode that is never used again."""
        if inode in self._inodes:
            self._write("DELETE FROM attribute WHERE inode = ?", (inode,))
            self._inodes.discard(inode)

    def follow(self, document: DocumentId, inode: Inode) -> None:
        """Move the attributes to the document's new inode (the old one was open when a newer version came)."""
        before = self._documents.get(document)
        if before is None or before == inode or before not in self._inodes or inode in self._inodes:
            return
        self._write("UPDATE attribute SET inode = ? WHERE inode = ?", (inode, before))
        self._inodes.discard(before)
        self._inodes.add(inode)
        self.bind(inode, document)

    def sweep(self, is_there: Callable[[Inode], bool]) -> None:
        """Drop the attributes of inodes that no longer exist; at the start of a run."""
        bound = set(self._documents.values())
        for inode in [inode for inode in self._inodes if inode not in bound and not is_there(inode)]:
            self.drop_all(inode)
