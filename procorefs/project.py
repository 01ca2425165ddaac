"""One Procore project with all its parts in one object; the kernel's handlers reach it through an inode."""

from dataclasses import dataclass

from procorefs.cache.reader import ContentReader
from procorefs.cache.sibling_read_ahead import SiblingReadAhead
from procorefs.journal.durability import Durability
from procorefs.locks.lock_files import LockFiles
from procorefs.locks.mount_locks import Locks
from procorefs.procore.api.brief_wait import BriefWait
from procorefs.tree.nodes import Inode
from procorefs.tree.sync.follower import Follower
from procorefs.upload.commands import Commands
from procorefs.versions.version_tree import VersionTree
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View
from procorefs.xattr.attributes import Attributes


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of versions."""

    reader: ContentReader
    read_ahead: SiblingReadAhead
    """Downloads the next files of a folder that is read through."""


@dataclass(frozen=True, slots=True)
class LocalChanges:
    """What programs change: from the write to the upload."""

    dirty_files: DirtyFiles
    """The bytes that exist only here, and which files are open."""
    edits: LocalEdits
    durability: Durability
    """Brings bytes and journal to disk."""
    uploads: Commands
    """How far the changes are on their way to Procore."""

    def let_go(self, inode: Inode) -> None:
        """Drop what only the programs needed that had a file open, once none has."""
        if not self.dirty_files.is_open(inode):
            self.edits.sessions.left(inode)


@dataclass(frozen=True, slots=True)
class ProjectLocks:
    """What keeps other users from changing a document."""

    flocks: Locks
    lock_files: LockFiles
    """The lock files of office programs."""


@dataclass(frozen=True, slots=True)
class Project:
    """The parts of one project."""

    view: View
    """The tree with the local changes laid over it."""
    follower: Follower
    """Keeps the tree up to date with Procore."""
    content: Content
    changes: LocalChanges
    locks: ProjectLocks
    xattrs: Attributes
    versions: VersionTree
    """What `.procore/versions` shows."""
    brief_wait: BriefWait
    """The bounded wait for Procore under a directory's kernel lock."""


class Projects:
    """Finds the project of an inode. A mount has one project, and every inode and handle belongs to it."""

    __slots__ = ("_only",)

    def __init__(self, only: Project) -> None:
        self._only = only

    def of(self, _inode: int) -> Project:
        """The project that an inode belongs to."""
        return self._only
