"""Remembers which documents others have changed lately, for the status page."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from itertools import islice

import msgspec

from procorefs.procore.wire.models import DocumentId, UserId
from procorefs.storage import clocks
from procorefs.tree.document_detail import decode_detail
from procorefs.tree.nodes import Inode
from procorefs.tree.tree_store import TreeStore

KEPT = 30


class RecentChange(msgspec.Struct, frozen=True):
    """A document that an answer of Procore showed as changed."""

    path: str
    what: str
    """`added`, `changed`, `new version` or `removed`."""
    by: str
    """Empty: Procore does not tell."""
    seen_at: float
    """Unix seconds when this mount saw it."""


class RecentChanges:
    """The last KEPT documents; one that changes again counts as the newest."""

    def __init__(
        self, store: TreeStore, me: UserId, path_of: Callable[[Inode], str], is_listed: Callable[[], bool]
    ) -> None:
        """`is_listed`: whether the project was listed once; before, all documents are new to the tree."""
        self._store = store
        self._me = me
        self._path_of = path_of
        self._is_listed = is_listed
        self._found: OrderedDict[DocumentId, RecentChange] = OrderedDict()

    def changed(self, documents: Collection[DocumentId]) -> None:
        """Note documents that an answer shows as changed, except what this account did itself."""
        if not self._is_listed():
            return
        for document in islice(documents, KEPT):
            change = self._change(document)
            if change is not None:
                self._found.pop(document, None)
                self._found[document] = change
        while len(self._found) > KEPT:
            self._found.popitem(last=False)

    def newest(self) -> list[RecentChange]:
        """The changes, the newest first."""
        return list(reversed(self._found.values()))

    def _change(self, document: DocumentId) -> RecentChange | None:
        known = self._store.known(document)
        if known is None:
            return None
        node, detail = known.node, decode_detail(known.detail)
        person = detail.version_by or detail.created_by
        is_there = self._store.reachable(node.inode)
        if is_there and person is not None and person.id == self._me:
            return None
        what = "changed"
        if not is_there:
            what, person = "removed", None
        elif node.version is not None and node.version.number == 1:
            what = "added"
        elif node.version is not None:
            what = "new version"
        path = self._path_of(node.inode)
        return RecentChange(path, what, (person.name or person.login) if person else "", clocks.wall_s())
