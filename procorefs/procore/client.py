"""The calls: each goes through the limiter, is repeated where that is safe, and returns checked models."""

import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
import trio

from procorefs.limiter import Limiter, Priority, budget_key, open_limiter
from procorefs.procore import wire
from procorefs.procore.addresses import acceptable_url
from procorefs.procore.auth import Auth
from procorefs.procore.errors import (
    Invalid,
    Malformed,
    NotAuthorized,
    NotFound,
    ProcoreError,
    Silent,
    TooLarge,
    error_of_answer,
)
from procorefs.procore.http import Headers, Http, open_http, whole_body
from procorefs.procore.models import (
    Company,
    CompanyId,
    Document,
    DocumentId,
    FolderListing,
    Me,
    Page,
    Project,
    Version,
    VersionId,
)
from procorefs.procore.paging import Answer, page_of
from procorefs.procore.retry import Patience
from procorefs.procore.settings import ApiSettings
from procorefs.procore.tokens import open_store

log = logging.getLogger(__name__)

__all__ = ["ApiCalls", "ApiSettings", "Client", "open_client"]

T = TypeVar("T")

CALL_S = 120.0  # a call that trickles for longer is silent to those who wait for it
MANY = 2000  # per_page to ask for: no list has more
MANY_PROJECTS = 300
MOST_PAGES = 1000  # of companies or projects: beyond that a list is endless
SMALLER_PAGES = (500, 100, 50, 25, 10)  # asked for in turn when a list is "too large"; 100 is the common cap
SMALLEST_PAGE = SMALLER_PAGES[-1]
HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip"}
A_DAY_S = 86_400


class Call(msgspec.Struct, frozen=True):
    """One GET of the API: how it is counted, where it goes, and what it is for ("Could not …")."""

    route: str
    path: str
    query: dict[str, str]
    action: str
    priority: Priority
    company_id: CompanyId | None = None  # None: the settings'

    def page(self, page: int, per_page: int) -> "Call":
        """The same for one page of its list."""
        return msgspec.structs.replace(
            self, query=self.query | {"page": str(page), "per_page": str(per_page)}
        )


class ApiCalls(msgspec.Struct):
    """What was sent to the API; `throttled` counts the answers 429."""

    total: int = 0
    by_route: dict[str, int] = {}
    throttled: int = 0

    def count(self, route: str) -> None:
        self.total += 1
        self.by_route[route] = self.by_route.get(route, 0) + 1


