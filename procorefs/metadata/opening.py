"""Builds the rooms of extended attributes on top of the outbox."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from procorefs.limiter import Priority
from procorefs.metadata.attributes import Attributes
from procorefs.metadata.book import FieldBook
from procorefs.metadata.facts import Facts
from procorefs.metadata.others import OtherAttributes
from procorefs.metadata.tags import Tags, tags_age_s
from procorefs.outbox.attributed import Attributed
from procorefs.outbox.edits import Edits
from procorefs.outbox.view import View
from procorefs.procore.brief import BriefWait
from procorefs.procore.client import Client
from procorefs.procore.metadata import ProjectMetadata
from procorefs.procore.models import DocumentId, Version
from procorefs.tree.nodes import Inode
from procorefs.tree.store import TreeStore


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is asked for at Procore and kept; `run` must run."""

    tags: Tags
    book: FieldBook

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
    return Knowledge(tags, FieldBook(store, metadata))


def open_attributes(
    view: View,
    edits: Edits,
    knowledge: Knowledge,
    client: Client,
    rows: Attributed,
    *,
    state_of: Callable[[Inode], tuple[str, str]],
    written: Callable[[Inode], None],
    brief: BriefWait,
) -> Attributes:
    facts = Facts(_Documents(client), state_of, unix_time_s=client.limiter.server_unix_s)
    others = OtherAttributes(rows, written)
    return Attributes(view, edits, knowledge.tags, knowledge.book, facts, others, brief)


class _Documents:
    """Answers facts.DocumentCalls."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def versions_of(self, document: DocumentId) -> list[Version]:
        return await self._client.versions(document, priority=Priority.INTERACTIVE)

    async def json_of(self, document: DocumentId, *, is_folder: bool) -> Any:  # noqa: ANN401 - JSON
        return await self._client.document_json(document, is_folder=is_folder, priority=Priority.INTERACTIVE)
