"""Answers as they go out: JSON, pages with their headers, and the broken ones that faults ask for."""

from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec
from starlette.datastructures import URL, QueryParams
from starlette.responses import Response

from procorefs.sandbox.project.records import Value
from procorefs.sandbox.storage.asgi_server import Message, Receive, Send

TOTAL_CAP = 5
"""The largest Total of a documents list that caps it."""


class Answer(msgspec.Struct, frozen=True):
    """What a handler returns: status, body for JSON (None: no body), further headers."""

    body: Value
    status: int = 200
    headers: dict[str, str] = {}

    def response(self, headers: dict[str, str]) -> Response:
        if self.body is None:
            return Response(status_code=self.status, headers={**headers, **self.headers})
        return Response(
            msgspec.json.encode(self.body),
            self.status,
            {**headers, **self.headers},
            media_type="application/json",
        )

    def with_capped_total(self) -> "Answer":
        """The same page, whose header Total goes no further than TOTAL_CAP."""
        total = min(int(self.headers["Total"]), TOTAL_CAP)
        return Answer(self.body, self.status, {**self.headers, "Total": str(total)})


class Page(msgspec.Struct, frozen=True):
    """A page that was asked for, cut to what is granted."""

    number: int
    per_page: int

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.per_page

    def answer(self, body: Value, total: int, url: URL) -> Answer:
        """With Total, Per-Page and Link. (procore-api.md, Pagination)"""
        headers = {"Total": str(total), "Per-Page": str(self.per_page), "Link": self._link(total, url)}
        return Answer(body, headers=headers)

    def of(self, items: Sequence[Value], url: URL) -> Answer:
        """The page of a list that is at hand as a whole."""
        return self.answer(items[self.offset : self.offset + self.per_page], len(items), url)

    def _link(self, total: int, url: URL) -> str:
        last = max(-(-total // self.per_page), 1)
        if last == 1:
            return ""
        relations = {"first": 1, "prev": self.number - 1, "next": self.number + 1, "last": last}
        return ", ".join(
            f'<{self._url(url, number)}>; rel="{relation}"'
            for relation, number in relations.items()
            if 1 <= number <= last
        )

    def _url(self, url: URL, number: int) -> str:
        kept = [
            (name, value)
            for name, value in QueryParams(url.query).multi_items()
            if name not in {"page", "per_page"}
        ]
        return str(url.replace(query=urlencode([*kept, ("page", number), ("per_page", self.per_page)])))


class Dropped(Response):
    """No answer: the connection ends."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "sandbox.abort"})


class CutShort(Response):
    """An answer whose connection ends after some bytes of its body."""

    def __init__(self, whole: Response, after_bytes: int) -> None:
        super().__init__(whole.body, whole.status_code)
        self.raw_headers = whole.raw_headers
        self._after_bytes = after_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        piece = bytes(self.body)[: self._after_bytes]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "sandbox.abort"})
