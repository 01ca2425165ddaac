"""Stores the tree in one SQLite file: every node, by inode, by document and by directory entry.

All calls are short, synchronous and made on the event loop's thread, so the tree does not change between two awaits;
other modules rely on that. Only `checkpoint` and `DocumentCounts.sizes` open a connection of their own and may run in a
thread.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from procorefs.procore.wire.models import DocumentId, Kind, Version
from procorefs.storage.failures import UNDECODABLE
from procorefs.storage.sqlite_files import checkpoint, is_damage, move_aside, open_database
from procorefs.tree.document_counts import DocumentCounts
from procorefs.tree.nodes import ROOT, Inode, Kept, Node, State
from procorefs.tree.rows import (
    APART,
    COLUMNS,
    FIRST_INODE,
    INSERT,
    LONGEST_BELOW,
    OLDER_VERSION,
    ORPHANED,
    SCHEMA,
    SCHEMA_VERSION,
    TAKE_OVER,
    UPDATE,
    WRITTEN,
    Known,
    Row,
    node_of,
)
from procorefs.tree.sync_state import SyncStateRow

log = logging.getLogger(__name__)

HOT_NODES = 4096

DEEPEST = 2048
"""Folders above each other: PATH_MAX allows no more. Answers of different times can put two folders into each other, so
every walk upwards ends here."""

WAL_EMERGENCY_PAGES = 16_384
"""A commit writes the log back only after 64 MiB without a `checkpoint`: that waits for the disk."""

CHECKPOINT_CHANGES = 10_000
"""Rows written between two checkpoints: some 10 MiB of log."""

CHECKED_AT_START_BYTES = 64 << 20
"""A larger tree is checked at the start only after a read from it failed: checking takes some 0.3 s for 100 MB."""


class TreeDamaged(Exception):
    """The file cannot be read as a tree of this version."""


class TreeStore:
    """The rows, found by inode, by document and by entry.

    Raises TreeDamaged when the file is no tree of this format, sqlite3.OperationalError when it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checkpointed_changes = 0
        self._moves = 0
        """Counts changes that may change which node is below which."""
        self._hot: dict[Inode | tuple[Inode, bytes], Node | None] = {}
        """Nodes that were looked up since the last transaction."""
        try:
            self._db = open_database(path, checkpoint_pages=WAL_EMERGENCY_PAGES)
            try:
                self._prepare()
                self.sync = SyncStateRow(self._db)
                """How far the tree has followed Procore."""
            except BaseException:
                self._db.close()
                raise
        except (sqlite3.Error, *UNDECODABLE) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error):
                raise
            raise TreeDamaged(str(error)) from error
        self.counts = DocumentCounts(self._db, path, lambda: self._moves)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The tree at `path`; a damaged file is moved aside and a new one begun, with a warning."""
        try:
            return cls(path)
        except TreeDamaged as error:
            aside, _ = move_aside(path)
            _damage_mark(path).unlink(missing_ok=True)
            log.warning(
                "The tree %s is damaged (%s); it was moved to %s; the project is listed again.",
                path,
                error,
                aside,
            )
            return cls(path)

    def close(self) -> None:
        self._db.close()

    def _prepare(self) -> None:
        run = self._db.execute
        run("PRAGMA cache_size = -16384")
        version = run("PRAGMA user_version").fetchone()[0]
        if version == OLDER_VERSION:
            self._db.executescript(TAKE_OVER)
            version = SCHEMA_VERSION
        if version not in (0, SCHEMA_VERSION):
            raise TreeDamaged(f"it has the format {version}, this version reads {SCHEMA_VERSION}")
        if version == 0:
            self._db.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif _damage_mark(self._path).exists() or self._path.stat().st_size <= CHECKED_AT_START_BYTES:
            self._check()
        run(f"DELETE FROM node WHERE {APART} AND state = {State.ORPHAN.value}")
        if run("SELECT 1 FROM node WHERE inode = ?", (ROOT,)).fetchone() is None:
            raise TreeDamaged("its root is missing")

    def _check(self) -> None:
        """Raise TreeDamaged unless SQLite can read all pages and every entry is in a folder."""
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise TreeDamaged(verdict)
        lost = self._db.execute(
            "SELECT child.inode FROM node child LEFT JOIN node folder ON folder.inode = child.parent"
            " WHERE child.parent IS NOT NULL AND (folder.kind IS NOT 1 OR child.shown = x'') LIMIT 1"
        ).fetchone()
        if lost is not None:
            raise TreeDamaged(f"inode {lost[0]} is in no folder")
        _damage_mark(self._path).unlink(missing_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, also through kill -9; contains no await."""
        self._db.execute("BEGIN")
        self._hot.clear()
        try:
            yield
            self._db.execute("COMMIT")  # on a full disk this is what fails
            self._hot.clear()
        except BaseException:
            if self._db.in_transaction:  # after some errors SQLite has rolled back already
                self._db.execute("ROLLBACK")
            raise

    # Reading

    @property
    def moves(self) -> int:
        """Changes when a node may have moved."""
        return self._moves

    def by_inode(self, inode: Inode) -> Node | None:
        """The node of an inode; cached until the next transaction, because folders are read again and again."""
        if not self._db.in_transaction and inode in self._hot:
            return self._hot[inode]
        row = self._db.execute(f"SELECT {COLUMNS} FROM node WHERE inode = ?", (inode,)).fetchone()
        return self._remember(node_of(row) if row else None, inode)

    def _remember(self, node: Node | None, by: Inode | tuple[Inode, bytes]) -> Node | None:
        if not self._db.in_transaction:
            if len(self._hot) >= HOT_NODES:
                self._hot.clear()
            self._hot[by] = node
        return node

    def documents_at(self, inodes: Iterable[Inode]) -> dict[Inode, DocumentId | None]:
        """The document of each of these inodes that has a row: one query for a hundred thousand."""
        rows = self._db.execute(
            "SELECT node.inode, document_id FROM json_each(?) wanted CROSS JOIN node ON node.inode = wanted.value",
            (msgspec.json.encode(list(inodes)).decode(),),
        )
        return dict(rows)

    def known(self, document_id: DocumentId) -> Known | None:
        """What is known of a document, in the tree or not."""
        row = self._db.execute(
            f"SELECT {COLUMNS}, name, detail, pass FROM node WHERE document_id = ?", (document_id,)
        ).fetchone()
        return Known(node_of(row), row[17], row[18], row[19]) if row else None

    def child(self, folder: Inode, shown: bytes) -> Node | None:
        """The node of an entry; cached too, because creating a file reads it several times."""
        if not self._db.in_transaction and (folder, shown) in self._hot:
            return self._hot[folder, shown]
        row = self._db.execute(
            f"SELECT {COLUMNS} FROM node WHERE parent = ? AND shown = ?", (folder, shown)
        ).fetchone()
        return self._remember(node_of(row) if row else None, (folder, shown))

    def has_entry(self, folder: Inode, shown: bytes) -> bool:
        found = self._db.execute("SELECT 1 FROM node WHERE parent = ? AND shown = ?", (folder, shown))
        return found.fetchone() is not None

    def marked(self, folder: Inode, name: str, but: DocumentId | None = None) -> Inode | None:
        """The oldest node of the folder that has this name but another entry, except of the document `but`."""
        row = self._db.execute(
            "SELECT inode FROM node WHERE parent = ? AND name = ? AND parent IS NOT NULL"
            " AND shown <> CAST(name AS BLOB) AND document_id IS NOT ? ORDER BY inode LIMIT 1",
            (folder, name, but),
        ).fetchone()
        return Inode(row[0]) if row else None

    def give_entry(self, folder: Inode, shown: bytes, but: DocumentId | None = None) -> Node | None:
        """An entry may have become free: give it to the oldest node of that name. Returns that node as it was.

        `but`: the document that left it, which keeps the entry it was sent with, whatever Procore made of the name.
        """
        if self.has_entry(folder, shown):
            return None
        inode = self.marked(folder, shown.decode("utf-8", "replace"), but)
        node = self.by_inode(inode) if inode is not None else None
        if node is not None:
            self.show(node.inode, shown)
        return node

    def children(self, folder: Inode, *, after: int = 0, limit: int = -1) -> list[Node]:
        """Entries of a folder in the order of their inodes, which stays while entries are added and removed."""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM node WHERE parent = ? AND inode > ? ORDER BY inode LIMIT ?",
            (folder, after, limit),
        )
        return [node_of(row) for row in rows]

    def files_after_inode(self, folder: Inode, inode: Inode, limit: int) -> list[Node]:
        """The next files of a folder as it is listed."""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM node WHERE parent = ? AND inode > ? AND kind = 2 ORDER BY inode LIMIT ?",
            (folder, inode, limit),
        )
        return [node_of(row) for row in rows]

    def files_after_name(self, folder: Inode, shown: bytes, limit: int) -> list[Node]:
        """The next files of a folder in the order of their names' bytes."""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM node WHERE parent = ? AND shown > ? AND kind = 2 ORDER BY shown LIMIT ?",
            (folder, shown, limit),
        )
        return [node_of(row) for row in rows]

    def path(self, inode: Inode) -> str:
        """The path below the mount point, for people; '' for the root, and the bare name of what is not in the tree."""
        parts: list[str] = []
        at: Inode | None = inode
        while at is not None and at != ROOT and len(parts) < DEEPEST:
            row = self._db.execute("SELECT parent, shown FROM node WHERE inode = ?", (at,)).fetchone()
            if row is None:
                break
            at, shown = row
            parts.append(shown.decode("utf-8", "replace"))
        return "/".join(reversed(parts))

    def place(self, inode: Inode) -> tuple[tuple[Inode, bytes], ...] | None:
        """Folder and entry of a node and of each folder above it; None when no path leads from the root to it."""
        chain: list[tuple[Inode, bytes]] = []
        at = inode
        while at != ROOT:
            row = self._db.execute("SELECT parent, shown, state FROM node WHERE inode = ?", (at,)).fetchone()
            if row is None or row[0] is None or row[2] != State.LIVE.value or len(chain) == DEEPEST:
                return None
            at = row[0]
            chain.append((at, row[1]))
        return tuple(chain)

    def reachable(self, inode: Inode) -> bool:
        """Whether a path from the root leads to the node: neither it nor a folder above it was removed."""
        return self.depth(inode) is not None

    def depth(self, inode: Inode) -> int | None:
        """How many folders are above a node; None when no path leads from the root to it."""
        place = self.place(inode)
        return None if place is None else len(place)

    def fact(self, name: str) -> Any:  # noqa: ANN401 - whatever SQLite holds
        """A number or text that another part keeps with the tree; None when there is none."""
        row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    # Writing: within `transaction`

    def remember(self, name: str, value: int | str | None) -> None:
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def insert(self, row: Row, inode: Inode | None = None) -> Inode:
        """A new row, under the next inode number or one that was reserved for it."""
        self._moves += 1
        return Inode(self._db.execute(INSERT, (inode, *row.values())).lastrowid or 0)

    def update(self, inode: Inode, row: Row) -> None:
        self._moves += 1
        self._db.execute(UPDATE, (*row.values(), inode))

    def see(self, inode: Inode, listing_pass: int, url: str | None) -> None:
        """Note that a listing had the node unchanged; only the URL of its bytes differs each time."""
        self._db.execute(
            "UPDATE node SET pass = max(pass, ?), url = ? WHERE inode = ?", (listing_pass, url, inode)
        )

    def set_version(self, inode: Inode, version: Version) -> None:
        """The same bytes under another version."""
        self._db.execute(
            "UPDATE node SET version_id = ?, version_number = ?, version_created_at = ?, url = ? WHERE inode = ?",
            (version.id, version.number, version.created_at_s, version.url, inode),
        )

    def touch(self, inode: Inode, updated_at_s: int) -> None:
        self._db.execute("UPDATE node SET updated_at = ? WHERE inode = ?", (updated_at_s, inode))

    def bind_root(self, document_id: DocumentId, created_at_s: int, updated_at_s: int) -> None:
        self._db.execute(
            "UPDATE node SET (document_id, created_at, updated_at) = (?, ?, ?) WHERE inode = ?",
            (document_id, created_at_s, updated_at_s, ROOT),
        )

    def detach(self, inode: Inode, state: State) -> None:
        """Take a node out of the tree, and with it everything below: no path leads there any more."""
        self._moves += 1
        self._db.execute(
            "UPDATE node SET parent = NULL, state = ?, pass = 0 WHERE inode = ?", (state.value, inode)
        )

    def release_children(self, folder: Inode) -> None:
        """Take the entries of a folder out of it, because it is no folder any more."""
        self._moves += 1
        self._db.execute("UPDATE node SET parent = NULL WHERE parent = ?", (folder,))

    def show(self, inode: Inode, shown: bytes) -> None:
        """Give a node another entry in the same folder."""
        self._db.execute("UPDATE node SET shown = ? WHERE inode = ?", (shown, inode))

    def orphan(self, inode: Inode) -> None:
        """Leave an older version to its open handles; its document continues under another inode."""
        self._moves += 1
        self._db.execute(
            "UPDATE node SET parent = NULL, document_id = NULL, state = ?, pass = 0 WHERE inode = ?",
            (State.ORPHAN.value, inode),
        )

    def expect(self, document_id: DocumentId, inode: Inode | None = None) -> Inode:
        """A row for a document that no listing has brought yet: the parent of another, or one that has an inode."""
        row = Row(
            None, b"", "", document_id, Kind.FOLDER, State.EXPECTED, False, False, 0, 0, None, "", b"{}", 0
        )
        return self.insert(row, inode)

    def adopt(self, folder: Inode, successor: Inode) -> None:
        """Move the entries of one folder to another; one whose name is taken there comes with the next listing."""
        self._moves += 1
        self._db.execute("UPDATE OR IGNORE node SET parent = ? WHERE parent = ?", (successor, folder))
        self.release_children(folder)

    def set_listed(self, folder: Inode, listed: bool) -> None:
        self._db.execute("UPDATE node SET listed = ? WHERE inode = ?", (listed, folder))

    def unlist_below(self, folder: Inode) -> None:
        """Have all folders below listed again when they are opened: their contents were out of the tree for a while."""
        self._db.execute(
            "WITH RECURSIVE below(inode) AS ("
            " SELECT inode FROM node WHERE parent = ? AND kind = 1"
            " UNION SELECT child.inode FROM below JOIN node child ON child.parent = below.inode AND child.kind = 1)"
            " UPDATE node SET listed = 0 WHERE inode IN below",
            (folder,),
        )

    def set_all_listed(self, limit: int = -1) -> int:
        """Note of at most `limit` folders that their children are known; returns of how many."""
        done = self._db.execute(
            "UPDATE node SET listed = 1 WHERE inode IN"
            " (SELECT inode FROM node WHERE kind = 1 AND listed = 0 LIMIT ?)",
            (limit,),
        )
        return done.rowcount

    # What was changed here

    def reserve(self, count: int) -> Inode:
        """The first of `count` inode numbers for files that Procore does not have yet; no document gets them."""
        (last,) = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'node'").fetchone()
        self._db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'node'", (last + count,))
        return Inode(last + 1)

    def last_reserved(self) -> Inode:
        """The highest inode number in use; a listing gives new documents higher ones."""
        (last,) = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'node'").fetchone()
        return Inode(last)

    def reserve_beyond(self, inode: Inode) -> None:
        """Never give out that number or a lower one: a journal of an earlier tree names it."""
        self._db.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'node'", (max(inode, FIRST_INODE),)
        )

    def move_row(self, inode: Inode, to: Inode) -> None:
        """Give a document another inode, one that has no row, and move what is in it."""
        self._moves += 1
        self._db.execute("UPDATE node SET inode = ? WHERE inode = ?", (to, inode))
        self._db.execute("UPDATE node SET parent = ? WHERE parent = ?", (to, inode))

    def copy_orphan(self, inode: Inode, to: Inode) -> None:
        """Move a document `to` another inode, and leave a copy as an orphan to the open handles of `inode`."""
        self.move_row(inode, to)
        self._db.execute(
            f"INSERT INTO node (inode, {WRITTEN}, listed, kept)"
            f" SELECT ?, {ORPHANED}, 0, kept FROM node WHERE inode = ?",
            (inode, to),
        )

    def keep(self, inode: Inode, kept: Kept | None) -> None:
        self._db.execute(
            "UPDATE node SET kept = ? WHERE inode = ?",
            (msgspec.msgpack.encode(kept) if kept is not None else None, inode),
        )

    def longest_below(self, folder: Inode) -> int:
        """Characters of the longest path below a folder, from it, without a leading '/'; 0 when it is empty."""
        (longest,) = self._db.execute(LONGEST_BELOW, (folder,)).fetchone()
        return int(longest or 0)

    # The file

    def checkpoint_due(self) -> bool:
        """Whether `checkpoint` should be called now; the caller that gets True must call it."""
        changes = self._db.total_changes
        if changes - self._checkpointed_changes < CHECKPOINT_CHANGES:
            return False
        self._checkpointed_changes = changes
        return True

    def checkpoint(self) -> None:
        """Write the log back; waits for the disk, so it runs in a thread, on a connection of its own."""
        checkpoint(self._path)

    def mark_damaged(self) -> None:
        """Have the next start check the file: a read from it failed."""
        _damage_mark(self._path).touch(mode=0o600)


def _damage_mark(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")
