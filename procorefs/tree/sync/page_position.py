"""Decides which page of a long list to read next while the list changes, and how far the reading has come.

The list is sorted by the newest change. A change during the reading pushes documents down, where they are read again; a
deletion pulls them up, maybe past the reading. The total then falls from one answer to the next, and the pages before
are read again.
"""

import math

from procorefs.procore.wire.models import Document, Page
from procorefs.tree.sync import poll_plan


class PageReading:
    """One reading of a list by several readers; pure."""

    def __init__(self) -> None:
        self.per_page = poll_plan.LISTING_PAGE
        """The size of the first page that was answered; before that, the size to request."""
        self.total: int | None = None
        self.refused = 0
        self.calls = 0
        self.disturbed = False
        """The list changed while it was read."""
        self.broken = False
        """The size of the pages changed, so their numbers mean nothing any more: another reading must continue."""
        self._next = 1
        self._again: set[int] = set()
        self._under_way: set[int] = set()
        self._oldest_s: dict[int, int] = {}
        """Page -> oldest change on it, until all pages before it are read."""
        self._reached_s: int | None = None
        self._last = 1
        """Pages up to here may exist."""

    @property
    def reached_s(self) -> int | None:
        """All documents that changed later were read; None: nothing is certain yet."""
        return self._reached_s

    def take(self) -> int | None:
        """A page that no reader has taken; None when there is none."""
        if self.broken:
            return None
        if self._again:
            number = min(self._again)
            self._again.discard(number)
        elif self._next <= self._last:
            number = self._next
            self._next += 1
        else:
            return None
        self._under_way.add(number)
        return number

    def answered(self, number: int, page: Page[Document]) -> None:
        self._under_way.discard(number)
        self.calls += 1
        self.refused += page.refused
        self._compare(number, page)
        if page.next_page is None:
            self._last = min(self._last, max(number, self._next - 1))
        else:
            last = math.ceil((page.total or 0) / self.per_page)
            self._last = max(self._last, number + 1, last)
        self._advance(number, page)

    def _compare(self, number: int, page: Page[Document]) -> None:
        """Detect by the page's size and total how the list changed since the page before."""
        size = page.per_page or self.per_page
        if number == 1 and self.calls == 1:
            self.per_page = size
        elif size != self.per_page and page.next_page is not None:
            self.broken = self.disturbed = True
        if page.total is None:
            return
        if self.total is not None and page.total != self.total:
            self.disturbed = True
            if page.total < self.total:
                self._step_back(number, math.ceil((self.total - page.total) / self.per_page))
        self.total = page.total

    def _step_back(self, number: int, pages: int) -> None:
        """Documents may have moved from a page to the one before it, which was read already or is being read."""
        first = max(1, min(self._under_way | {number}) - pages)
        self._again.update(range(first, number))

    def _advance(self, number: int, page: Page[Document]) -> None:
        times_s = [document.updated_at_s for document in page.items if document.updated_at_s]
        if times_s:
            self._oldest_s[number] = min(times_s)
        first_missing = min(self._under_way | self._again | {self._next})
        for done in [n for n in self._oldest_s if n < first_missing]:
            oldest_s = self._oldest_s.pop(done)
            self._reached_s = oldest_s if self._reached_s is None else min(self._reached_s, oldest_s)
