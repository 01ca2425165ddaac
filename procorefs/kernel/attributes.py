"""Decides what stat shows for a node, and what chmod, chown and utimens store for it."""

import stat
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from procorefs.kernel.bridge.native import pyfuse3
from procorefs.locks.lock_files import FIRST_LOCK_FILE
from procorefs.storage import clocks
from procorefs.tree.nodes import Kept, Node, kept_of, without_set_id

VALID_S = 60.0
"""How long the kernel may answer from its cache; a change from elsewhere invalidates the cache earlier."""

BLOCK_BYTES = 512
IO_BYTES = 1 << 17
"""st_blksize: cp and rsync read this much at once; it is the maximum of one FUSE request."""

_NS = 1_000_000_000
_WRITE_BITS = 0o222
_OTHERS_BITS = 0o077
_MODE_BITS = 0o7777


@dataclass(frozen=True, slots=True)
class Ownership:
    """Owner and group of all entries, and the mode bits to remove (options `uid`, `gid`, `umask`)."""

    uid: int
    gid: int
    umask: int
    masks_kept: bool = False
    """Whether the umask also applies to modes that were set here, because the option was given."""
    hides_private: bool = False
    """Whether documents that are private in Procore are for the owner alone: other users reach the mount."""
    reads_only: Callable[[], bool] = lambda: False
    """Whether the account is known to be one that may only read: then nothing is writable."""


def attributes(node: Node, ownership: Ownership) -> pyfuse3.EntryAttributes:
    """Attributes of a node; a file's mtime is that of its version, and does not follow `updated_at`.

    Values that were set here (`Node.kept`) take precedence; times only for the version that they were set for.
    """
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = node.inode
    entry.entry_timeout = entry.attr_timeout = VALID_S if node.inode < FIRST_LOCK_FILE else 0
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
        _show_kept(entry, node, kept_of(node))
        if ownership.masks_kept:
            entry.st_mode &= ~ownership.umask
    if ownership.reads_only():
        entry.st_mode &= ~_WRITE_BITS
    if node.private and ownership.hides_private:
        entry.st_mode &= ~_OTHERS_BITS
    return entry


def set_size(entry: pyfuse3.EntryAttributes, size_bytes: int) -> None:
    """Set size and blocks."""
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
    if kept.mtime_ns is not None:
        entry.st_mtime_ns = entry.st_atime_ns = kept.mtime_ns
    if kept.atime_ns is not None:
        entry.st_atime_ns = kept.atime_ns
    if kept.ctime_ns is not None:
        entry.st_ctime_ns = kept.ctime_ns


def kept_of_new(mode: int, ctx: pyfuse3.RequestContext, ownership: Ownership) -> Kept:
    """Mode and owner to store for a new entry; the owner only if it differs from that of all entries."""
    return Kept(
        mode=mode & _MODE_BITS & ~ctx.umask,
        uid=ctx.uid if ctx.uid != ownership.uid else None,
        gid=ctx.gid if ctx.gid != ownership.gid else None,
    )


def kept_after_setattr(kept: Kept, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields) -> Kept:
    """What to store after a setattr."""
    new: dict[str, int] = {}
    if fields.update_mode:
        new["mode"] = attr.st_mode & _MODE_BITS
    if fields.update_uid:
        new["uid"] = attr.st_uid
    if fields.update_gid:
        new["gid"] = attr.st_gid
    if fields.update_mtime:
        new["mtime_ns"] = attr.st_mtime_ns
    if fields.update_atime:
        new["atime_ns"] = attr.st_atime_ns
    if not new:
        return kept
    new["ctime_ns"] = clocks.file_ns()
    return msgspec.structs.replace(kept, **new)


def without_set_id_bits(kept: Kept) -> Kept:
    """Without the bits that a write removes."""
    if kept.mode is None or kept.mode == without_set_id(kept.mode):
        return kept
    return msgspec.structs.replace(kept, mode=without_set_id(kept.mode), ctime_ns=clocks.file_ns())
