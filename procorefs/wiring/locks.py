"""Builds the locks of one mount: the record of check-outs, then the parts that check documents out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from procorefs.locks.check_out_ends import AskedEnds
from procorefs.locks.check_out_journal import CheckOutJournal
from procorefs.locks.check_outs import CheckOuts
from procorefs.locks.claims import CheckOutTimes, Claims
from procorefs.locks.holder_polls import HolderPolls
from procorefs.locks.mount_locks import Locks
from procorefs.locks.office_locks import OfficeLocks
from procorefs.locks.tree_documents import TreeDocuments
from procorefs.procore.api.changes import ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.wire.models import DocumentId, UserId
from procorefs.storage.events import EventSource
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import Inode, Invalidation, Node
from procorefs.tree.tree_store import TreeStore

JOURNAL = "locks.sqlite"


@dataclass(frozen=True, slots=True)
class Locking:
    """The parts; `check_outs.run` runs while there are requests, and ends before the client is closed."""

    claims: Claims
    check_outs: CheckOuts
    polls: HolderPolls
    locks: Locks
    office: OfficeLocks


def open_claims(
    journal: CheckOutJournal,
    store: TreeStore,
    applier: DocumentApplier,
    client: Client,
    me: UserId,
    *,
    node_of: Callable[[Inode], Node | None],
    invalidate: Callable[[Sequence[Invalidation]], None],
) -> Claims:
    """The record of which user has which document checked out."""
    documents = TreeDocuments(store, applier, client, ProjectChanges(client), invalidate, node_of=node_of)
    wall_s = client.limiter.server_unix_s
    return Claims(me, documents, AskedEnds(journal, wall_s), wall_s=wall_s)


def open_locks(
    claims: Claims,
    changed: EventSource[Inode],
    documents_changed: EventSource[Collection[DocumentId]],
    *,
    may_check_out: Callable[[], bool],
    sends: Callable[[], bool],
    is_unsent: Callable[[Inode], bool],
    times: CheckOutTimes = CheckOutTimes(),  # noqa: B008 - frozen
) -> Locking:
    """The parts that check documents out. While `may_check_out` is False they respect other users' check-outs only."""
    polls = HolderPolls(claims, times)
    check_outs = CheckOuts(
        claims, polls, may_check_out=may_check_out, sends=sends, is_unsent=is_unsent, times=times
    )
    changed.subscribe(check_outs.changed)
    documents_changed.subscribe(check_outs.documents_changed)
    return Locking(
        claims, check_outs, polls, Locks(claims, check_outs, polls), OfficeLocks(claims, check_outs)
    )
