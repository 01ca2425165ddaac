"""The network between client and sandbox: an httpx transport that calls the sandbox's applications in this process.

    request ─▶ (latency, fault) ─▶ the sandbox's work, one moment ─▶ (latency, fault) ─▶ answer

What was sent is worked on even if nobody waits for the answer any more: the sender may be dead by then.
"""

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import trio

from procorefs.procore.http._httpx import httpx
from tests.simulation.deletions import Deletions
from tests.simulation.steps import Fault

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LATENCY_S = (0.01, 0.25)
"""Each way."""

SLOW, SLOW_S = 0.03, (1.0, 9.0)
"""So many ways take so long."""

TROUBLE_S = 90.0
"""So long after a fault a program may be told of it: all tries of a call take no longer."""

API_PORT, STORAGE_PORT = 1, 2


class _Body(httpx.AsyncByteStream):
    """An answer's bytes, at once."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content:
            yield self._content


class Answer:
    """What the sandbox answered: status None if it ended the connection instead."""

    def __init__(self, status: int | None = None, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.body = b""
        self.is_cut = False

    async def take(self, message: Message) -> None:
        """The application's `send`."""
        match message["type"]:
            case "http.response.start":
                self.status, self.headers = message["status"], list(message["headers"])
            case "http.response.body":
                self.body += message.get("body", b"")
            case "sandbox.file":
                self.body += os.pread(message["fd"], message["count"], message["offset"])
            case "sandbox.abort":
                self.is_cut = True


async def _call(app: Application, request: httpx.Request, body: bytes) -> Answer:
    """Let an application answer a request whose body has arrived: in one moment."""
    path, _, query = request.url.raw_path.partition(b"?")
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": unquote_to_bytes(path).decode("utf-8", "surrogateescape"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": (request.url.host, request.url.port),
        "extensions": {"sandbox.file": {}, "sandbox.abort": {}},
    }
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return pieces.pop() if pieces else {"type": "http.disconnect"}

    answer = Answer()
    await app(scope, receive, answer.take)
    return answer


class _Exchange:
    """One request, from the moment it was sent."""

    def __init__(self, app: Application, request: httpx.Request, body: bytes, sent_s: float) -> None:
        self.app = app
        self.sent_s = sent_s
        self.is_awaited = True
        self.request = request
        self.body = body
        self.ended = trio.Event()
        self.answer: Answer | None = None
        """None, when it has ended: the connection broke."""

    async def work(self) -> Answer:
        return await _call(self.app, self.request, self.body)

    def end(self, answer: Answer | None) -> None:
        self.answer = answer
        self.ended.set()