class Client:
    """One account at one Procore.

    Calls raise ProcoreError. Those about documents need `company_id` and `project_id` in the settings.
    """

    def __init__(self, settings: ApiSettings, http: Http, auth: Auth, limiter: Limiter) -> None:
        self.settings = settings
        self.http = http
        self.auth = auth
        self.limiter = limiter
        self.stats = ApiCalls()
        self._base = settings.api_url.rstrip("/")
        self.index_route = 0
        """Which of the index's three routes answers, those before it were 404; worth remembering, each costs a call."""
        self._per_page_cap = MANY  # lowered when the server says that a list is too large

    async def me(self, *, priority: Priority = Priority.INTERACTIVE) -> Me:
        """The user that the token stands for."""
        action = "ask who is logged in"
        answer = await self._get(Call("me", "/rest/v1.0/me", {}, action, priority))
        return wire.me(answer.body, action)

    async def companies(self, *, priority: Priority = Priority.INTERACTIVE) -> list[Company]:
        """All companies of the user."""
        call = Call("companies", "/rest/v1.0/companies", {}, "list the companies", priority)
        return await self._all_pages(call, MANY, wire.companies)

    async def projects(
        self, company_id: CompanyId, *, priority: Priority = Priority.INTERACTIVE
    ) -> list[Project]:
        """All projects of a company that the user can see."""
        action = f"list the projects of company {company_id}"
        query = {"company_id": str(company_id)}
        call = Call("projects", "/rest/v1.1/projects", query, action, priority, company_id)
        return await self._all_pages(call, MANY_PROJECTS, wire.projects)

    async def project(self, *, priority: Priority) -> Project | None:
        """The settings' project as the company's list shows it; None when the list does not have it."""
        company_id, project_id = self._company_and_project()
        action = f"look up project {project_id}"
        query = {"company_id": str(company_id), "filters[id]": str(project_id)}
        call = Call("projects", "/rest/v1.1/projects", query, action, priority)
        answer = await self._get(call.page(1, MANY_PROJECTS))
        return next((p for p in wire.projects(answer.body, action).kept if p.id == project_id), None)

    async def company_name(self, *, priority: Priority) -> str:
        """The name of the settings' company; empty when the user's list does not have it."""
        company_id, _ = self._company_and_project()
        return next((c.name for c in await self.companies(priority=priority) if c.id == company_id), "")

    async def documents_page(
        self,
        *,
        page: int,
        per_page: int = MANY,
        sort: str = "-updated_at",
        updated_from_s: int | None = None,
        updated_to_s: int | None = None,
        in_recycle_bin: bool | None = None,
        folder_id: DocumentId | None = None,
        priority: Priority,
    ) -> Page[Document]:
        """One page of the project's index; pass the `per_page` that came back on to the next call.

        Times are Unix seconds. A list that is too large is asked for in smaller pages (406, 408).
        """
        query = {"view": "extended", "sort": sort}
        if updated_from_s is not None or updated_to_s is not None:
            query["filters[updated_at]"] = time_range(updated_from_s, updated_to_s)
        if in_recycle_bin is not None:
            query["filters[is_in_recycle_bin]"] = "true" if in_recycle_bin else "false"
        if folder_id is not None:
            query["filters[folder_id]"] = str(folder_id)
        if page == 1:
            per_page = min(per_page, self._per_page_cap)
        return await self._index_page(query, page, per_page, priority)

    async def folder(self, folder_id: DocumentId | None, *, priority: Priority) -> FolderListing:
        """A folder (None: the root) and what lies directly in it."""
        action = "list the root folder" if folder_id is None else f"list folder {folder_id}"
        path = "/rest/v1.0/folders" + ("" if folder_id is None else f"/{folder_id}")
        query = self._project_query() | {"show_latest_file_version_only": "true"}
        answer = await self._get(Call("folders", path, query, action, priority))
        return wire.folder_listing(answer.body, action)

    async def file(self, file_id: DocumentId, *, priority: Priority) -> Document:
        """A file with its newest version."""
        action = f"look up file {file_id}"
        query = self._project_query() | {"show_latest_version_only": "true"}
        answer = await self._get(Call("files", f"/rest/v1.0/files/{file_id}", query, action, priority))
        return wire.file(answer.body, action)

    async def file_version(self, version_id: VersionId, *, priority: Priority) -> Version:
        """A version, with an address that is fresh."""
        action = f"look up version {version_id}"
        path = f"/rest/v1.0/file_versions/{version_id}"
        answer = await self._get(Call("file_versions", path, self._project_query(), action, priority))
        return wire.file_version(answer.body, action)

    # --- the index ---

    async def _index_page(
        self, query: dict[str, str], page: int, per_page: int, priority: Priority
    ) -> Page[Document]:
        action = f"list the documents of project {self.settings.project_id}"
        try:
            answer = await self._get_index(
                Call("documents", "", query, action, priority).page(page, per_page)
            )
        except TooLarge:
            smaller = next((size for size in SMALLER_PAGES if size < per_page), 0)
            if not smaller:
                raise
            self._per_page_cap = min(self._per_page_cap, smaller)
            log.info("Procore finds a page of %d documents too large: asking for smaller ones", per_page)
            if page == 1:
                return await self._index_page(query, 1, smaller, priority)
            return await self._in_halves(query, page, per_page, priority)
        return page_of(answer, wire.documents(answer.body, action), page, per_page)

    async def _in_halves(
        self, query: dict[str, str], page: int, per_page: int, priority: Priority
    ) -> Page[Document]:
        """The same documents in two smaller pages: only the first page may change the size of those after it."""
        half = per_page // 2
        if per_page % 2 or half < SMALLEST_PAGE:
            raise TooLarge(f"Could not list the documents: pages of {per_page} have become too large")
        first = await self._index_page(query, page * 2 - 1, half, priority)
        if first.next_page is None:
            return msgspec.structs.replace(first, per_page=per_page)
        second = await self._index_page(query, page * 2, half, priority)
        return Page(
            items=first.items + second.items,
            total=second.total,
            per_page=per_page,
            next_page=page + 1 if second.next_page is not None else None,
            refused=first.refused + second.refused,
            asked_at_s=first.asked_at_s,
        )

    async def _get_index(self, call: Call) -> Answer:
        """From the newest route that this Procore has: v2 with company, v2 without, v1 (on 404, remembered)."""
        paths = self._index_paths()
        for position in range(min(self.index_route, len(paths) - 1), len(paths)):
            try:
                answer = await self._get(msgspec.structs.replace(call, path=paths[position]))
            except NotFound:
                if position == len(paths) - 1:
                    self.index_route = 0
                    raise
            else:
                self.index_route = position
                return answer
        raise AssertionError("the last route returns or raises")

    def _index_paths(self) -> list[str]:
        company_id, project_id = self._company_and_project()
        return [
            f"/rest/v2.0/companies/{company_id}/projects/{project_id}/documents",
            f"/rest/v2.0/projects/{project_id}/documents",
            f"/rest/v1.0/projects/{project_id}/documents",
        ]

    def _project_query(self) -> dict[str, str]:
        return {"project_id": str(self._company_and_project()[1])}

    def _company_and_project(self) -> tuple[int, int]:
        if self.settings.company_id is None or self.settings.project_id is None:
            raise Invalid("No company and project were chosen")
        return self.settings.company_id, self.settings.project_id

    # --- one call ---

    async def _all_pages(
        self, call: Call, per_page: int, parse: Callable[[bytes, str], wire.Items]
    ) -> list[T]:
        found: list[T] = []
        page = 1
        for _ in range(MOST_PAGES):
            answer = await self._get(call.page(page, per_page))
            read: Page[T] = page_of(answer, parse(answer.body, call.action), page, per_page)
            found += read.items
            if read.next_page is None:
                return found
            page, per_page = read.next_page, read.per_page or per_page
        raise Malformed(f"Could not {call.action}: Procore's list does not end")

    async def _get(self, call: Call) -> Answer:
        """One GET, repeated after passing failures; a 401 renews the token once. Raises ProcoreError."""
        patience = Patience(self.settings.patience_s, trio.current_time(), random.random)
        await self.auth.token()  # a login that fails takes no call
        renewed = False
        while True:
            waited_from_s = trio.current_time()
            await self.limiter.acquire(call.priority)
            patience.extend(trio.current_time() - waited_from_s)
            token = await self._token_for_call()
            try:
                return await self._send(call, self.own_headers(token, call.company_id))
            except NotAuthorized:
                if renewed:
                    raise
                renewed = True
                await self.auth.renew(token)
            except ProcoreError as error:
                pause_s = patience.pause_s(error, trio.current_time())
                if pause_s is None:
                    raise
                log.info("%s: trying again in %.1f s", error, pause_s)
                await trio.sleep(pause_s)

    async def _token_for_call(self) -> str:
        """The token of this moment: the wait for the call may have outlived another. A call was taken before."""
        try:
            return await self.auth.token()
        except BaseException:
            self.limiter.observe(0, {})
            raise

    async def _send(self, call: Call, own_headers: Mapping[str, str]) -> Answer:
        """One exchange; the limiter learns of it whatever happens. A call was taken before."""
        url = self._base + call.path + ("?" + urlencode(call.query) if call.query else "")
        self.stats.count(f"GET {call.route}")
        status, answered, body = 0, Headers(), b""
        sent_s = trio.current_time()
        try:
            with trio.move_on_after(CALL_S) as scope:
                async with self.http.get(
                    url,
                    action=call.action,
                    headers=HEADERS,
                    own_headers=own_headers,
                    silence_s=self.settings.silence_s,
                ) as response:
                    status, answered = response.status_code, response.headers
                    body = await whole_body(response, call.action)
        finally:
            self.limiter.observe(status, answered)
        if scope.cancelled_caught:
            raise Silent(f"Could not {call.action}: Procore did not finish its answer in {CALL_S:.0f} s")
        if status == 429:
            self.stats.throttled += 1
        if status != 200:
            raise error_of_answer(call.action, status, body)
        return Answer(answered, body, trio.current_time() - sent_s)

    def own_headers(self, token: str, company_id: CompanyId | None = None) -> dict[str, str]:
        """What goes to the API's own origin alone: who asks, and for which company."""
        company_id = company_id or self.settings.company_id
        company = {"Procore-Company-Id": str(company_id)} if company_id is not None else {}
        return {"Authorization": f"Bearer {token}", **company}


def time_range(from_s: int | None, to_s: int | None) -> str:
    """A range as filters take it, always with both ends; an open end is 1970 or tomorrow."""
    if to_s is None:
        to_s = int(time.time()) + A_DAY_S
    ends = (datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for s in (from_s or 0, to_s))
    return "...".join(ends)


@asynccontextmanager
async def open_client(settings: ApiSettings, *, limiter: Limiter | None = None) -> AsyncIterator[Client]:
    """A client for as long as the context lasts; without a limiter it shares the budget in `budget_dir`.

    Raises Invalid when an address is not https (http is for loopback hosts alone).
    """
    for name, url in (("API", settings.api_url), ("login", settings.login_url)):
        if not acceptable_url(url):
            raise Invalid(f"The {name} address cannot be used: it must begin with https://")
    async with AsyncExitStack() as stack:
        if limiter is None:
            key = budget_key(settings.api_url, settings.client_id)
            limiter = await stack.enter_async_context(open_limiter(settings.budget_dir, key))
        http = await stack.enter_async_context(open_http(settings.api_url))
        auth = Auth(settings, http, open_store(settings))
        yield Client(settings, http, auth, limiter)
