"""When one call is made again, with networks that fail in chosen ways."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from procorefs.limiter import Limiter, Priority
from procorefs.procore.api.calls import Api, Call
from procorefs.procore.auth.token_renewal import Auth
from procorefs.procore.errors import NotAuthorized, Unanswered, Unavailable, Unreachable
from procorefs.procore.http._httpx import httpx
from procorefs.procore.http.bodies import Response
from procorefs.procore.http.connectivity import Connectivity
from procorefs.procore.http.http_client import Http
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire import decoding

DONE = b'{"id": 5, "name": "New"}'
CALL = Call("folders", "/rest/v1.0/folders", {"project_id": "1"}, "create it", Priority.WRITING)
CHANGE = CALL.sending("POST", {"folder": {"name": "New"}})


class _Body(httpx.AsyncByteStream):
    """A body as it comes from the network, to be read once."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


class Network:
    """Ends each request as the next item of a list says: an error, a status, or a body."""

    def __init__(self, *ends: Exception | int | bytes) -> None:
        self.ends = list(ends)
        self.sent: list[tuple[str, str, Any]] = []

    @asynccontextmanager
    async def send(self, method: str, url: str, *, body: bytes, **_options: Any) -> AsyncIterator[Response]:
        self.sent.append((method, url, body))
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        status, content = (end, b"") if isinstance(end, int) else (201, end)
        yield Response(status, stream=_Body(content))


class Login:
    """Tokens that count."""

    def __init__(self) -> None:
        self.renewals = 0
        self.connectivity = Connectivity()

    async def token(self) -> str:
        return f"token {self.renewals}"

    async def renew(self, rejected: str) -> str:
        assert rejected == f"token {self.renewals}"
        self.renewals += 1
        return await self.token()


class Open:
    """A limiter that lets everybody in and counts."""

    def __init__(self) -> None:
        self.balance = 0
        self.statuses: list[int] = []

    async def acquire(self, _priority: Priority) -> None:
        self.balance += 1

    def observe(self, status: int, _headers: Any) -> None:
        self.balance -= 1
        self.statuses.append(status)


def api_of(network: Network, retry_for_s: float = 30.0) -> Api:
    settings = ApiSettings(api_url="https://api.x", client_id="c", client_secret="s", retry_for_s=retry_for_s)
    return Api(settings, cast(Http, network), cast(Auth, Login()), cast(Limiter, Open()))


async def test_what_was_never_sent_is_sent_again() -> None:
    network = Network(Unreachable("no route"), Unreachable("no route"), DONE)
    api = api_of(network)
    assert (await api.change(CHANGE, decoding.folder)).id == 5
    assert (
        network.sent
        == [("POST", "https://api.x/rest/v1.0/folders?project_id=1", b'{"folder":{"name":"New"}}')] * 3
    )
    assert api.stats.by_route == {"POST folders": 3}
    limiter = cast(Open, api.limiter)
    assert (limiter.balance, limiter.statuses) == (0, [0, 0, 201])


async def test_what_was_never_sent_is_given_up_as_such() -> None:
    network = Network(*[Unreachable("no route")] * 9)
    with pytest.raises(Unreachable):
        await api_of(network, retry_for_s=0.1).change(CHANGE, decoding.folder)
    assert 1 <= len(network.sent) < 9


@pytest.mark.parametrize("end", [Unavailable("broke"), 500, 503, b"not JSON", b'{"id": 0, "name": "x"}'])
async def test_what_may_have_been_done_is_not_sent_again(end: Exception | int | bytes) -> None:
    network = Network(end, DONE)
    with pytest.raises(Unanswered):
        await api_of(network).change(CHANGE, decoding.folder)
    assert len(network.sent) == 1


async def test_what_is_harmless_is_sent_again() -> None:
    network = Network(Unavailable("broke"), 500, DONE)
    api = api_of(network)
    await api.ask(CALL.sending("POST", {}, harmless=True))
    assert len(network.sent) == 3


async def test_a_token_is_renewed_once() -> None:
    network = Network(401, DONE)
    api = api_of(network)
    await api.ask(CHANGE)
    assert cast(Login, api.auth).renewals == 1
    network.ends[:] = [401, 401, DONE]
    with pytest.raises(NotAuthorized):
        await api.ask(CHANGE)
    assert len(network.ends) == 1


async def test_a_deletion_needs_no_body() -> None:
    network = Network(b"not JSON")
    await api_of(network).ask(CALL.sending("DELETE"))
    assert network.sent[0][2] == b""
