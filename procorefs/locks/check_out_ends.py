"""The ends of the check-outs that we asked for: how a check-out of ours is told from one that another host made.

Procore shows a check-out by its user and its end. Which of the ends that we asked for it shows depends on which calls
it has done: a call without an answer may have been done, or may be done later. So an end stays here until it is over,
unless its call was answered and a later answer replaces it. An end is written to the journal before it is asked for.
"""

import logging
import sqlite3
from collections.abc import Callable, Collection

from procorefs.locks.held import LockJournal
from procorefs.procore.wire.models import DocumentId

log = logging.getLogger(__name__)


class AskedEnds:
    """Ends by document. `asked` raises sqlite3.Error; a record that cannot be deleted is only logged."""

    def __init__(self, journal: LockJournal, wall_s: Callable[[], float]) -> None:
        self._journal = journal
        self._wall_s = wall_s
        self._ends: dict[DocumentId, dict[int, bool]] = {}
        """Each end with whether the call that asked for it is unanswered."""
        for document, until_s in journal.known():
            self._ends.setdefault(document, {})[until_s] = False
        for document in self.documents():
            self._drop(document, lambda _until_s, _is_unanswered: False)

    def documents(self) -> list[DocumentId]:
        """All documents of which an end was asked for that is not over."""
        return list(self._ends)

    def of(self, document: DocumentId) -> Collection[int]:
        return self._ends.get(document, {})

    def unused(self, document: DocumentId, until_s: int) -> int:
        """That end, or the next one that was not asked for yet: each call asks for one of its own."""
        while until_s in self.of(document):
            until_s += 1
        return until_s

    def asked(self, document: DocumentId, until_s: int) -> None:
        """Call before the request is sent."""
        self._journal.remember(document, until_s)
        self._ends.setdefault(document, {})[until_s] = True

    def holds(self, document: DocumentId, until_s: int) -> None:
        """Procore has this end: it replaces all others whose calls were answered."""
        self._ends.setdefault(document, {})[until_s] = False
        self._drop(document, lambda end_s, is_unanswered: end_s != until_s and not is_unanswered)

    def refused(self, document: DocumentId, until_s: int) -> None:
        """The call was not done, and will not be."""
        self._drop(document, lambda end_s, _is_unanswered: end_s == until_s)

    def checked_in(self, document: DocumentId) -> None:
        """Nothing of ours is left but what a call without an answer may still do in this run."""
        for until_s in self.of(document):
            self._forget(document, until_s)
        self._drop(document, lambda _until_s, is_unanswered: not is_unanswered)

    def _drop(self, document: DocumentId, is_done: Callable[[int, bool], bool]) -> None:
        """Forget what is done or over."""
        ends, now_s = self._ends.get(document, {}), self._wall_s()
        for until_s in [end for end, unanswered in ends.items() if end <= now_s or is_done(end, unanswered)]:
            del ends[until_s]
            self._forget(document, until_s)
        if not ends:
            self._ends.pop(document, None)

    def _forget(self, document: DocumentId, until_s: int) -> None:
        try:
            self._journal.forget(document, until_s)
        except sqlite3.Error as error:  # it ends by itself, and then the next start forgets it
            log.warning("The record of check-outs could not be written: %s", error)
