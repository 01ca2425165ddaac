"""What stat shows of a node."""

import stat
from dataclasses import dataclass

from procorefs.kernel.bridge.native import pyfuse3
from procorefs.tree.nodes import Kept, Node, keeps_times

VALID_S = 60.0
"""How long the kernel may answer from what it was told: every change from elsewhere takes it back before."""

FIRST_SHOWN_ONLY = 1 << 60
"""Inodes from here on are on no disk and in no tree (see lock_files.py); the kernel is to ask about them each time."""

BLOCK_BYTES = 512
IO_BYTES = 1 << 17
"""st_blksize: what cp and rsync then read at once, which is what one FUSE request carries."""

_NS = 1_000_000_000
_WRITE_BITS = 0o222


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose the entries are and what their modes leave out."""

    uid: int
    gid: int
    umask: int
    masks_kept: bool = False
    """Also of modes that were set here: whoever mounts has said so."""


def attributes(node: Node, ownership: Ownership) -> pyfuse3.EntryAttributes:
    """Attributes of a node; a file's mtime is its version's: nothing that only moves `updated_at` moves it.

    What was set here (`Node.kept`) goes first: times as long as the version is the one that they belong to.
    """
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = node.inode
    entry.entry_timeout = entry.attr_timeout = VALID_S if node.inode < FIRST_SHOWN_ONLY else 0
    entry.st_uid = ownership.uid
    entry.st_gid = ownership.gid
    entry.st_blksize = IO_BYTES
    entry.st_nlink = 1 if node.in_tree else 0
    version = node.version
    mtime_s = node.updated_at_s
    if version is not None and not node.is_folder:
        mtime_s = version.created_at_s or mtime_s
    if node.is_folder:
        entry.st_mode = stat.S_IFDIR | 0o777 & ~ownership.umask
    else:
        mode = 0o666 & ~ownership.umask
        entry.st_mode = stat.S_IFREG | (mode & ~_WRITE_BITS if node.read_only else mode)
    if node.local_size_bytes is not None:
        set_size(entry, node.local_size_bytes)
    elif version is not None:
        set_size(entry, version.size_bytes)
    entry.st_mtime_ns = entry.st_atime_ns = mtime_s * _NS
    entry.st_ctime_ns = max(node.updated_at_s, mtime_s) * _NS
    if node.kept is not None:
        _show_kept(entry, node, node.kept)
        if ownership.masks_kept:
            entry.st_mode &= ~ownership.umask
    return entry


def set_size(entry: pyfuse3.EntryAttributes, size_bytes: int) -> None:
    """Size and blocks."""
    entry.st_size = size_bytes
    entry.st_blocks = -(-size_bytes // BLOCK_BYTES)


def _show_kept(entry: pyfuse3.EntryAttributes, node: Node, kept: Kept) -> None:
    if kept.mode is not None:
        mode = kept.mode & ~_WRITE_BITS if node.read_only and not node.is_folder else kept.mode
        entry.st_mode = stat.S_IFMT(entry.st_mode) | mode
    if kept.uid is not None:
        entry.st_uid = kept.uid
    if kept.gid is not None:
        entry.st_gid = kept.gid
    if keeps_times(node, kept):
        if kept.mtime_ns is not None:
            entry.st_mtime_ns = entry.st_atime_ns = kept.mtime_ns
        if kept.atime_ns is not None:
            entry.st_atime_ns = kept.atime_ns
        if kept.ctime_ns is not None:
            entry.st_ctime_ns = kept.ctime_ns
