"""Tree, journal, staging and edits on real files, without Procore and without a mount: what a crash finds there."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio

from procorefs.config.options import MountOptions
from procorefs.journal.change import Change
from procorefs.procore.api.calls import Permission
from procorefs.procore.wire.models import Document, FolderListing
from procorefs.procore.wire.rights import Rights
from procorefs.staging.staging_area import StagedFile, StagedRecord, Staging
from procorefs.storage.events import EventSource
from procorefs.tree.nodes import ROOT, Inode, Kept, Node
from procorefs.tree.sync.account_rights import AccountRights
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.dirty_files import DirtyFile, DirtyFiles
from procorefs.wiring.changes import JOURNAL, STAGING, Base, open_base, open_edits
from tests.support.local_work import ME
from tests.support.staged_base import MIB, Bases, spares_of
from tests.support.tree_documents import ROOT_ID, folder

TREE = "tree.sqlite"


async def _nobody_asks() -> Rights:
    raise AssertionError("Procore was asked about rights")


class OfflineProject:
    """One run of a daemon's inner rooms over a state directory."""

    def __init__(self, directory: Path, base: Base) -> None:
        self.directory = directory
        self.base = base
        self.store, self.view, self.dirty_files, self.journal = (
            base.store,
            base.view,
            base.dirty_files,
            base.journal,
        )
        self.calls, self.durability = base.calls, base.durability
        self.rights = AccountRights(base.store, _nobody_asks, EventSource[Permission]())
        self.edits = open_edits(base, lambda _inode: None, self.rights)

    @property
    def staging(self) -> Staging:
        return self.dirty_files.staging

    @property
    def staged(self) -> dict[str, bytes]:
        """The files of the staging area, as they lie on disk, but for those made ahead and those that just go."""
        self.staging.remover.finish()
        spares = {str(number) for number in spares_of(self.staging)}
        return {
            path.name: path.read_bytes()
            for path in (self.directory / STAGING).iterdir()
            if path.name not in spares
        }

    def change(self, inode: Inode) -> Change:
        found = self.view.change(inode)
        assert found is not None
        return found

    def child(self, folder: Inode, name: bytes) -> Node:
        """An entry that must be there."""
        found = self.view.child(folder, name)
        assert found is not None, name
        return found

    def node(self, inode: Inode) -> Node:
        """The node of an inode that must be there."""
        found = self.view.by_inode(inode)
        assert found is not None, inode
        return found

    def staged_file(self, inode: Inode, record: StagedRecord | None) -> StagedFile:
        """The staged file of a record that must be there."""
        found = self.dirty_files.find(inode, record)
        assert found is not None, inode
        return found.file

    def create(self, name: str, data: bytes = b"", folder: Inode = ROOT) -> Inode:
        """A file that is open and not flushed."""
        inode = self.edits.entries.create(folder, name.encode(), Kept()).inode
        self.dirty_files.enter(inode, writes=True)
        if data:
            self.write(inode, 0, data)
        return inode

    def write(self, inode: Inode, offset: int, data: bytes) -> None:
        """Behind what was closed, where nothing has to wait."""
        assert self.dirty_file(inode).file.write_now(offset, data)

    def reopen(self, inode: Inode) -> DirtyFile:
        """For writing, and not closed again."""
        dirty_file = self.edits.sessions.open_for_writing(inode, truncates=False)
        self.dirty_files.enter(inode, writes=True)
        return dirty_file

    def close(self, inode: Inode) -> None:
        """As FLUSH and RELEASE of the last handle do it."""
        self.edits.sessions.flushed(inode)
        self.dirty_files.leave(inode, writes=True)
        self.edits.sessions.released(inode)
        self.edits.sessions.left(inode)

    async def flush(self, inode: Inode, *, is_first: bool = True) -> None:
        """As FLUSH of a descriptor does it; others may lead to the same handle."""
        await self.edits.sessions.handle_flushed(inode, is_first=is_first, is_final=False)

    def release(self, inode: Inode) -> None:
        """As RELEASE of a handle does it that was flushed."""
        self.dirty_files.leave(inode, writes=True)
        self.edits.sessions.handle_released(inode)
        self.edits.sessions.flushed(inode)
        if not self.dirty_files.is_written(inode):
            self.edits.sessions.released(inode)
            self.edits.sessions.left(inode)

    def put(self, name: str, data: bytes, folder: Inode = ROOT) -> Inode:
        """A file that was written and closed."""
        inode = self.create(name, data, folder)
        self.close(inode)
        return inode

    @asynccontextmanager
    async def syncing(self) -> AsyncIterator[None]:
        """Bring what is journaled to disk meanwhile, as a daemon does."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.durability.run)
            yield
            nursery.cancel_scope.cancel()

    def dirty_file(self, inode: Inode) -> DirtyFile:
        return self.edits.sessions.open_for_writing(inode, truncates=False)

    def list_root(self, *children: Document) -> None:
        """Procore has these in the root."""
        listing = FolderListing(folder(ROOT_ID, "Documents", None), list(children), 0)
        with self.base.applier.order.reading() as request:
            self.base.applier.apply_folder(listing, ROOT, request=request, listing_pass=1)

    def look(self, *documents: Document) -> None:
        """A look shows these."""
        with self.base.applier.order.reading() as request:
            self.base.applier.apply(documents, request=request, listing_pass=1)


def _let_go(dirty_files: DirtyFiles) -> None:
    """Nobody is inside any more, as when a daemon has died: the kernel closes what was open."""
    for dirty_file in dirty_files:
        if dirty_file.is_held:
            dirty_file.file.release()
            dirty_file.is_held = False


@contextmanager
def offline_project(directory: Path, bases: Bases | None = None, **options: Any) -> Iterator[OfflineProject]:
    """Open what lies there as the daemon does. Leaving it is no orderly end: nothing is written on the way out."""
    directory.mkdir(exist_ok=True)
    store = TreeStore.open(directory / TREE)
    reading = bases or Bases()
    try:
        base = open_base(
            directory,
            store,
            reading,  # type: ignore[arg-type]
            ME,
            MountOptions(staging_size_bytes=100 * MIB, **options),
            lambda: False,
        )
        try:
            yield OfflineProject(directory, base)
        finally:
            _let_go(base.dirty_files)
            base.close()
    finally:
        store.close()


def kept_bytes(directory: Path) -> list[bytes]:
    """Everything that lies in staging areas of this state directory, swept or moved aside or not."""
    return sorted(
        path.read_bytes()
        for area in directory.glob(f"{STAGING}*")
        if area.is_dir()
        for path in area.iterdir()
    )


__all__ = ["JOURNAL", "STAGING", "OfflineProject", "kept_bytes", "offline_project"]
