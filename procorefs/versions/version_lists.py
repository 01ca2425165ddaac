"""Lists the versions of a file when a program asks for them, and caches the list until the file gets a new version.

    file ─▶ its document ─▶ cached, and the newest is still the same? ─ no ─▶ one call, shared by all requests

A file whose newest version is its first has no other version, and needs no call.
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
"""A file that was dropped costs a call when a program asks for it again."""

MOST_TRIES = 3
"""How often a list is requested again because the file got another version meanwhile."""


class VersionCalls(Protocol):
    """The client's call; raises ProcoreError."""

    async def versions(self, file_id: DocumentId, *, priority: Priority) -> list[Version]: ...


@dataclass(frozen=True, slots=True)
class _Listed:
    """A list as Procore answered it."""

    newest: Version | None
    """The newest version in the tree when the list was requested."""
    versions: tuple[Version, ...]

    def holds_for(self, newest: Version | None) -> bool:
        """Whether the list has the newest version of the tree; the list may be newer than the tree."""
        return same_bytes(newest, self.newest) or any(same_bytes(newest, last) for last in self.versions[-1:])


class VersionLists:
    """Requests and caches lists of versions; `run` must run."""

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
        """All versions of a file in Procore, oldest first. Raises ProcoreError."""
        for _ in range(MOST_TRIES):
            document = self._document(file)
            if document is None:
                return ()
            versions = self._cached(document)
            if versions is not None:
                return versions
            await self._request(document)
        raise Unavailable("Could not list the versions: there are new ones all the time")

    def known(self, file: Inode) -> tuple[Version, ...] | None:
        """All versions if that needs no call, else None."""
        document = self._document(file)
        return self._cached(document) if document is not None else ()

    def _cached(self, document: DocumentId) -> tuple[Version, ...] | None:
        newest = self._newest(document)
        if newest is not None and newest.number == 1:
            return (newest,)
        listed = self._listed.get(document)
        if listed is not None and listed.holds_for(newest):
            return listed.versions
        return None

    def _document(self, file: Inode) -> DocumentId | None:
        """The file's document in Procore; None: it has none yet."""
        change = self._view.change(file)
        if change is not None:
            return change.document
        node = self._view.by_inode(file)
        return node.document_id if node is not None else None

    def _newest(self, document: DocumentId) -> Version | None:
        """The newest version in the tree, without local changes."""
        known = self._view.store.known(document)
        return known.node.version if known is not None else None

    async def _request(self, document: DocumentId) -> None:
        async def work() -> None:
            newest = self._newest(document)
            found = await self._lists.versions(document, priority=Priority.INTERACTIVE)
            versions = tuple({version.id: version for version in found}.values())
            self._listed[document] = _Listed(newest, versions)

        if self._nursery is None:
            raise RuntimeError("VersionLists.run does not run")
        await self._shared.join(self._nursery, document, work)
