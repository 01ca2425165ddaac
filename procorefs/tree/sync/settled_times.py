"""Up to which second of Procore's clock nothing can appear in the list any more, so that looks need not read it again.

Times are whole seconds, and a change may become visible a little after its time: a page shows all changes only up to
`OVERLAP_S` before it was asked for. What bears a later second is read again. That may be thousands of documents:
somebody copied a folder; and one of them that is renamed in that second stays where it is in the list.
"""

import math

import trio

from procorefs.procore.wire.models import Document, Page
from procorefs.tree.sync import poll_plan
from procorefs.tree.tree_store import TreeStore


class SettledTimes:
    """Facts: `final` is that second, `tail` how many documents with a later one the last reading met."""

    def __init__(self, store: TreeStore) -> None:
        self._store = store
        self._ahead_s: float | None = None  # Procore's clock is ahead of trio's by at least so much

    @property
    def second(self) -> int:
        return int(self._store.fact("final") or 0)

    @property
    def page_size(self) -> int:
        """How many documents to ask for, to meet with one call all that are not final."""
        tail = int(self._store.fact("tail") or 0)
        return poll_plan.POLL_PAGE if tail < poll_plan.POLL_PAGE else poll_plan.LISTING_PAGE

    def remember(self, second: int, tail: int) -> None:
        """Within a transaction."""
        self._store.remember("final", second)
        self._store.remember("tail", tail)

    def second_of(self, page: Page[Document], began_s: float) -> int:
        """The last second that is final in a reading of which this is the first page, asked for at `began_s`."""
        asked_at_s = page.asked_at_s
        return math.floor(self._at_least_s(page, began_s) if asked_at_s is None else asked_at_s) - (
            poll_plan.OVERLAP_S + 1
        )

    def _at_least_s(self, page: Page[Document], began_s: float) -> float:
        """Procore's time when the page was asked for, where it tells none: not before the newest change on it."""
        newest_s = max((document.updated_at_s for document in page.items), default=0)
        ahead_s = self._ahead_s
        self._ahead_s = max(newest_s - trio.current_time(), -math.inf if ahead_s is None else ahead_s)
        return newest_s if ahead_s is None else max(newest_s, began_s + ahead_s)


def tail_of(items: list[Document], second: int) -> int:
    """How many of them bear a later second."""
    return sum(document.updated_at_s > second for document in items)
