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
    """Reads the bytes of versions."""

    reader: ContentReader
    read_ahead: SiblingReadAhead
    """Downloads the next files of a folder that a program reads file by file."""


@dataclass(frozen=True, slots=True)
class LocalChanges:
    """The changes of programs, from the write to the upload."""

    dirty_files: DirtyFiles
    """The bytes that exist only on this machine, and which files are open."""
    edits: LocalEdits
    durability: Durability
    """Brings bytes and journal to disk."""
    uploads: Commands
    """The states of the changes, and what people ask for."""

    def drop_if_closed(self, inode: Inode) -> None:
        """Once no program has the file open, drop what only open files need."""
        if not self.dirty_files.is_open(inode):
            self.edits.sessions.left(inode)


@dataclass(frozen=True, slots=True)
class ProjectLocks:
    """The locks and check-outs of the project."""

    flocks: Locks
    lock_files: LockFiles
    """The lock files of office programs."""


@dataclass(frozen=True, slots=True)
class Project:
    """The parts of one project."""

    view: View
    """The tree with the local changes applied."""
    follower: Follower
    """Keeps the tree up to date with Procore."""
    content: Content
    changes: LocalChanges
    locks: ProjectLocks
    xattrs: Attributes
    versions: VersionTree
    """The entries below `.procore`."""
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
