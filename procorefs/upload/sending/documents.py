"""Reads single documents of Procore, and journals each changing call before it is sent."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import trio

from procorefs.journal.change import Change, Location, MetadataPatch, Upload
from procorefs.journal.in_flight_calls import Call, InFlightCalls, Sending
from procorefs.limiter import Priority
from procorefs.procore.api.changes import FieldValue, ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.errors import NotFound, Unavailable
from procorefs.procore.wire.models import Document, DocumentId, Kind
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.request_order import Request
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import Blocked
from procorefs.upload.planning.plan import Wait

PolledSince = Callable[[float], Awaitable[bool]]
"""Waits for a poll that began after that time (trio's clock); False if none succeeded (Follower.polled_since)."""


class DocumentTags(Protocol):
    """Reads and changes the tags of documents; raises ProcoreError."""

    async def make(self, document: DocumentId, wanted: list[str]) -> None:
        """Give a document exactly these tags."""

    async def bears(self, document: DocumentId, wanted: list[str]) -> bool:
        """Whether a document has exactly these tags now."""

    def made(self, document: DocumentId) -> None:
        """Note that the document is new and has no tags."""

    def doubt(self, documents: Iterable[DocumentId]) -> None:
        """Forget what is known of their tags."""


class DocumentCalls:
    """The calls that all senders share, about one document at a time."""

    def __init__(
        self,
        store: TreeStore,
        own: OwnChanges,
        calls: InFlightCalls,
        client: Client,
        changes: ProjectChanges,
        tags: DocumentTags,
        polled_since: PolledSince,
        reach_disk: Callable[[], Awaitable[None]],
    ) -> None:
        """`reach_disk` waits until everything journaled so far is on disk."""
        self._store = store
        self.own = own
        self.calls = calls
        self.client = client
        self.changes = changes
        self.tags = tags
        self.polled_since = polled_since
        self.reach_disk = reach_disk

    @asynccontextmanager
    async def changing(
        self,
        change: Change,
        document: DocumentId | None,
        place: Location | None = None,
        *,
        removes: bool = False,
        upload: Upload | None = None,
        metadata: MetadataPatch | None = None,
        repeats: Call | None = None,
    ) -> AsyncIterator[tuple[Request, Sending]]:
        """Hold a changing call open until its answer is applied; `document` None: it creates one. See
        InFlightCalls.sending.

        Raises sqlite3.Error, OSError, StagingFull before anything is sent.
        """
        with (
            self.own.call(document) as request,
            self.calls.sending(
                change.inode,
                change.kind,
                document,
                place,
                removes=removes,
                upload=upload,
                patch=metadata,
                repeats=repeats,
            ) as sending,
        ):
            await self.bring_to_disk(sending)
            yield request, sending

    async def bring_to_disk(self, sending: Sending) -> None:
        """Bring a call and everything journaled before it to disk, before it is sent. Raises OSError, StagingFull.

        So after a power cut the journal knows everything that Procore was told.
        """
        try:
            await self.reach_disk()
        except BaseException:
            sending.not_sent()
            raise

    # Reading

    async def now(self, document_id: DocumentId, kind: Kind) -> Document | None:
        """The document as Procore has it now; None if this very document is gone."""
        try:
            if kind is Kind.FOLDER:
                document = (await self.client.folder(document_id, priority=Priority.WRITING)).folder
            else:
                document = await self.client.file(document_id, priority=Priority.WRITING)
        except NotFound:
            return None
        return None if document.deleted else document

    async def with_version(self, document: Document) -> Document:
        """The same, with the version, which an answer may lack."""
        if document.version is not None:
            return document
        return await self.client.file(document.id, priority=Priority.WRITING)

    async def poll(self) -> None:
        """Wait until the tree shows what Procore has now. Raises Unavailable if no poll succeeds."""
        if not await self.polled_since(trio.current_time()):
            raise Unavailable("Could not see what was changed in Procore")

    # Places in calls

    def folder_id(self, folder: Inode) -> DocumentId | None:
        """A folder's document, for a creation in it; None for the root, which is not named."""
        return None if folder == ROOT else self.parent_id(folder)

    def parent_id(self, folder: Inode) -> DocumentId | None:
        """A folder's document, for a move to it; None for the root if its id is unknown."""
        node = self._store.by_inode(folder)
        if node is None or (node.document_id is None and folder != ROOT):
            raise Blocked(Wait(folder, "its folder is not in Procore yet"))
        return node.document_id

    def moved(
        self, known: Known, target: Location | None
    ) -> tuple[DocumentId | msgspec.UnsetType | None, str | msgspec.UnsetType]:
        """(folder's document, name) for a PATCH, which leaves out what stays as it is."""
        if target is None:
            return msgspec.UNSET, msgspec.UNSET
        is_elsewhere, is_renamed = known.node.parent != target.folder, known.name != target.name
        return (
            self.parent_id(target.folder) if is_elsewhere else msgspec.UNSET,
            target.name if is_renamed else msgspec.UNSET,
        )


def given(fields: dict[int, FieldValue]) -> dict[int, FieldValue] | msgspec.UnsetType:
    """Custom fields in the form of a call."""
    return fields or msgspec.UNSET
