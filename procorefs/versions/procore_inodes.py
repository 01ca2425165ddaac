"""Defines the inode numbers below `.procore`: each number encodes what it is for, so no table is needed.

below 2**62      the tree's inodes, and lock files beside documents
2**62 + inode    the folder below `.procore/versions` for that node; with 0 and 2, which no node has, `.procore` and
                 `status`
2**62 + 2**61 …  not inodes but handles of open files and folders
2**63 + id       a version
"""

from typing import NewType

from procorefs.procore.wire.models import VersionId
from procorefs.tree.nodes import ROOT, Inode

ProcoreInode = NewType("ProcoreInode", int)

FIRST_PROCORE_INODE = 1 << 62
"""Every inode and handle from here on is below `.procore`, and no smaller one is."""

FIRST_HANDLE = FIRST_PROCORE_INODE + (1 << 61)
_FIRST_VERSION = 1 << 63

PROCORE = ProcoreInode(FIRST_PROCORE_INODE)
VERSIONS = ProcoreInode(FIRST_PROCORE_INODE + ROOT)
"""The folder for the root."""
STATUS = ProcoreInode(FIRST_PROCORE_INODE + 2)


def folder_for(node: Inode) -> ProcoreInode:
    """The folder below `.procore/versions` for a node."""
    return ProcoreInode(FIRST_PROCORE_INODE + node)


def node_of(folder: ProcoreInode) -> Inode:
    """The node that a folder below `.procore/versions` is for."""
    return Inode(folder - FIRST_PROCORE_INODE)


def inode_of(version: VersionId) -> ProcoreInode:
    return ProcoreInode(_FIRST_VERSION + version)


def is_version(inode: ProcoreInode) -> bool:
    return inode >= _FIRST_VERSION


def version_of(inode: ProcoreInode) -> VersionId:
    return VersionId(inode - _FIRST_VERSION)
