"""Builds the locks of one mount."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from procorefs.locks.check_out_journal import CheckOutJournal
from procorefs.locks.check_outs import CheckOuts
from procorefs.locks.mount_locks import Locks
from procorefs.locks.office_locks import OfficeLocks
from procorefs.locks.tree_documents import TreeDocuments
from procorefs.procore.api.changes import ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.wire.models import UserId
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import Inode, Invalidation, Node
from procorefs.tree.tree_store import TreeStore

JOURNAL = "locks.sqlite"


@dataclass(frozen=True, slots=True)
class Locking:
    """The parts; `check_outs.run` runs for as long as there are requests, and ends before the client does."""

    journal: CheckOutJournal
    check_outs: CheckOuts
    locks: Locks
    office: OfficeLocks

    def close(self) -> None:
        self.journal.close()


def open_locks(
    state_dir: Path,
    store: TreeStore,
    applier: DocumentApplier,
    client: Client,
    me: UserId,
    *,
    changes: bool,
    node_of: Callable[[Inode], Node | None],
    is_unsent: Callable[[Inode], bool],
    invalidate: Callable[[Sequence[Invalidation]], None],
) -> Locking:
    """The locks of a mount. Not `changes`: nothing is checked out, and only others' check-outs count.

    Raises sqlite3.Error when the state directory can't be written.
    """
    documents = TreeDocuments(
        store,
        applier,
        client,
        ProjectChanges(client),
        invalidate,
        node_of=node_of,
        is_unsent=is_unsent,
    )
    journal = CheckOutJournal.open(state_dir / JOURNAL)
    check_outs = CheckOuts(
        me, documents, documents if changes else None, journal, wall_s=client.limiter.server_unix_s
    )
    return Locking(journal, check_outs, Locks(check_outs), OfficeLocks(check_outs))
