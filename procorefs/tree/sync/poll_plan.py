"""When to look, when to list anew, and what a look's numbers mean: decisions without I/O."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from procorefs.procore.wire.models import Document, DocumentId

OVERLAP_S = 5
"""A change may become visible so much after its time."""

ENOUGH_UNCHANGED = 50
"""After so many documents in a row without news, a look that somebody waits for leaves the rest to a regular one."""

POLL_PAGE = 100
"""Documents a page of a look: what every endpoint grants, and hardly more than one round trip to parse."""

LISTING_PAGE = 2000
"""Documents a page of a full listing: the most that Procore's general advice allows; it may grant fewer."""

SHORTEST_RELIST_PAUSE_S = 5.0
LONGEST_RELIST_PAUSE_S = 86_400.0
RELIST_CALL_S = 4.0
"""Listing anew takes at most a call in so many seconds on average: a quarter of the smallest budget."""


@dataclass(frozen=True, slots=True)
class Census:
    """What our rows say of the project's size."""

    live: int
    """Documents that count as existing."""
    hidden: int
    """Those of them below something deleted."""
    deleted: int
    """Documents known to be deleted."""


@dataclass(frozen=True, slots=True)
class TotalCounts:
    """The census at the moment when the list's total was last understood, and what else the total counted."""

    surplus: int
    """What the total counts beyond the live documents: the root, the bin, items that could not be understood."""
    hidden: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which a server may count (procore-api.md, Open questions)."""

    counts_deleted: bool
    counts_hidden: bool

    def total(self, books: TotalCounts, census: Census) -> int:
        """What the list's total must be if we have missed nothing."""
        total = books.surplus + census.live
        if self.counts_deleted:
            total += census.deleted - books.deleted
        if not self.counts_hidden:
            total -= census.hidden - books.hidden
        return total


WAYS = tuple(Way(deleted, hidden) for deleted in (False, True) for hidden in (False, True))
ALL_WAYS = (1 << len(WAYS)) - 1
"""A set of ways is a number with a bit for each, so that it can be remembered."""


def ways_in(chosen: int) -> list[Way]:
    return [way for bit, way in enumerate(WAYS) if chosen >> bit & 1]


def explaining(total: int, chosen: int, books: TotalCounts, census: Census) -> int:
    """Which of the chosen ways explain the total."""
    return sum(
        1 << bit for bit, way in enumerate(WAYS) if chosen >> bit & 1 and way.total(books, census) == total
    )


def reaches(items: Sequence[Document], second: int) -> bool:
    """Whether a reading has met all later changes with this page; `items` come newest first."""
    times_s = [document.updated_at_s for document in items if document.updated_at_s]
    return not times_s or min(times_s) <= second


def reads_on(items: Sequence[Document], unchanged: int, known_s: int, final_s: int, *, whole: bool) -> bool:
    """Whether the next page is to be read too.

    All that is newer than the newest change known must be. Between that and the last final second there may be
    thousands of documents without news; they are read to their end only where the reading shall be `whole`.
    """
    if reaches(items, min(known_s, final_s)):
        return False
    return whole or unchanged < ENOUGH_UNCHANGED or not reaches(items, known_s)


def ends_unchanged(items: Sequence[Document], changed: Collection[DocumentId]) -> bool:
    """Whether the older half of a page has nothing new."""
    return not any(document.id in changed for document in items[len(items) // 2 :])


def poll_is_due(now_s: float, last_poll_s: float | None, freshness_s: float) -> bool:
    return last_poll_s is None or now_s - last_poll_s > freshness_s


def relist_pause_s(calls: int, futile: int) -> float:
    """How long to wait after listing anew before doing so again.

    The longer, the more calls it took, and much longer after listings that found nothing the looks had missed: then it
    is the total that can't be explained.
    """
    pause_s = max(SHORTEST_RELIST_PAUSE_S, calls * RELIST_CALL_S)
    return float(min(pause_s * 4.0 ** min(futile, 10), LONGEST_RELIST_PAUSE_S))
