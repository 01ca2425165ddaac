"""The versions of files: listed when somebody asks for them, and remembered until the file gets another one.

    file ─▶ its document ─▶ remembered, and the newest is still the same? ─ no ─▶ one call, shared by all who ask

A file whose newest version is its first has no others: that costs nothing.
"""

from dataclasses import dataclass
from typing import Protocol

import cachetools
import trio

from procorefs.limiter import Priority
from procorefs.procore.errors import Unavailable
from procorefs.procore.wire.models import DocumentId, Version
from procorefs.tree.document_detail import same_bytes
from procorefs.tree.nodes import Inode
from procorefs.tree.sync.shared_task import SharedTask
from procorefs.vfs.view import View

REMEMBERED_FILES = 4096
"""To have forgotten one costs a call, if somebody comes back to it."""

MOST_TRIES = 3
"""So often a list is asked for again because the file got another version meanwhile."""


class VersionCalls(Protocol):
    """What is needed of the client; raises ProcoreError."""

    async def versions(self, file_id: DocumentId, *, priority: Priority) -> list[Version]: ...


@dataclass(frozen=True, slots=True)
class _Listed:
    """A list as it was answered."""

    newest: Version | None
    """What the tree had as the newest when it was asked for."""
    versions: tuple[Version, ...]

    def holds_for(self, newest: Version | None) -> bool:
        """Whether it is whole as far as the tree knows; it may know more than the tree."""
        return same_bytes(newest, self.newest) or any(same_bytes(newest, last) for last in self.versions[-1:])


class VersionLists:
    """Asks for lists of versions; `run` must run."""

    def __init__(self, view: View, lists: VersionCalls) -> None:
        self._view = view
        self._lists = lists
        self._listed: cachetools.LRUCache[DocumentId, _Listed] = cachetools.LRUCache(REMEMBERED_FILES)
        self._shared = SharedTask()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def of(self, file: Inode) -> tuple[Version, ...]:
        """All versions that Procore has of a file, oldest first. Raises ProcoreError."""
        for _ in range(MOST_TRIES):
            document = self._document(file)
            if document is None:
                return ()
            versions = self._without_asking(document)
            if versions is not None:
                return versions
            await self._ask(document)
        raise Unavailable("Could not list the versions: there are new ones all the time")

    def known(self, file: Inode) -> tuple[Version, ...] | None:
        """The same when it costs no call, else None."""
        document = self._document(file)
        return self._without_asking(document) if document is not None else ()

    def _without_asking(self, document: DocumentId) -> tuple[Version, ...] | None:
        newest = self._newest(document)
        if newest is not None and newest.number == 1:
            return (newest,)
        listed = self._listed.get(document)
        if listed is not None and listed.holds_for(newest):
            return listed.versions
        return None

    def _document(self, file: Inode) -> DocumentId | None:
        """What a file is in Procore; None: nothing yet."""
        change = self._view.change(file)
        if change is not None:
            return change.document
        node = self._view.by_inode(file)
        return node.document_id if node is not None else None

    def _newest(self, document: DocumentId) -> Version | None:
        """As the tree has it, whatever is wanted of the file here."""
        known = self._view.store.known(document)
        return known.node.version if known is not None else None

    async def _ask(self, document: DocumentId) -> None:
        async def work() -> None:
            newest = self._newest(document)
            found = await self._lists.versions(document, priority=Priority.INTERACTIVE)
            versions = tuple({version.id: version for version in found}.values())
            self._listed[document] = _Listed(newest, versions)

        if self._nursery is None:
            raise RuntimeError("the histories do not run")
        await self._shared.join(self._nursery, document, work)
