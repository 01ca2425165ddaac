"""Nodes as the rest of the program sees them, and what the kernel must forget when one changes."""

import enum
from typing import NewType

import msgspec

from procorefs.procore.wire.models import DocumentId, Kind, Version

Inode = NewType("Inode", int)

ROOT = Inode(1)
"""FUSE_ROOT_ID: the kernel knows the root by this number without asking."""

OWN_ENTRY = b".procore"
"""The entry of the root that is the mount's own: it is not listed, and nothing else is made or shown under it."""


def is_own_entry(folder: Inode, entry: bytes) -> bool:
    return folder == ROOT and entry == OWN_ENTRY


class State(enum.IntEnum):
    """What a row stands for; only LIVE rows with a parent that leads to the root are in the tree."""

    LIVE = 0
    DELETED = 1  # in Procore's recycle bin, or gone; keeps its inode for the day it is restored
    EXPECTED = 2  # a folder that a child named as its parent before its own item came
    BIN = 3  # the recycle bin itself; what lies below it is out of reach
    ORPHAN = 4  # an older version that somebody had open when a newer one came; dropped at the next start


class Kept(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, array_like=True):
    """What Procore has no place for: times, mode and owner that were set here, and what our bytes hash to.

    Times and hash belong to the version `version_id` and end with it; a folder's times, and mode and owner, to the
    document.
    """

    version_id: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    ctime_ns: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    sha256: bytes = b""


def bound_to(kept: Kept, version: Version) -> Kept:
    """What was kept, for a version that Procore made of the same bytes by itself; the hash rests on more than that."""
    return msgspec.structs.replace(kept, version_id=version.id, sha256=b"")


class Node(msgspec.Struct, frozen=True, gc=False):
    """One row of the tree, checked and typed."""

    inode: Inode
    parent: Inode | None
    """None: not in the tree, or its folder is not known (see State)."""
    shown: bytes
    """The directory entry's name; unique among the entries of `parent`."""
    document_id: DocumentId | None
    kind: Kind
    state: State
    listed: bool
    """Folders: all children are known."""
    read_only: bool
    created_at_s: int
    updated_at_s: int
    version: Version | None
    defect: str
    """Files: why there is no usable version; empty when there is one."""
    kept: Kept | None = None
    local_size_bytes: int | None = None
    """Files whose bytes lie here and are no version of Procore's, or an older one than `version`."""

    @property
    def is_folder(self) -> bool:
        return self.kind is Kind.FOLDER

    @property
    def in_tree(self) -> bool:
        """Whether a path can lead here; a removed or replaced node answers False and serves only its open handles."""
        return self.state is State.LIVE and (self.parent is not None or self.inode == ROOT)


def keeps_times(node: Node, kept: Kept) -> bool:
    """Whether the times that were set here still belong to what the node is."""
    if node.is_folder or node.local_size_bytes is not None or node.version is None:
        return True
    return kept.version_id == node.version.id


def kept_of(node: Node) -> Kept:
    """What is kept of the node as it is now: nothing that belongs to another version."""
    kept = node.kept or Kept()
    if keeps_times(node, kept):
        return kept
    return msgspec.structs.replace(kept, mtime_ns=None, atime_ns=None, ctime_ns=None, sha256=b"")


def with_times(kept: Kept | None, time_ns: int) -> Kept:
    """What is kept of a node whose mtime and ctime are that."""
    return msgspec.structs.replace(kept or Kept(), mtime_ns=time_ns, ctime_ns=time_ns)


class EntryGone(msgspec.Struct, frozen=True):
    """The entry `name` of `folder` leads elsewhere now, or nowhere."""

    folder: Inode
    name: bytes


class ListingChanged(msgspec.Struct, frozen=True):
    """The listing of `folder` has other entries than before."""

    folder: Inode


class InodeChanged(msgspec.Struct, frozen=True):
    """Attributes of `inode` changed, and with `data` its bytes."""

    inode: Inode
    data: bool


Invalidation = EntryGone | ListingChanged | InodeChanged
"""What the kernel must forget after a change that did not come through it."""
