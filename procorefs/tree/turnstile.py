"""Answers overtake each other: which of two is newer."""

from procorefs.procore.models import DocumentId


class Turnstile:
    """Which of two answers is newer, by when each was asked for.

    Answers overtake each other: a page asked for before a look must not undo what the look told. So every request takes
    a number before it is sent, and what a newer answer spoke of is remembered as long as an older request is still
    under way.
    """

    def __init__(self) -> None:
        self._next = 1
        self._under_way: set[int] = set()
        self._spoken: dict[int, set[DocumentId]] = {}

    def enter(self) -> int:
        number = self._next
        self._next += 1
        self._under_way.add(number)
        return number

    def leave(self, number: int) -> None:
        self._under_way.discard(number)
        oldest = min(self._under_way, default=self._next)
        for old in [n for n in self._spoken if n <= oldest]:
            del self._spoken[old]

    def admit(self, document_id: DocumentId, number: int) -> bool:
        """Whether the answer to request `number` may still speak for the document; if so, it does from now on."""
        if any(n > number and document_id in ids for n, ids in self._spoken.items()):
            return False
        if any(n < number for n in self._under_way):
            self._spoken.setdefault(number, set()).add(document_id)
        return True
