"""Documents that a call of ours made without our knowing, and that nobody here wants by now.

    POST ─▶ answer lost ─▶ renamed, removed or replaced here ─▶ a trace of the call ─▶ a look: is anything ours there?

Asking again would settle it, if the name were still wanted. As it is not, whatever lies there is taken for ours only if
we made it, nobody here has it, and a file has the very bytes that were sent; then it is removed as all else is.
"""

from collections.abc import Callable, Iterator

import msgspec

from procorefs.outbox.change import Change, Place
from procorefs.outbox.edits import Edits
from procorefs.outbox.flights import Flights
from procorefs.outbox.looking import LookedSince, look_now
from procorefs.outbox.namesakes import Likeness, likeness_of
from procorefs.outbox.settling import Settling
from procorefs.outbox.verdicts import Blocked
from procorefs.outbox.verifying import Verifier
from procorefs.outbox.view import View
from procorefs.procore.models import UserId
from procorefs.tree.detail import Detail
from procorefs.tree.nodes import Node
from procorefs.tree.store import TreeStore

OUR_CLOCK_S = 600.0
"""So far Procore's clock may be behind what its answers told of it."""


class Strays:
    """Looks where the traces lead."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        edits: Edits,
        settling: Settling,
        verifier: Verifier,
        flights: Flights,
        me: UserId,
        looked_since: LookedSince,
        server_s: Callable[[float], float],
    ) -> None:
        self._store = store
        self._view = view
        self._edits = edits
        self._settling = settling
        self._verifier = verifier
        self._flights = flights
        self._me = me
        self._looked_since = looked_since
        self._server_s = server_s

    def check(self, trace: Change) -> None:
        """Raises Blocked while a call for the same place is under way, whose answer will tell more."""
        assert trace.asked is not None
        other = self._flights.in_the_way(trace.inode, None, trace.asked.place)
        if other is not None:
            raise Blocked(other, "a call about its name is under way")

    async def find(self, trace: Change) -> None:
        """Let the trace be the removal of what it leads to, or end it. Raises Blocked, ProcoreError."""
        self.check(trace)
        await look_now(self._looked_since)
        node = self._there(trace)
        is_ours = node is not None and await self._is_ours(trace, node)
        if not self._settling.is_current(trace):
            return
        self.check(trace)
        if node is None or not is_ours or self._there(trace) != node:
            self._settling.dismiss(trace)
        else:
            self._edits.take_trace(trace, node)
            self._settling.left(node)

    def _there(self, trace: Change) -> Node | None:
        """What lies where the trace leads, if nobody here wants anything of it."""
        asked = trace.asked
        if asked is None:
            return None
        exact = self._store.child(asked.place.folder, asked.place.shown)
        for node in [exact] if exact is not None else self._composed(asked.place):
            if node.document_id is not None and node.kind is trace.kind:
                return node if self._view.change(node.inode) is None else None
        return None

    def _composed(self, place: Place) -> Iterator[Node]:
        """What lies there under the same name, with its letters written in another way: Procore may have done that."""
        for node in self._store.children(place.folder):
            if likeness_of(node.shown.decode("utf-8", "replace"), place.name) is Likeness.COMPOSED:
                yield node

    async def _is_ours(self, trace: Change, node: Node) -> bool:
        known = self._store.known(node.document_id) if node.document_id is not None else None
        if known is None or trace.asked is None:
            return False
        by = msgspec.json.decode(known.detail, type=Detail).created_by
        if (
            by is None
            or by.id != self._me
            or node.created_at_s < self._server_s(trace.asked.at_s) - OUR_CLOCK_S
        ):
            return False
        if node.is_folder:
            return True  # the remover sees to it that nothing is in it
        version = node.version
        if version is None or version.size_bytes != trace.asked.size_bytes:
            return False
        return await self._verifier.digest(version) == trace.asked.sha256
