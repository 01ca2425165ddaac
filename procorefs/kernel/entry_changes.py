"""Handles the requests that change a directory: create, mknod, mkdir, unlink, rmdir, rename.

The kernel holds the directory's lock meanwhile, so a handler waits at most as long as `BriefWait` allows, and only with
`write_mode=through` or for the lock file of an office program.
"""

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from procorefs.kernel.attributes import Ownership, attributes, kept_of_new
from procorefs.kernel.bridge.native import pyfuse3
from procorefs.kernel.bridge.notifications import Notifier
from procorefs.kernel.errno_table import ReadOnly
from procorefs.kernel.file_changes import SetIdBits, UploadWait, is_privileged
from procorefs.kernel.node_lookup import NodeLookup
from procorefs.kernel.open_handles import OpenHandles
from procorefs.project import Project, Projects
from procorefs.tree.nodes import Inode, Kept, Node
from procorefs.vfs.refusals import ChangeRefused, Exists, NotPermitted, NotSupported, encoded_name

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
"""renameat2(2)."""


class EntryChanges:
    """One method a request, named as in Operations."""

    def __init__(
        self,
        projects: Projects,
        nodes: NodeLookup,
        handles: OpenHandles,
        notifier: Notifier,
        ownership: Ownership,
        set_id_bits: SetIdBits,
        upload_wait: UploadWait,
    ) -> None:
        self._projects = projects
        self._nodes = nodes
        self._handles = handles
        self._notifier = notifier
        self._ownership = ownership
        self._set_id_bits = set_id_bits
        self._upload_wait = upload_wait

    # Create

    async def create(
        self, folder: Inode, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        project = self._projects.of(folder)
        kept = kept_of_new(mode, ctx, self._ownership)
        node = await self._create(project, folder, self._new_name(project, folder, name), kept)
        access = flags & os.O_ACCMODE
        with self._removing_if_raised(folder, node):
            handle = self._handles.files.open(
                node,
                reads=access != os.O_WRONLY,
                writes=access != os.O_RDONLY,
                is_privileged=is_privileged(ctx),
            )
        self._set_id_bits.note(node)
        return self._handles.files.info(handle), attributes(node, self._ownership)

    async def mknod(
        self, folder: Inode, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if not stat.S_ISREG(mode):
            raise NotSupported("Procore has files and folders only")
        project = self._projects.of(folder)
        kept = kept_of_new(mode, ctx, self._ownership)
        node = await self._create(project, folder, self._new_name(project, folder, name), kept)
        with self._removing_if_raised(folder, node):
            project.changes.edits.sessions.flushed(node.inode)
        project.changes.edits.sessions.left(node.inode)
        await self._upload_wait.if_through_briefly(node.inode)
        return self._shown(node.inode)

    async def _create(self, project: Project, folder: Inode, name: bytes, kept: Kept) -> Node:
        """Create a file, possibly the lock file of an office program; no await between its return and the handle."""
        lock_files = project.locks.lock_files
        await lock_files.will_create(folder, name)
        if lock_files.shows(folder, name):
            raise Exists("another user's program has the document open")
        node = project.changes.edits.entries.create(folder, name, kept)
        self._entry_changed(project, folder, name)
        lock_files.created(folder, name, node.inode)
        return node

    async def mkdir(
        self, folder: Inode, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        project = self._projects.of(folder)
        name = self._new_name(project, folder, name, is_folder=True)
        kept = kept_of_new(mode, ctx, self._ownership)
        node = project.changes.edits.entries.make_folder(folder, name, kept)
        self._entry_changed(project, folder, name)
        await self._upload_wait.if_through_briefly(node.inode)
        return self._shown(node.inode)

    @staticmethod
    def _new_name(
        project: Project, folder: Inode, name: bytes, moved: Node | None = None, *, is_folder: bool = False
    ) -> bytes:
        """The name in Procore for a program's name; an existing entry keeps its name."""
        if not project.view.names.encodes:
            return name
        known = project.view.names.to_procore(folder, name)
        if project.view.child(folder, known) is not None:
            return known
        source = moved.inode if moved is not None else None
        is_folder = is_folder or (moved is not None and moved.is_folder)
        is_kept = project.changes.edits.entries.is_leaving(folder, known, is_folder=is_folder, source=source)
        return known if is_kept else encoded_name(project.view, folder, name)

    @contextmanager
    def _removing_if_raised(self, folder: Inode, node: Node) -> Iterator[None]:
        """Remove a new entry if its request fails."""
        try:
            yield
        except BaseException:
            project = self._projects.of(folder)
            # If the disk refuses this too, an empty file stays.
            with suppress(OSError, sqlite3.Error, ChangeRefused):
                project.changes.edits.entries.unlink(folder, node.shown)
                self._entry_changed(project, folder, node.shown)
            project.changes.drop_if_closed(node.inode)
            raise

    # Remove and rename

    async def unlink(self, folder: Inode, name: bytes) -> None:
        project = self._projects.of(folder)
        name = project.view.names.to_procore(folder, name)
        if project.view.child(folder, name) is None and project.locks.lock_files.shows(folder, name):
            raise NotPermitted(
                "it is the lock file of another user", path=project.view.path_of_entry(folder, name)
            )
        inode = project.changes.edits.entries.unlink(folder, name)
        project.locks.lock_files.removed(folder, name)
        self._entry_changed(project, folder, name)
        await self._upload_wait.if_through_briefly(inode)

    async def rmdir(self, folder: Inode, name: bytes) -> None:
        project = self._projects.of(folder)
        name = project.view.names.to_procore(folder, name)
        inode = project.changes.edits.entries.remove_folder(folder, name)
        self._entry_changed(project, folder, name)
        await self._upload_wait.if_through_briefly(inode)

    async def rename(self, old: Inode, name_old: bytes, new: Inode, name_new: bytes, flags: int) -> None:
        project = self._projects.of(old)
        name = project.view.names.to_procore(old, name_old)
        moved = project.view.child(old, name)
        new_name = self._new_name(project, new, name_new, moved)
        if flags == RENAME_EXCHANGE:
            project.changes.edits.entries.exchange(old, name, new, new_name)
        elif flags in (0, RENAME_NOREPLACE):
            project.changes.edits.entries.rename(old, name, new, new_name, replaces=not flags)
        else:
            raise pyfuse3.FUSEError(errno.EINVAL)
        names = [(old, name), (new, new_name)]
        if project.view.names.encodes:  # what was exchanged may have another name in Procore now
            names += [
                (old, project.view.names.to_procore(old, name_old)),
                (new, project.view.names.to_procore(new, name_new)),
            ]
        for folder, entry in dict.fromkeys(names):
            self._renamed(project, folder, entry)
        if moved is not None:
            await self._upload_wait.if_through_briefly(moved.inode)

    def _renamed(self, project: Project, folder: Inode, entry: bytes) -> None:
        """One of the two names of a rename has changed."""
        self._entry_changed(project, folder, entry)
        project.locks.lock_files.removed(folder, entry)
        node = project.view.child(folder, entry)
        if node is not None and not node.is_folder:
            project.locks.lock_files.created(folder, entry, node.inode)

    def _entry_changed(self, project: Project, folder: Inode, name: bytes) -> None:
        """Invalidate what the kernel does not drop itself: an older listing, and entries whose shown names depend on
        this one.
        """
        self._handles.folders.listing_changed(folder)
        for shown in project.view.names.affected(folder, name):
            if shown != name:
                self._notifier.entry(folder, shown)

    def _shown(self, inode: Inode) -> pyfuse3.EntryAttributes:
        return attributes(self._nodes.node(inode), self._ownership)


class ReadOnlyMount:
    """Replaces EntryChanges and FileChanges while the mount is read-only: refuses every change with EROFS."""

    free_bytes = 0

    async def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise ReadOnly

    create = mknod = mkdir = unlink = rmdir = rename = _refuse
    open = setattr = setxattr = removexattr = _refuse
