"""Inode numbers below `.procore`: each says by itself what it stands for, so none has to be remembered.

below 2**62      the tree's, and of whatever else shows among documents
2**62 + inode    the mirror of that node; with 0 and 2, which no node has, `.procore` and `status`
2**62 + 2**61 …  not inodes but handles of open files and folders
2**63 + id       a version
"""

from typing import NewType

from procorefs.procore.wire.models import VersionId
from procorefs.tree.nodes import ROOT, Inode

VirtualInode = NewType("VirtualInode", int)

FIRST_VIRTUAL = 1 << 62
"""Every inode and handle from here on is virtual, and none below."""

FIRST_HANDLE = FIRST_VIRTUAL + (1 << 61)
_FIRST_VERSION = 1 << 63

PROCORE = VirtualInode(FIRST_VIRTUAL)
VERSIONS = VirtualInode(FIRST_VIRTUAL + ROOT)
"""The root, mirrored."""
STATUS = VirtualInode(FIRST_VIRTUAL + 2)


def mirror_of(inode: Inode) -> VirtualInode:
    return VirtualInode(FIRST_VIRTUAL + inode)


def mirrored(inode: VirtualInode) -> Inode:
    """Whose mirror it is."""
    return Inode(inode - FIRST_VIRTUAL)


def inode_of(version: VersionId) -> VirtualInode:
    return VirtualInode(_FIRST_VERSION + version)


def is_version(inode: VirtualInode) -> bool:
    return inode >= _FIRST_VERSION


def version_of(inode: VirtualInode) -> VersionId:
    return VersionId(inode - _FIRST_VERSION)
