"""Builds the rooms of extended attributes on top of the outbox."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from procorefs.journal.xattr_store import XattrStore
from procorefs.limiter import Priority
from procorefs.procore.api.brief_wait import BriefWait
from procorefs.procore.api.client import Client
from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.procore.wire.models import DocumentId, Version
from procorefs.tree.nodes import Inode
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.namespace_edits import NamespaceEdits
from procorefs.vfs.view import View
from procorefs.xattr.custom_field_cache import CustomFieldCache
from procorefs.xattr.document_facts import DocumentFacts
from procorefs.xattr.foreign_xattrs import ForeignXattrs
from procorefs.xattr.handlers import Attributes
from procorefs.xattr.tags import Tags, tags_age_s


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is asked for at Procore and kept; `run` must run."""

    tags: Tags
    book: CustomFieldCache

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.tags.run)
            await nursery.start(self.book.run)
            task_status.started()


def open_knowledge(store: TreeStore, client: Client, *, freshness_s: float) -> Knowledge:
    metadata = ProjectMetadata(client)
    tags = Tags(
        metadata, tags_age_s(freshness_s), would_wait=lambda: client.limiter.would_wait(Priority.INTERACTIVE)
    )
    return Knowledge(tags, CustomFieldCache(store, metadata))


def open_attributes(
    view: View,
    edits: NamespaceEdits,
    knowledge: Knowledge,
    client: Client,
    rows: XattrStore,
    *,
    state_of: Callable[[Inode], tuple[str, str]],
    written: Callable[[Inode], None],
    brief: BriefWait,
) -> Attributes:
    facts = DocumentFacts(_Documents(client), state_of, unix_time_s=client.limiter.server_unix_s)
    others = ForeignXattrs(rows, written)
    return Attributes(view, edits, knowledge.tags, knowledge.book, facts, others, brief)


class _Documents:
    """Answers facts.DocumentCalls."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def versions_of(self, document: DocumentId) -> list[Version]:
        return await self._client.versions(document, priority=Priority.INTERACTIVE)

    async def json_of(self, document: DocumentId, *, is_folder: bool) -> Any:  # noqa: ANN401 - JSON
        return await self._client.document_json(document, is_folder=is_folder, priority=Priority.INTERACTIVE)
