"""The node of a file or folder in the tree, and what the kernel must invalidate when it changes."""

import enum
import stat
from typing import NewType

import msgspec

from procorefs.procore.wire.models import DocumentId, Kind, Version

Inode = NewType("Inode", int)

ROOT = Inode(1)
"""FUSE_ROOT_ID: the kernel knows the root by this number without asking."""

OWN_ENTRY = b".procore"
"""The mount's own entry in the root: it is not listed, and no other entry can have the name."""


def is_own_entry(folder: Inode, entry: bytes) -> bool:
    return folder == ROOT and entry == OWN_ENTRY


class State(enum.IntEnum):
    """The meaning of a row; only LIVE rows with a parent that leads to the root are in the tree."""

    LIVE = 0
    DELETED = 1
    """In Procore's recycle bin, or gone; keeps its inode in case it is restored."""
    EXPECTED = 2
    """A folder that a child named as its parent before its own item came."""
    BIN = 3
    """The recycle bin itself; no path leads to what is below it."""
    ORPHAN = 4
    """An older version that was open when a newer one came; deleted at the next start."""


class Kept(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, array_like=True):
    """What Procore does not store: times, mode and owner that were set here, and the hash of the bytes.

    Times, hash and set-ID bits belong to the version `version_id` and end with it. Mode and owner, and the times of a
    folder, belong to the document.
    """

    version_id: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    ctime_ns: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    sha256: bytes = b""

    def is_bound_to(self, version: Version | None) -> bool:
        """Whether the values were bound to the version: it was made here or showed here.

        After a power cut the tree may have an older one, and a poll brings this one as if it were new.
        """
        return version is not None and self.version_id == version.id


def bound_to(kept: Kept, version: Version) -> Kept:
    """The values for a version that Procore made of the same bytes; without the hash, which needs more proof."""
    return msgspec.structs.replace(kept, version_id=version.id, sha256=b"")


class Node(msgspec.Struct, frozen=True, gc=False):
    """A file or folder: one row of the tree."""

    inode: Inode
    parent: Inode | None
    """None: not in the tree, or in a folder that is not known (see State)."""
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
    private: bool = False
    """Procore shows it to the users only who were given access."""
    kept: Kept | None = None
    local_size_bytes: int | None = None
    """Files with local bytes that are no version of Procore, or an older one than `version`."""

    @property
    def is_folder(self) -> bool:
        return self.kind is Kind.FOLDER

    @property
    def in_tree(self) -> bool:
        """Whether a path can lead here; a removed or replaced node only serves its open handles."""
        return self.state is State.LIVE and (self.parent is not None or self.inode == ROOT)


def keeps_times(node: Node, kept: Kept) -> bool:
    """Whether the times that were set here belong to the node's version."""
    if node.is_folder or node.local_size_bytes is not None or node.version is None:
        return True
    return kept.version_id == node.version.id


def kept_of(node: Node) -> Kept:
    """What is kept of the node, without what belongs to another version."""
    kept = node.kept or Kept()
    if keeps_times(node, kept):
        return kept
    mode = None if kept.mode is None else without_set_id(kept.mode)
    return msgspec.structs.replace(kept, mtime_ns=None, atime_ns=None, ctime_ns=None, sha256=b"", mode=mode)


def without_set_id(mode: int) -> int:
    """Without the bits that another user's write removes; set-group-ID without group execute has another meaning."""
    return mode & ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))


def with_times(kept: Kept | None, time_ns: int) -> Kept:
    """The same with this mtime and ctime."""
    return msgspec.structs.replace(kept or Kept(), mtime_ns=time_ns, ctime_ns=time_ns)


class EntryGone(msgspec.Struct, frozen=True):
    """The entry `name` of `folder` leads to another inode now, or to none."""

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
"""What the kernel must invalidate after a change that it did not make itself."""
