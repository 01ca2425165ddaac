"""Reads single documents of Procore, and has each changing call journaled before it is sent and numbered when it is."""

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

PolledSince = Callable[[float], Awaitable[bool]]
"""Waits for a poll that began after that time (trio's clock); False: none succeeded (Follower.polled_since)."""


class DocumentTags(Protocol):
    """Knows the tags and changes them; raises ProcoreError."""

    async def make(self, document: DocumentId, wanted: list[str]) -> None:
        """Have a document bear just these."""

    async def bears(self, document: DocumentId, wanted: list[str]) -> bool:
        """Whether a document bears just these now."""

    def made(self, document: DocumentId) -> None:
        """The document is new: it bears none."""

    def doubt(self, documents: Iterable[DocumentId]) -> None:
        """What is known of their tags may be wrong."""


class DocumentCalls:
    """What all senders share: one document at a time."""

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
        """`reach_disk` waits until all that was journaled is on disk."""
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
        """A call that changes a document (None: makes one), until its answer is applied.

        See InFlightCalls.sending. Raises sqlite3.Error, OSError, StagingFull before anything is sent.
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
        """Have a call on disk before it is sent, and all that was journaled before it.

        After a power cut, Procore was told nothing that the journal does not know. Raises OSError, StagingFull.
        """
        try:
            await self.reach_disk()
        except BaseException:
            sending.not_sent()
            raise

    # Reading

    async def now(self, document_id: DocumentId, kind: Kind) -> Document | None:
        """The document as Procore has it now; None: it is really gone, and not something else that a call named."""
        try:
            if kind is Kind.FOLDER:
                document = (await self.client.folder(document_id, priority=Priority.WRITING)).folder
            else:
                document = await self.client.file(document_id, priority=Priority.WRITING)
        except NotFound:
            return None
        return None if document.deleted else document

    async def with_version(self, document: Document) -> Document:
        """The same; an answer need not say which version it has."""
        if document.version is not None:
            return document
        return await self.client.file(document.id, priority=Priority.WRITING)

    async def poll(self) -> None:
        """Have the tree show what Procore has by now. Raises Unavailable when no poll succeeds."""
        if not await self.polled_since(trio.current_time()):
            raise Unavailable("Could not see what was changed in Procore")

    # How calls name places

    def folder_id(self, folder: Inode) -> DocumentId | None:
        """A folder's document, to make something in it; None: the root, which is not named."""
        return None if folder == ROOT else self.parent_id(folder)

    def parent_id(self, folder: Inode) -> DocumentId | None:
        """A folder's document, to move something to it; None: the root, whose id may be unknown."""
        node = self._store.by_inode(folder)
        if node is None or (node.document_id is None and folder != ROOT):
            raise Blocked(folder, "its folder is not in Procore yet")
        return node.document_id

    def moved(
        self, known: Known, target: Location | None
    ) -> tuple[DocumentId | msgspec.UnsetType | None, str | msgspec.UnsetType]:
        """(folder's document, name) as a PATCH names them: what stays as it is need not be said."""
        if target is None:
            return msgspec.UNSET, msgspec.UNSET
        is_elsewhere, is_renamed = known.node.parent != target.folder, known.name != target.name
        return (
            self.parent_id(target.folder) if is_elsewhere else msgspec.UNSET,
            target.name if is_renamed else msgspec.UNSET,
        )


def given(fields: dict[int, FieldValue]) -> dict[int, FieldValue] | msgspec.UnsetType:
    """Custom fields as a call carries them."""
    return fields or msgspec.UNSET
