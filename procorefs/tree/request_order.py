"""Decides which answers apply to a document, by when requests were under way, not by when they were queued.

Procore carries out a request at some moment between its sending and its answer. So the answer to a request that was
under way together with a call of ours that changes a document may show the document as it was before that call: it does
not speak for that document. The call's own answer does. Of two reads, the one sent later counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from procorefs.procore.wire.models import DocumentId


class Request:
    """One request, from before it is queued until its answer is applied."""

    __slots__ = ("_order", "about", "began")

    def __init__(self, order: "RequestOrder", began: int) -> None:
        self._order = order
        self.about: DocumentId | None = None
        """The document that it changes."""
        self.began = began
        """The order's count when it was sent; before that, when it was queued."""

    def sent(self) -> None:
        """It is sent now. Of a request that is sent again the first time counts."""
        self._order.sent(self)


class RequestOrder:
    """Counts beginnings and ends of requests. Synchronous; one for the whole tree."""

    def __init__(self) -> None:
        self._count = 0
        self._queued: set[Request] = set()
        self._open: set[Request] = set()
        self._changing: set[Request] = set()
        self._changed: dict[DocumentId, int] = {}
        """When the last call of ours about the document ended; kept while a request sent before is under way."""
        self._spoken: dict[DocumentId, int] = {}
        """When the newest read that spoke for the document was sent; kept likewise."""

    @contextmanager
    def reading(self) -> Iterator[Request]:
        """A request that reads; its answer is applied within the context."""
        request = self._enter()
        try:
            yield request
        finally:
            self._leave(request)

    @contextmanager
    def changing(self, document: DocumentId | None) -> Iterator[Request]:
        """A request that changes a document (None: makes one); its answer is applied within the context."""
        request = self._enter()
        request.about = document
        self._changing.add(request)
        try:
            yield request
        finally:
            self._changing.discard(request)
            if request.about is not None and request not in self._queued:
                self._changed[request.about] = self._next()
            self._leave(request)

    def is_about(self, request: Request, document: DocumentId) -> None:
        """The answer of a request that makes a document names it."""
        request.about = document

    def sent(self, request: Request) -> None:
        if request in self._queued:
            self._queued.discard(request)
            request.began = self._next()

    def admit(self, document: DocumentId, request: Request) -> bool:
        """Whether the answer of a request that reads speaks for the document; if so, no older answer does any more."""
        is_changing = any(
            change.about == document and change not in self._queued and change is not request
            for change in self._changing
        )
        if is_changing or self._changed.get(document, 0) > request.began:
            return False
        if self._spoken.get(document, 0) > request.began:
            return False
        self._spoken[document] = request.began
        return True

    @property
    def remembered(self) -> set[DocumentId]:
        """The documents that are remembered while older requests are under way."""
        return {*self._changed, *self._spoken}

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _enter(self) -> Request:
        request = Request(self, self._next())
        self._queued.add(request)
        self._open.add(request)
        return request

    def _leave(self, request: Request) -> None:
        self._queued.discard(request)
        self._open.discard(request)
        oldest = min((one.began for one in self._open), default=self._count + 1)
        for memory in (self._changed, self._spoken):
            for document in [document for document, at in memory.items() if at <= oldest]:
                del memory[document]
