"""Decides when to poll, which page a poll reads next, and when to list the project again; without I/O.

Procore's times are whole seconds, and a change may become visible a little after its time. So a page shows every change
only up to `OVERLAP_S` before it was requested; documents with a later time are read again by the next poll. That may be
thousands, after a folder was copied, and one that is renamed within that second does not move in the list.
"""

import math
from collections.abc import Collection, Sequence

import trio

from procorefs.procore.wire.models import Document, DocumentId, Page

OVERLAP_S = 5
"""A change may become visible this long after its time."""

ENOUGH_UNCHANGED = 50
"""After this many documents in a row without news, a poll with a waiting request leaves the rest to a regular poll."""

POLL_PAGE = 100
"""Documents a page of a poll: what every endpoint grants, and hardly more than one round trip to parse."""

LISTING_PAGE = 2000
"""Documents a page of a full listing: the most that Procore's general advice allows; it may grant fewer."""

SHORTEST_RELIST_PAUSE_S = 5.0
LONGEST_RELIST_PAUSE_S = 86_400.0
RELIST_CALL_S = 4.0
"""Full listings take at most one call in this many seconds on average: a quarter of the smallest budget."""


HIDDEN_BIN_RELIST_S = 600.0
HIDDEN_BIN_RELIST_CALL_S = 60.0
"""Without the right to see the recycle bin the project is listed again after this time, and so long for each call that
it takes: a tenth of the smallest budget at most."""


def hidden_bin_relist_s(calls: int) -> float:
    """How long after a full listing the next one looks for deletions that Procore does not list to the account."""
    return max(HIDDEN_BIN_RELIST_S, calls * HIDDEN_BIN_RELIST_CALL_S)


def poll_is_due(now_s: float, last_poll_s: float | None, freshness_s: float) -> bool:
    return last_poll_s is None or now_s - last_poll_s > freshness_s


def page_size(unsettled: int) -> int:
    """How many documents to request, to get all unsettled ones with one call."""
    return POLL_PAGE if unsettled < POLL_PAGE else LISTING_PAGE


def reaches(items: Sequence[Document], second: int) -> bool:
    """Whether a reading has met all later changes with this page; `items` are sorted by time, the newest first."""
    times_s = [document.updated_at_s for document in items if document.updated_at_s]
    return not times_s or min(times_s) <= second


def reads_on(items: Sequence[Document], unchanged: int, known_s: int, settled_s: int, *, whole: bool) -> bool:
    """Whether a poll reads the next page too.

    It must reach the newest change known. Between that and the last settled second there may be thousands of documents
    without news: only a `whole` poll reads them to the end.
    """
    if reaches(items, min(known_s, settled_s)):
        return False
    return whole or unchanged < ENOUGH_UNCHANGED or not reaches(items, known_s)


def ends_unchanged(items: Sequence[Document], changed: Collection[DocumentId]) -> bool:
    """Whether the older half of a page has nothing new."""
    return not any(document.id in changed for document in items[len(items) // 2 :])


def later_than(items: Sequence[Document], second: int) -> int:
    """How many documents have a later time."""
    return sum(document.updated_at_s > second for document in items)


def relist_pause_s(calls: int, futile: int) -> float:
    """How long to wait after a full listing before the next one.

    Longer after a listing that took more calls, and much longer after listings that found nothing that the polls had
    missed: then it is the total that cannot be explained.
    """
    pause_s = max(SHORTEST_RELIST_PAUSE_S, calls * RELIST_CALL_S)
    return float(min(pause_s * 4.0 ** min(futile, 10), LONGEST_RELIST_PAUSE_S))


class ServerClock:
    """Estimates Procore's time, from the Date of an answer or else from the newest change it has."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None
        """Procore's clock is ahead of trio's by at least this much; None: nothing is known."""

    def settled_s(self, page: Page[Document], began_s: float) -> int:
        """The last second that is settled after a reading whose first page is this, requested at `began_s`."""
        requested_at_s = self._at_least_s(page, began_s) if page.asked_at_s is None else page.asked_at_s
        return math.floor(requested_at_s) - (OVERLAP_S + 1)

    def _at_least_s(self, page: Page[Document], began_s: float) -> float:
        newest_s = max((document.updated_at_s for document in page.items), default=0)
        ahead_s = self._ahead_s
        self._ahead_s = max(newest_s - trio.current_time(), -math.inf if ahead_s is None else ahead_s)
        return newest_s if ahead_s is None else max(newest_s, began_s + ahead_s)


class DirectFetches:
    """A token bucket: how many folders may be fetched by themselves before the full listing is complete."""

    def __init__(self, most: int, refill_s: float) -> None:
        self._most = most
        self._refill_s = refill_s
        self._tokens = float(most)
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        self._tokens = min(self._most, self._tokens + (now_s - self._at_s) / self._refill_s)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
