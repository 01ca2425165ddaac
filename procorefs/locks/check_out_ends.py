"""Remembers the ends of the check-outs that this mount asked for, which tell them from those of other hosts.

Procore shows a check-out by its user and its end. Which of several ends it shows depends on the calls that it has done:
a call without an answer may have been done, or may be done later. So an end is remembered until it is over, unless its
call was answered and a later answer replaces it. An end is written to the journal before it is asked for.
"""

import logging
import sqlite3
from collections.abc import Callable, Mapping

import trio

from procorefs.locks.check_out_journal import CheckOutJournal
from procorefs.procore.errors import LATE_S
from procorefs.procore.wire.models import DocumentId

log = logging.getLogger(__name__)

_ANSWERED, _UNDER_WAY = 0.0, float("inf")


class AskedEnds:
    """Ends by document. `asked` raises sqlite3.Error; a record that cannot be deleted is only logged.

    An end is over by Procore's clock, which only an answer tells: so ends are forgotten at an answer, and not at the
    start, when the machine's clock may have been set since.
    """

    def __init__(self, journal: CheckOutJournal, wall_s: Callable[[], float]) -> None:
        self._journal = journal
        self._wall_s = wall_s
        self._ends: dict[DocumentId, dict[int, float]] = {}
        """Each end with the loop time until which the call that asked for it may still be carried out."""
        for document, until_s in journal.known():
            self._ends.setdefault(document, {})[until_s] = _UNDER_WAY

    def begin_run(self) -> None:
        """What an earlier daemon asked for may still be carried out."""
        for document, ends in self._ends.items():
            for until_s in ends:
                self.given_up(document, until_s)

    def documents(self) -> list[DocumentId]:
        """All documents of which an end was asked for that is not known to be over."""
        return list(self._ends)

    def of(self, document: DocumentId) -> Mapping[int, float]:
        return self._ends.get(document, {})

    def unused(self, document: DocumentId, until_s: int) -> int:
        """That end, or the next one that was not asked for yet: each call asks for one of its own."""
        while until_s in self.of(document):
            until_s += 1
        return until_s

    def asked(self, document: DocumentId, until_s: int) -> None:
        """Call before the request is sent."""
        self._journal.remember(document, until_s)
        self._ends.setdefault(document, {})[until_s] = _UNDER_WAY

    def given_up(self, document: DocumentId, until_s: int) -> None:
        """The answer is not waited for any more, and the call may still be carried out for a while."""
        self._ends.setdefault(document, {})[until_s] = trio.current_time() + LATE_S

    def late_s(self, document: DocumentId) -> float:
        """The loop time until which a call without an answer may still be carried out; 0: there is none."""
        return max(self.of(document).values(), default=_ANSWERED)

    def holds(self, document: DocumentId, until_s: int) -> None:
        """Procore has this end: it replaces all others whose calls were answered."""
        self._ends.setdefault(document, {})[until_s] = _ANSWERED
        self._drop(document, lambda end_s, late_s: end_s != until_s and late_s == _ANSWERED)

    def refused(self, document: DocumentId, until_s: int) -> None:
        """The call was not done, and will not be."""
        self._drop(document, lambda end_s, _late_s: end_s == until_s)

    def checked_in(self, document: DocumentId, shown_s: int | None) -> None:
        """Nothing is left but what a call without an answer may still do.

        `shown_s`: the end that the tree has. It may be ours still: the answer to a check-in does not speak for a
        document while another call of ours changes it.
        """
        now_s = trio.current_time()
        self._drop(document, lambda end_s, late_s: late_s <= now_s and end_s != shown_s)

    def _drop(self, document: DocumentId, is_done: Callable[[int, float], bool]) -> None:
        """Forget what is done, and what is over of any document."""
        now_s = self._wall_s()
        for other, ends in list(self._ends.items()):
            for until_s, late_s in list(ends.items()):
                if until_s <= now_s or (other == document and is_done(until_s, late_s)):
                    del ends[until_s]
                    self._forget(other, until_s)
            if not ends:
                del self._ends[other]

    def _forget(self, document: DocumentId, until_s: int) -> None:
        try:
            self._journal.forget(document, until_s)
        except sqlite3.Error as error:  # it ends by itself, and then the next start forgets it
            log.warning("The record of check-outs could not be written: %s", error)