class Network(httpx.AsyncBaseTransport):
    """The way from the computer to Procore; `run` must run."""

    def __init__(
        self, hosts: dict[str, Application], seed: int, now_s: Callable[[], float], deletions: Deletions
    ) -> None:
        """`hosts`: `name:port` of a URL -> who answers there."""
        self._hosts = hosts
        self._deletions = deletions
        self._seed = seed
        self._choose = random.Random(f"{seed}/network")
        self._now_s = now_s
        self._nursery: trio.Nursery | None = None
        self._armed: list[Fault] = []
        self._away_until_s = 0.0
        self._troubled_until_s = -1.0
        self.told: Callable[[str], object] = lambda _: None
        self.finished: list[tuple[httpx.Request, bytes, int | None, bytes]] = []
        """Requests that Procore worked on, in that order: with their bodies, statuses and the answers' bodies."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry requests until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def begin_step(self, number: int, faults: list[Fault]) -> None:
        """From here on latencies follow from that step, and these faults strike."""
        self._choose.seed(f"{self._seed}/{number}/network")
        self._armed += [msgspec.structs.replace(fault) for fault in faults]

    def go_away(self, seconds: float) -> None:
        """Nobody is reached for so long."""
        self._away_until_s = max(self._away_until_s, self._now_s() + seconds)
        self._trouble(seconds)

    def calm(self) -> None:
        """No more faults."""
        self._armed.clear()
        self._away_until_s = 0.0

    @property
    def is_troubled(self) -> bool:
        """Whether what asks Procore may fail."""
        return bool(self._armed) or self._now_s() < self._troubled_until_s

    def _trouble(self, seconds: float) -> None:
        self._troubled_until_s = max(self._troubled_until_s, self._now_s() + seconds + TROUBLE_S)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        app = self._hosts[request.url.netloc.decode()]
        body = b"".join([piece async for piece in request.stream])  # type: ignore[union-attr]
        fault = self._fault_of(request)
        if self._now_s() < self._away_until_s or (fault is not None and fault.kind == "refused"):
            await trio.sleep(self._latency_s())
            raise httpx.ConnectError("nobody is there", request=request)
        assert self._nursery is not None
        exchange = _Exchange(app, request, body, self._now_s())
        self._nursery.start_soon(self._carry, exchange, fault, self._latency_s(), self._latency_s())
        try:
            with trio.move_on_after(request.extensions.get("timeout", {}).get("read") or 60.0):
                await exchange.ended.wait()
        finally:
            exchange.is_awaited = False
        if not exchange.ended.is_set():
            self._tell(request, "given up")
            raise httpx.ReadTimeout("no answer came", request=request)
        answer = exchange.answer
        if answer is None or answer.status is None or answer.is_cut:
            raise httpx.RemoteProtocolError("the connection ended", request=request)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.body))

    def _fault_of(self, request: httpx.Request) -> Fault | None:
        for fault in self._armed:
            if not _matches(fault.match, request):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            self._armed.remove(fault)
            self._trouble(fault.seconds)
            return fault
        return None

    def _latency_s(self) -> float:
        bounds = SLOW_S if self._choose.random() < SLOW else LATENCY_S
        return self._choose.uniform(*bounds)

    async def _carry(self, exchange: _Exchange, fault: Fault | None, there_s: float, back_s: float) -> None:
        """What becomes of a request; it belongs to nobody who could take it back."""
        kind = fault.kind if fault is not None else ""
        await trio.sleep(there_s)
        if fault is not None and kind == "lost_before":
            self._tell(exchange.request, "lost on its way")
            exchange.end(None)
            return
        if fault is not None and kind == "status_before":
            self._tell(exchange.request, f"{fault.status}, not done")
            exchange.end(_refusal(fault))
            return
        if fault is not None and kind == "gateway":
            exchange_ends_s = min(fault.seconds, 20.0)
            await trio.sleep(exchange_ends_s)
            self._tell(exchange.request, "504, done later")
            exchange.end(_refusal(fault))
            await trio.sleep(fault.seconds)
        if fault is not None and kind == "late":
            await trio.sleep(fault.seconds)
        answer, worked_s = await exchange.work(), self._now_s()
        self._deletions.worked(exchange.request, answer.status, exchange.sent_s, is_troubled=self.is_troubled)
        self.finished.append((exchange.request, exchange.body, answer.status, answer.body))
        self._tell(exchange.request, f"{answer.status}{' ' if kind else ''}{kind}")
        await trio.sleep(back_s)
        if kind == "lost_after":
            exchange.end(None)
        elif fault is not None and kind == "status_after":
            exchange.end(_refusal(fault))
        elif not exchange.ended.is_set():
            if exchange.is_awaited:
                self._deletions.answered(exchange.request, answer.status, worked_s)
            exchange.end(answer)

    def _tell(self, request: httpx.Request, what: str) -> None:
        self.told(f"{self._now_s():9.2f}       {request.method} {request.url.path} {what}")


def _matches(match: str, request: httpx.Request) -> bool:
    """Whether a fault is for such a request."""
    is_api = request.url.port == API_PORT and request.url.path.startswith("/rest/")
    match match:
        case "change":
            return (
                is_api
                and request.method in ("POST", "PATCH", "DELETE")
                and "/uploads" not in request.url.path
            )
        case "upload":
            return is_api and request.method != "GET" and "/uploads" in request.url.path
        case "storage":
            return request.url.port == STORAGE_PORT
        case "look":
            return is_api and request.method == "GET"
        case "login":
            return request.url.path.startswith("/oauth/")
        case _:
            return is_api and request.method == match


def _refusal(fault: Fault) -> Answer:
    if fault.status == 404:  # only what is on the way to Procore says so without a reason
        answer = Answer(404, {"content-type": "text/html"})
        answer.body = b"<html>there is no route to it</html>"
        return answer
    headers = {"content-type": "application/json"}
    if fault.status in (429, 503):
        headers["retry-after"] = "7"
    answer = Answer(fault.status, headers)
    answer.body = b'{"errors": "a fault of the simulation"}'
    return answer
