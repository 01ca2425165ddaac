"""Makes one call of the API: takes it from the call budget, sends it with the token, and repeats it where that is safe.

Reads are repeated after passing failures. Changes are repeated only when they certainly were not done: there was
no connection, the token had expired, the limit was used up (429), or the platform was busy and said until when.
"""

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import trio

from procorefs.limiter import Limiter, Priority
from procorefs.procore.api.change_errors import change_error, unanswered
from procorefs.procore.auth.token_renewal import Auth
from procorefs.procore.errors import (
    Forbidden,
    Invalid,
    Malformed,
    NotAuthorized,
    ProcoreError,
    Silent,
    error_of_api,
)
from procorefs.procore.http.bodies import Response, whole_body
from procorefs.procore.http.connectivity import Tries
from procorefs.procore.http.http_client import Headers, Http, bearer
from procorefs.procore.http.retry_policy import RetryPolicy
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire import decoding
from procorefs.procore.wire.models import CompanyId, Page
from procorefs.procore.wire.paging import Answer, page_of
from procorefs.procore.wire.rights import Right
from procorefs.storage import clocks
from procorefs.storage.events import EventSource

log = logging.getLogger(__name__)

T = TypeVar("T")

OnSent = Callable[[], None]
"""Called when a call is sent."""

CALL_S = 120.0
"""A call whose answer takes longer counts as silent, even while bytes come."""

TOO_MANY_REQUESTS = 429

MOST_PAGES = 1000
"""A list with more pages counts as endless."""

HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip"}
JSON_HEADERS = HEADERS | {"Content-Type": "application/json"}


class Call(msgspec.Struct, frozen=True):
    """One call; `route` is what it is counted under, `action` completes "Could not …"."""

    route: str
    path: str
    query: dict[str, str]
    action: str
    priority: Priority
    company_id: CompanyId | None = None
    """None: the company of the settings."""
    without_company: bool = False
    """No company header."""
    method: str = "GET"
    body: bytes = b""
    """JSON."""
    harmless: bool = False
    """It may be repeated although it is no GET."""
    on_sent: OnSent | None = None
    """Called each time it is sent, after all waiting for the budget; if it raises, the call is not sent."""
    is_list: bool = False
    """It asks for one page of a list."""
    needs: frozenset[Right] = frozenset()
    """The rights without which Procore refuses it with 403."""

    def page(self, page: int, per_page: int) -> "Call":
        """The same for one page of its list."""
        return msgspec.structs.replace(
            self, query=self.query | {"page": str(page), "per_page": str(per_page)}, is_list=True
        )

    def sending(
        self,
        method: str,
        body: Any = None,  # noqa: ANN401 - JSON
        *,
        harmless: bool = False,
        needs: Iterable[Right] = (),
    ) -> "Call":
        """The same as a change with a JSON body (None: without one)."""
        encoded = b"" if body is None else msgspec.json.encode(body)
        return msgspec.structs.replace(
            self, method=method, body=encoded, harmless=harmless, needs=frozenset(needs)
        )


class Permission(msgspec.Struct, frozen=True):
    """What the answer to a call showed of the account's rights."""

    rights: frozenset[Right]
    is_granted: bool
    """False: at least one of them is missing, or the document is closed to the account."""


class ApiCalls(msgspec.Struct):
    """Counts the calls that were sent; `throttled` counts the answers 429."""

    total: int = 0
    by_route: dict[str, int] = {}
    throttled: int = 0
    by_answer: dict[tuple[str, int], int] = {}
    """By route and status; 0: no answer came."""

    def sent(self, route: str) -> None:
        self.total += 1
        self.by_route[route] = self.by_route.get(route, 0) + 1

    def answered(self, route: str, status: int) -> None:
        self.by_answer[route, status] = self.by_answer.get((route, status), 0) + 1
        self.throttled += status == TOO_MANY_REQUESTS


