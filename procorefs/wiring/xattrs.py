"""Builds what reads and sets extended attributes: first what is asked of Procore and kept, then the handlers."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from procorefs.journal.states import ChangeState
from procorefs.journal.xattr_store import XattrStore
from procorefs.limiter import Priority
from procorefs.procore.api.brief_wait import BriefWait
from procorefs.procore.api.client import Client
from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.tree.nodes import Inode
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.namespace_edits import NamespaceEdits
from procorefs.vfs.view import View
from procorefs.xattr.attribute_target import Targets
from procorefs.xattr.attributes import Attributes
from procorefs.xattr.custom_field_cache import CustomFieldCache
from procorefs.xattr.document_facts import DocumentFacts
from procorefs.xattr.foreign_xattrs import ForeignXattrs
from procorefs.xattr.handlers import Handlers
from procorefs.xattr.tags import Tags, tags_age_s


@dataclass(frozen=True, slots=True)
class MetadataCaches:
    """What is asked of Procore and kept; `run` must run."""

    tags: Tags
    fields: CustomFieldCache

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.tags.run)
            await nursery.start(self.fields.run)
            task_status.started()


def open_metadata_caches(
    store: TreeStore, client: Client, freshness_s: Callable[[], float]
) -> MetadataCaches:
    metadata = ProjectMetadata(client)
    tags = Tags(
        metadata,
        lambda: tags_age_s(freshness_s()),
        would_wait=lambda: client.limiter.would_wait(Priority.INTERACTIVE),
    )
    return MetadataCaches(tags, CustomFieldCache(store, metadata))


def open_attributes(
    view: View,
    edits: NamespaceEdits,
    caches: MetadataCaches,
    client: Client,
    rows: XattrStore,
    *,
    state_of: Callable[[Inode], tuple[ChangeState, str]],
    written: Callable[[Inode], None],
    brief: BriefWait,
) -> Attributes:
    targets = Targets(view, edits, caches.tags, brief)
    facts = DocumentFacts(client, state_of, unix_time_s=client.limiter.server_unix_s)
    handlers = Handlers(targets, caches.tags, caches.fields, facts)
    return Attributes(targets, handlers, ForeignXattrs(rows, written))
