"""Which calls that change Procore are under way: whose, about which document, and what they make or move.

A call can't be taken back, and it may wait long for the budget. Programs do not wait for it: a document may change
hands meanwhile, and the answer is then taken up for whoever has it. What must not happen is that two calls about one
document, or for one new name, overtake each other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from procorefs.outbox.change import Place
from procorefs.procore.models import DocumentId
from procorefs.tree.nodes import Inode


@dataclass(frozen=True, slots=True)
class Flight:
    """One call; `document` None: it makes one."""

    inode: Inode
    document: DocumentId | None
    place: Place | None
    """Where the document is made or moved; None: it stays where it is."""
    removes: bool


class Flights:
    """At most one call an inode."""

    def __init__(self) -> None:
        self._by_inode: dict[Inode, Flight] = {}

    @contextmanager
    def of(
        self,
        inode: Inode,
        document: DocumentId | None,
        place: Place | None = None,
        *,
        removes: bool = False,
    ) -> Iterator[None]:
        """While it is under way."""
        self._by_inode[inode] = Flight(inode, document, place, removes)
        try:
            yield
        finally:
            del self._by_inode[inode]

    def makes(self, inode: Inode) -> bool:
        """Whether a document is being made."""
        flight = self._by_inode.get(inode)
        return flight is not None and flight.document is None

    def has(self, inode: Inode) -> bool:
        return inode in self._by_inode

    def moves(self, inode: Inode) -> bool:
        """Whether the document may be elsewhere, or gone, once the answer is there."""
        flight = self._by_inode.get(inode)
        return flight is not None and (flight.place is not None or flight.removes)

    def in_the_way(self, inode: Inode, document: DocumentId | None, place: Place | None) -> Inode | None:
        """Another one's call about the same document, or that makes or moves one to the same place."""
        for flight in self._by_inode.values():
            if flight.inode == inode:
                continue
            if document is not None and flight.document == document:
                return flight.inode
            if place is not None and flight.place == place:
                return flight.inode
        return None
