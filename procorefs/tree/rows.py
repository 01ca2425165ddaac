"""The schema of the tree's file, the columns of a row, and how a row becomes a Node."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from procorefs.procore.wire.models import DocumentId, Kind, Version
from procorefs.tree.nodes import ROOT, Inode, Kept, Node, State

SCHEMA_VERSION = 3
OLDER_VERSION = 2
"""Had no PRIVATE in `access`, which was called `read_only`."""

READ_ONLY, PRIVATE = 1, 2
"""Bits of `access`."""
FIRST_INODE = 1024
"""Lower numbers are the root, reserved ones, and the offsets of '.' and '..' in a listing."""

SCHEMA = f"""
CREATE TABLE node (
    inode       INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, not even after the row is gone
    parent      INTEGER,           -- inode of the folder; NULL: not in the tree
    shown       BLOB NOT NULL,     -- the directory entry; name is what Procore calls it
    name        TEXT NOT NULL,
    document_id INTEGER UNIQUE,    -- NULL: an ORPHAN
    kind        INTEGER NOT NULL,  -- 1 folder, 2 file
    state       INTEGER NOT NULL,  -- nodes.State
    listed      INTEGER NOT NULL,  -- folder: all children are rows
    access      INTEGER NOT NULL,  -- READ_ONLY and PRIVATE
    created_at  INTEGER NOT NULL,  -- Unix seconds, as all times here
    updated_at  INTEGER NOT NULL,
    version_id  INTEGER,           -- NULL: folder, or no usable version (see defect)
    version_number INTEGER,
    size        INTEGER,
    version_created_at INTEGER,
    url         TEXT,
    defect      TEXT NOT NULL,
    detail      BLOB NOT NULL,     -- document_detail.Detail as JSON
    pass        INTEGER NOT NULL,  -- number of the last full listing during which an answer had it
    kept        BLOB               -- nodes.Kept as MessagePack: what was set here and Procore does not store
) STRICT;
CREATE UNIQUE INDEX node_entry ON node (parent, shown) WHERE parent IS NOT NULL;
CREATE INDEX node_children ON node (parent);
CREATE INDEX node_marked ON node (parent, name) WHERE parent IS NOT NULL AND shown <> CAST(name AS BLOB);
CREATE INDEX node_apart ON node (state) WHERE state <> 0;
CREATE INDEX node_unlisted ON node (inode) WHERE kind = 1 AND listed = 0;
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
INSERT INTO node
    VALUES ({ROOT}, NULL, x'', '', NULL, 1, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, '', x'7b7d', 0, NULL);
UPDATE sqlite_sequence SET seq = {FIRST_INODE - 1} WHERE name = 'node';
"""

COLUMNS = (
    "inode, parent, shown, document_id, kind, state, listed, access, created_at, updated_at, "
    "version_id, version_number, size, version_created_at, url, defect, kept"
)
_KEPT = msgspec.msgpack.Decoder(Kept)
APART = "state <> 0"
"""Written like this SQLite uses the index node_apart; it does not for `state = 1`."""

_KINDS = {1: Kind.FOLDER, 2: Kind.FILE}
_KIND_CODES = {kind: code for code, kind in _KINDS.items()}
_STATES = tuple(State)


@dataclass(slots=True)
class Row:
    """A row to be written: a node, and the columns that only the store reads."""

    parent: Inode | None
    shown: bytes
    name: str
    document_id: DocumentId
    kind: Kind
    state: State
    read_only: bool
    private: bool
    created_at_s: int
    updated_at_s: int
    version: Version | None
    defect: str
    detail: bytes
    listing_pass: int

    def values(self) -> tuple[Any, ...]:
        version = self.version
        return (
            self.parent,
            self.shown,
            self.name,
            self.document_id,
            _KIND_CODES[self.kind],
            self.state.value,
            READ_ONLY * self.read_only | PRIVATE * self.private,
            self.created_at_s,
            self.updated_at_s,
            version.id if version else None,
            version.number if version else None,
            version.size_bytes if version else None,
            version.created_at_s if version else None,
            version.url if version else None,
            self.defect,
            self.detail,
            self.listing_pass,
        )


class Known(NamedTuple):
    """What the tree knows of a document."""

    node: Node
    name: str
    """As Procore has it; `node.shown` may differ."""
    detail: bytes
    listing_pass: int


WRITTEN = (
    "parent, shown, name, document_id, kind, state, access, created_at, updated_at, version_id, version_number, "
    "size, version_created_at, url, defect, detail, pass"
)
ORPHANED = (
    WRITTEN.replace("parent, ", "NULL, ", 1)
    .replace("document_id, ", "NULL, ", 1)
    .replace("state, ", f"{State.ORPHAN.value}, ", 1)
)
INSERT = f"INSERT INTO node (inode, {WRITTEN}, listed) VALUES ({', '.join('?' * 18)}, 0)"
UPDATE = f"UPDATE node SET ({WRITTEN}) = ({', '.join('?' * 17)}) WHERE inode = ?"


LONGEST_BELOW = (
    "WITH RECURSIVE below(inode, length) AS ("
    " SELECT inode, length(name) FROM node WHERE parent = ? AND state = 0"
    " UNION ALL SELECT child.inode, below.length + 1 + length(child.name)"
    "  FROM below JOIN node child ON child.parent = below.inode AND child.state = 0)"
    " SELECT max(length) FROM below"
)
"""The number of characters of the longest path below a folder."""

TAKE_OVER = f"""
BEGIN IMMEDIATE;
ALTER TABLE node RENAME COLUMN read_only TO access;
UPDATE node SET access = access | {PRIVATE} WHERE json_extract(CAST(detail AS TEXT), '$.private') = 1;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
"""Makes a file of OLDER_VERSION one of this version."""


def node_of(row: tuple[Any, ...]) -> Node:
    version = None
    if row[10] is not None:
        version = Version(
            id=row[10], number=row[11], size_bytes=row[12], created_at_s=row[13], url=row[14], created_by=None
        )
    return Node(
        inode=row[0],
        parent=row[1],
        shown=row[2],
        document_id=row[3],
        kind=_KINDS[row[4]],
        state=_STATES[row[5]],
        listed=bool(row[6]),
        read_only=bool(row[7] & READ_ONLY),
        private=bool(row[7] & PRIVATE),
        created_at_s=row[8],
        updated_at_s=row[9],
        version=version,
        defect=row[15],
        kept=_KEPT.decode(row[16]) if row[16] is not None else None,
    )