class _Outcome(msgspec.Struct):
    """How one exchange ended; status 0: no answer came. `failure`: the answer, or its body, was lost."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    failure: ProcoreError | None


class Api:
    """The calls of one account."""

    def __init__(self, settings: ApiSettings, http: Http, auth: Auth, limiter: Limiter) -> None:
        self.settings = settings
        self.http = http
        self.auth = auth
        self.connectivity = auth.connectivity
        self.limiter = limiter
        self.stats = ApiCalls()
        self.permissions = EventSource[Permission]()
        """Emits what the answer to each changing call shows of the account's rights."""
        self._base = settings.api_url.rstrip("/")

    async def all_pages(
        self, call: Call, per_page: int, parse: Callable[[bytes, str], decoding.Items]
    ) -> list[T]:
        """Every item of a list. Raises ProcoreError."""
        found: list[T] = []
        page = 1
        for _ in range(MOST_PAGES):
            answer = await self.ask(call.page(page, per_page))
            read: Page[T] = page_of(answer, parse(answer.body, call.action), page, per_page)
            found += read.items
            if read.next_page is None:
                return found
            page, per_page = read.next_page, read.per_page or per_page
        raise Malformed(f"Could not {call.action}: Procore's list does not end")

    async def change(self, call: Call, parse: Callable[[bytes, str], T]) -> T:
        """A change, and what its answer says. Raises Unanswered also when that is not understood."""
        answer = await self.ask(call)
        try:
            return parse(answer.body, call.action)
        except Malformed as error:
            raise unanswered(error) from error

    async def ask(self, call: Call) -> Answer:
        """One call, repeated where that is safe; a 401 renews the token once. Raises ProcoreError.

        A change raises Unanswered when it may or may not have been done; every other error says that it was not.
        """
        with self.connectivity.tries() as tries:
            return await self._with_retries(call, tries)

    async def _with_retries(self, call: Call, tries: Tries) -> Answer:
        retries = RetryPolicy(self.settings.retry_for_s, trio.current_time(), random.random)
        await self.auth.token()  # a login that fails takes no call
        renewed = False
        while True:
            waited_from_s = trio.current_time()
            await self.limiter.acquire(call.priority)
            retries.extend(trio.current_time() - waited_from_s)
            token = await self._token_for_call()
            self._announce(call)
            try:
                return await self._send(call, self._headers_of(call, token), self._silence_s(call, retries))
            except NotAuthorized:
                if renewed:
                    raise
                renewed = True
                await self.auth.renew(token)
            except ProcoreError as error:
                tries.failed(error)
                pause_s = retries.pause_s(error, trio.current_time())
                if pause_s is None:
                    raise
                log.info("%s: trying again in %.1f s (%s %s)", error, pause_s, call.method, call.path)
                await trio.sleep(pause_s)

    def _silence_s(self, call: Call, retries: RetryPolicy) -> float:
        """How long a try may be silent. Changes and work in the background have the full time for each try."""
        most_s = self.settings.silence_s
        is_awaited = call.method == "GET" and call.priority is Priority.INTERACTIVE
        return retries.silence_s(most_s, trio.current_time()) if is_awaited else most_s

    def _announce(self, call: Call) -> None:
        """Tell the caller that it is sent now; if that raises, it is not sent. A call was taken before."""
        if call.on_sent is None:
            return
        try:
            call.on_sent()
        except BaseException:
            self.limiter.observe(0, {})
            raise

    def server_s(self, at_s: float) -> float:
        """A time of `clocks.unix_s` by Procore's clock, which may differ from this machine's."""
        return at_s + self.limiter.server_unix_s() - clocks.unix_s()

    def project_query(self) -> dict[str, str]:
        """The parameter that most calls about documents need. Raises Invalid as `company_and_project`."""
        return {"project_id": str(self.company_and_project()[1])}

    def company_and_project(self) -> tuple[int, int]:
        """Raises Invalid when the settings name none."""
        if self.settings.company_id is None or self.settings.project_id is None:
            raise Invalid("No company and project were chosen")
        return self.settings.company_id, self.settings.project_id

    def _headers_of(self, call: Call, token: str) -> dict[str, str]:
        return bearer(token) if call.without_company else self.own_headers(token, call.company_id)

    def own_headers(self, token: str, company_id: CompanyId | None = None) -> dict[str, str]:
        """The headers for the API's own origin alone: token and company."""
        company_id = company_id or self.settings.company_id
        company = {"Procore-Company-Id": str(company_id)} if company_id is not None else {}
        return bearer(token) | company

    async def _token_for_call(self) -> str:
        """The current token: one from before the wait may have expired. A call was taken before."""
        try:
            return await self.auth.token()
        except BaseException:
            self.limiter.observe(0, {})
            raise

    async def _send(self, call: Call, own_headers: Mapping[str, str], silence_s: float) -> Answer:
        """One exchange and what it means. A call was taken before."""
        sent_s = trio.current_time()
        outcome = await self._exchange(call, own_headers, silence_s)
        error: ProcoreError | None
        if call.method == "GET" or call.harmless:
            error = _read_error(call, outcome)
        else:
            body_matters = call.method != "DELETE"
            error = change_error(
                call.action,
                outcome.status,
                outcome.body,
                outcome.failure if body_matters or outcome.status == 0 else None,
                names_retry_after="retry-after" in outcome.headers,
            )
        if call.needs and (error is None or isinstance(error, Forbidden)):
            self.permissions.emit(Permission(call.needs, is_granted=error is None))
        if error is not None:
            raise error
        return Answer(outcome.headers, outcome.body, trio.current_time() - sent_s)

    async def _exchange(self, call: Call, own_headers: Mapping[str, str], silence_s: float) -> _Outcome:
        """Request and answer; the limiter is told the outcome in any case."""
        route, began_s = f"{call.method} {call.route}", trio.current_time()
        self.stats.sent(route)
        status, answered, body = 0, Headers(), b""
        failure: ProcoreError | None = None
        try:
            with trio.move_on_after(CALL_S) as scope:
                async with self._request(call, own_headers, silence_s) as response:
                    status, answered = response.status_code, response.headers
                    body = await whole_body(response, call.action)
        except ProcoreError as error:
            failure = error
        finally:
            self.limiter.observe(status, answered)
            self.stats.answered(route, status)
        if scope.cancelled_caught:
            failure = Silent(f"Could not {call.action}: Procore did not finish its answer in {CALL_S:.0f} s")
        log.debug("%s: %s in %.3f s", route, status or failure, trio.current_time() - began_s)
        return _Outcome(status, answered, body, failure)

    def _request(
        self, call: Call, own_headers: Mapping[str, str], silence_s: float
    ) -> AbstractAsyncContextManager[Response]:
        url = self._base + call.path + ("?" + urlencode(call.query) if call.query else "")
        if call.method == "GET":
            return self.http.get(
                url, action=call.action, headers=HEADERS, own_headers=own_headers, silence_s=silence_s
            )
        headers = {**(JSON_HEADERS if call.body else HEADERS), **own_headers}
        return self.http.send(
            call.method, url, action=call.action, headers=headers, body=call.body, silence_s=silence_s
        )


def _read_error(call: Call, outcome: _Outcome) -> ProcoreError | None:
    """The error that a read ends with; None: here is the answer."""
    if outcome.failure is not None:
        return outcome.failure
    good = outcome.status == 200 or (call.method != "GET" and 200 <= outcome.status < 300)
    if good:
        return None
    return error_of_api(call.action, outcome.status, outcome.body, is_list=call.is_list)
