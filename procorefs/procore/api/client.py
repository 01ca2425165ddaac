"""Makes the calls that read users, companies, projects and documents; each returns checked models."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import trio

from procorefs.limiter import Limiter, Priority, budget_key, open_limiter
from procorefs.procore.api.calls import MOST_PAGES, Api, ApiCalls, Call, OnSent
from procorefs.procore.api.folder_contents import sort_out
from procorefs.procore.auth.token_renewal import Auth
from procorefs.procore.auth.token_store import open_store
from procorefs.procore.errors import (
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    ProcoreError,
    TooLarge,
    Unavailable,
)
from procorefs.procore.http.addresses import acceptable_url
from procorefs.procore.http.http_client import Http, open_http
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire import decoding
from procorefs.procore.wire.lenient_json import untyped
from procorefs.procore.wire.models import (
    Company,
    CompanyId,
    Document,
    DocumentId,
    FolderListing,
    Me,
    Page,
    Project,
    ProjectId,
    Version,
    VersionId,
)
from procorefs.procore.wire.paging import Answer, page_of
from procorefs.procore.wire.rights import Rights, rights_of
from procorefs.storage import clocks

log = logging.getLogger(__name__)

__all__ = ["ApiCalls", "ApiSettings", "Client", "open_client"]

MANY = 2000
"""`per_page` to ask for: no list allows more."""

MANY_PROJECTS = 300
SMALLER_PAGES = (500, 100, 50, 25, 10)
"""Asked for in turn when a list is "too large"; 100 is the common cap."""

SMALLEST_PAGE = SMALLER_PAGES[-1]
STEADY_TRIES = 3
"""Tries to read a list of several pages that changes meanwhile."""

A_DAY_S = 86_400
NO_SUCH_ROUTE = 404
REFUSALS = (Invalid, Forbidden, NotFound)
"""The answers to a call without a company header, in another company, or without permission."""

T = TypeVar("T")


class Client(Api):
    """One account at one Procore.

    Calls raise ProcoreError. Those about documents need `company_id` and `project_id` in the settings.
    """

    def __init__(self, settings: ApiSettings, http: Http, auth: Auth, limiter: Limiter) -> None:
        super().__init__(settings, http, auth, limiter)
        self.index_route = 0
        """Which of the index's routes answers. It is remembered: each one before it costs a call with a 404."""
        self._per_page_cap = MANY
        """Lowered when the server says that a list is too large."""

    async def me(self, *, priority: Priority = Priority.INTERACTIVE) -> Me:
        """The user that the token stands for; without names where only the login service says who it is."""
        action = "ask who is logged in"
        call = Call("me", "/rest/v1.0/me", {}, action, priority)
        try:
            answer = await self._in_a_company_or_none(call, self.ask)
        except REFUSALS as refusal:
            with suppress(ProcoreError):
                owner = await self.auth.token_owner()
                if owner is not None:
                    log.info("%s; the login service says that it is user %s", refusal, owner)
                    return Me(owner)
            raise
        return decoding.me(answer.body, action)

    async def rights(self, project: tuple[CompanyId, ProjectId] | None = None) -> Rights:
        """What the account may do with the documents of a project, or of that of the settings.

        Raises ProcoreError; Malformed if the answer cannot be understood.
        """
        company_id, project_id = project or self.company_and_project()
        action, query = "ask what this account may do", {"project_id": str(project_id)}
        path = "/rest/v1.0/settings/permissions"
        call = Call("settings/permissions", path, query, action, Priority.INTERACTIVE, CompanyId(company_id))
        answer = await self.ask(call)
        return rights_of(answer.body, action)

    async def companies(self, *, priority: Priority = Priority.INTERACTIVE) -> list[Company]:
        """All companies of the user."""
        call = Call("companies", "/rest/v1.0/companies", {}, "list the companies", priority)
        return await self._in_a_company_or_none(
            call, lambda asked: self.all_pages(asked, MANY, decoding.companies)
        )

    async def _in_a_company_or_none(self, call: Call, ask: Callable[[Call], Awaitable[T]]) -> T:
        """For calls that need a company header from a service account, and none from a person.

        The user may have left the company of the settings: where it is refused, ask without.
        """
        try:
            return await ask(call)
        except REFUSALS:
            if self.settings.company_id is None:
                raise
            return await ask(msgspec.structs.replace(call, without_company=True))

    async def projects(
        self, company_id: CompanyId, *, priority: Priority = Priority.INTERACTIVE
    ) -> list[Project]:
        """All projects of a company that the user can see."""
        action = f"list the projects of company {company_id}"
        query = {"company_id": str(company_id)}
        call = Call("projects", "/rest/v1.1/projects", query, action, priority, company_id)
        return await self.all_pages(call, MANY_PROJECTS, decoding.projects)

    async def project(self, *, priority: Priority) -> Project | None:
        """The settings' project as the company's list shows it; None when the list does not have it."""
        company_id, project_id = self.company_and_project()
        action = f"look up project {project_id}"
        query = {"company_id": str(company_id), "filters[id]": str(project_id)}
        call = Call("projects", "/rest/v1.1/projects", query, action, priority)
        answer = await self.ask(call.page(1, MANY_PROJECTS))
        return next((p for p in decoding.projects(answer.body, action).kept if p.id == project_id), None)

    async def company_name(self, *, priority: Priority) -> str:
        """The name of the settings' company; empty when the user's list does not have it."""
        company_id, _ = self.company_and_project()
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
        on_sent: OnSent | None = None,
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
        return await self._index_page(query, page, per_page, priority, on_sent)

    async def below_page(
        self,
        folder_id: DocumentId,
        *,
        page: int,
        per_page: int,
        priority: Priority,
        on_sent: OnSent | None = None,
    ) -> Page[Document]:
        """One page of all that is below a folder and not in the recycle bin; NotFound if there is no such call."""
        action = "list what is below the folder"
        filters = {"sort": "created_at", "filters[folder_id]": str(folder_id)}
        path, query = folder_route(*self.company_and_project(), filters)
        call = Call("folders", path, query, action, priority, on_sent=on_sent)
        answer = await self.ask(call.page(page, per_page))
        return page_of(answer, await self._documents(answer, action), page, per_page)

    async def folder(
        self, folder_id: DocumentId | None, *, priority: Priority, on_sent: OnSent | None = None
    ) -> FolderListing:
        """A folder (None: the root) and its children."""
        action = "list the root folder" if folder_id is None else "list the folder"
        path = "/rest/v1.0/folders" + ("" if folder_id is None else f"/{folder_id}")
        query = self.project_query() | {"show_latest_file_version_only": "true"}
        call = Call("folders", path, query, action, priority, on_sent=on_sent)
        answer = await self.ask(call)
        return decoding.folder_listing(answer.body, action)

    async def file(
        self, file_id: DocumentId, *, priority: Priority, on_sent: OnSent | None = None
    ) -> Document:
        """A file with its newest version."""
        action = "look up the file"
        query = self.project_query() | {"show_latest_version_only": "true"}
        path = f"/rest/v1.0/files/{file_id}"
        answer = await self.ask(Call("files", path, query, action, priority, on_sent=on_sent))
        return decoding.file(answer.body, action)

    async def file_version(self, version_id: VersionId, *, priority: Priority) -> Version:
        """A version with a fresh address."""
        action = "look up the version"
        path = f"/rest/v1.0/file_versions/{version_id}"
        answer = await self.ask(Call("file_versions", path, self.project_query(), action, priority))
        return decoding.file_version(answer.body, action)

    async def versions(self, file_id: DocumentId, *, priority: Priority) -> list[Version]:
        """Every version of a file, oldest first; those that cannot be read are left out."""
        action = "list the versions of the file"
        query = self.project_query() | {"show_latest_version_only": "false"}
        answer = await self.ask(Call("files", f"/rest/v1.0/files/{file_id}", query, action, priority))
        return decoding.versions(answer.body, action)

    async def document_json(self, document_id: DocumentId, *, is_folder: bool, priority: Priority) -> Any:  # noqa: ANN401 - JSON
        """A document's JSON, unchecked; a folder's without its children."""
        if is_folder:
            path, action = f"/rest/v1.0/folders/{document_id}", "look up the folder"
            query = self.project_query() | {"exclude_folders": "true", "exclude_files": "true"}
        else:
            path, action = f"/rest/v1.0/files/{document_id}", "look up the file"
            query = self.project_query() | {"show_latest_version_only": "true"}
        answer = await self.ask(Call("folders" if is_folder else "files", path, query, action, priority))
        return untyped(answer.body, action)

    async def below(self, folder_id: DocumentId, *, priority: Priority = Priority.WRITING) -> list[Document]:
        """Every living document below a folder, at any depth: all of them, or an error.

        Where the list shows documents without their parents, the recycle bin tells which of them are deleted.
        """
        listed = await self._complete_index({"filters[folder_id]": str(folder_id)}, priority)
        found = sort_out(listed, folder_id)
        if found.unknown_parents:
            bin_only = {"filters[is_in_recycle_bin]": "true"}
            binned = await self.index(bin_only, priority=priority)
            found = sort_out(listed, folder_id, {document.id for document in binned})
        return found.living

    # The index

    async def index(self, filters: dict[str, str], *, priority: Priority) -> list[Document]:
        """All pages of the index with these filters; what cannot be understood is left out."""
        pages = await self._whole_index(filters, priority)
        return list({document.id: document for page in pages for document in page.items}.values())

    async def _complete_index(self, filters: dict[str, str], priority: Priority) -> list[Document]:
        """The same with nothing left out: a list that changes between two pages may hide documents that moved up.

        The total shows that, if it is exact; else two readings in a row must be the same. Raises Malformed when an item
        cannot be understood, Unavailable when the list keeps changing.
        """
        before: set[DocumentId] | None = None
        for _ in range(STEADY_TRIES):
            pages = await self._whole_index(filters, priority)
            if any(page.refused for page in pages):
                raise Malformed("Could not list the documents: some of them cannot be understood")
            found = {document.id: document for page in pages for document in page.items}
            totals = {page.total for page in pages}
            is_whole = len(pages) == 1 and (pages[0].total or 0) <= len(found)
            if (
                is_whole
                or totals == {len(found)}
                or (before == found.keys() and max(total or 0 for total in totals) <= len(found))
            ):
                return list(found.values())
            before = set(found)
        raise Unavailable("Could not list the documents: they change while they are listed")

    async def _whole_index(self, filters: dict[str, str], priority: Priority) -> list[Page[Document]]:
        """Every page, oldest documents first: what is new comes last."""
        query = {"view": "extended", "sort": "document_type_then_created_at", **filters}
        pages: list[Page[Document]] = []
        number, per_page = 1, self._per_page_cap
        for _ in range(MOST_PAGES):
            page = await self._index_page(query, number, per_page, priority)
            pages.append(page)
            if page.next_page is None:
                return pages
            number, per_page = page.next_page, page.per_page or per_page
        raise Malformed("Could not list the documents: Procore's list does not end")

    async def _index_page(
        self,
        query: dict[str, str],
        page: int,
        per_page: int,
        priority: Priority,
        on_sent: OnSent | None = None,
    ) -> Page[Document]:
        action = f"list the documents of project {self.settings.project_id}"
        try:
            answer = await self._get_index(
                Call("documents", "", query, action, priority, on_sent=on_sent).page(page, per_page)
            )
        except TooLarge:
            smaller = next((size for size in SMALLER_PAGES if size < per_page), 0)
            if not smaller:
                raise
            self._per_page_cap = min(self._per_page_cap, smaller)
            log.info("Procore finds a page of %d documents too large: asking for smaller ones", per_page)
            if page == 1:
                return await self._index_page(query, 1, smaller, priority, on_sent)
            return await self._in_halves(query, page, per_page, priority, on_sent)
        return page_of(answer, await self._documents(answer, action), page, per_page)

    async def _documents(self, answer: Answer, action: str) -> decoding.Items:
        items = decoding.Items([], 0)
        for part in decoding.documents(answer.body, action):
            items.kept += part.kept
            items.refused += part.refused
            await trio.lowlevel.checkpoint()
        return items

    async def _in_halves(
        self,
        query: dict[str, str],
        page: int,
        per_page: int,
        priority: Priority,
        on_sent: OnSent | None,
    ) -> Page[Document]:
        """The same documents in two smaller pages: only the first page may change the size of those after it."""
        half = per_page // 2
        if per_page % 2 or half < SMALLEST_PAGE:
            raise TooLarge(f"Could not list the documents: pages of {per_page} have become too large")
        first = await self._index_page(query, page * 2 - 1, half, priority, on_sent)
        if first.next_page is None:
            return msgspec.structs.replace(first, per_page=per_page)
        second = await self._index_page(query, page * 2, half, priority, on_sent)
        return Page(
            items=first.items + second.items,
            total=second.total,
            per_page=per_page,
            next_page=page + 1 if second.next_page is not None else None,
            refused=first.refused + second.refused,
            asked_at_s=first.asked_at_s,
        )

    async def _get_index(self, call: Call) -> Answer:
        """From the first route that this Procore has (on 404 the next, remembered).

        These are the v2.0 documents list with and without company, and the v2.0 folder reads. The v1.0 list is
        deprecated and never called.
        """
        routes = self._index_routes(call.query)
        for position in range(min(self.index_route, len(routes) - 1), len(routes)):
            path, query = routes[position]
            try:
                answer = await self.ask(msgspec.structs.replace(call, path=path, query=query))
            except ProcoreError as error:
                if error.status != NO_SUCH_ROUTE:  # in JSON or not
                    raise
                if position == len(routes) - 1:
                    self.index_route = 0
                    raise
            else:
                self.index_route = position
                return answer
        raise AssertionError("the last route returns or raises")

    def _index_routes(self, query: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
        """Paths with their queries."""
        company_id, project_id = self.company_and_project()
        return [
            (f"/rest/v2.0/companies/{company_id}/projects/{project_id}/documents", query),
            (f"/rest/v2.0/projects/{project_id}/documents", query),
            folder_route(company_id, project_id, query),
        ]


def time_range(from_s: int | None, to_s: int | None) -> str:
    """A range as filters take it, always with both ends; an open end is 1970 or tomorrow."""
    if to_s is None:
        to_s = int(clocks.wall_s()) + A_DAY_S
    ends = (datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for s in (from_s or 0, to_s))
    return "...".join(ends)


def folder_route(company_id: int, project_id: int, query: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The same request to the v2.0 folder reads: path and query.

    Only a filter reaches below a folder: without another one, what is not in the recycle bin is asked for.
    """
    asked = dict(query)
    folder_id = asked.pop("filters[folder_id]", None)
    minus, word = ("-", asked["sort"][1:]) if asked["sort"].startswith("-") else ("", asked["sort"])
    asked |= {
        "view": "normal",
        "sort": ",".join(minus + term for term in word.split("_then_")),
        "include_descendants": "true",
    }
    asked.setdefault("filters[is_in_recycle_bin]", "false")
    below = "" if folder_id is None else f"/{folder_id}"
    return f"/rest/v2.0/companies/{company_id}/projects/{project_id}/folders{below}", asked


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
            limiter = await stack.enter_async_context(
                open_limiter(settings.budget_dir, key, calls_per_hour=settings.calls_per_hour)
            )
        http = await stack.enter_async_context(open_http(settings.api_url))
        yield Client(settings, http, Auth(settings, http, open_store(settings)), limiter)
