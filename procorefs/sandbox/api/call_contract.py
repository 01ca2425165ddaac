"""What holds for every API call: counting, faults, token, rate windows, company header, project, parameters, errors.

A handler is a plain function from Call to Answer. It never waits, so whatever it changes is one transaction.
"""

import enum
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from procorefs.sandbox.api.conformance import Checker
from procorefs.sandbox.api.json_answers import Answer, Page
from procorefs.sandbox.api.oauth_tokens import caller_of
from procorefs.sandbox.api.query_parameters import Parser, integer, parse_query
from procorefs.sandbox.api.refusals import ApiError, forbidden, invalid, not_found
from procorefs.sandbox.faults.fault_strikes import with_faults
from procorefs.sandbox.project.records import Caller, Document, Project
from procorefs.sandbox.project.render import Renderer
from procorefs.sandbox.project.roles import Right, Role
from procorefs.sandbox.state import Sandbox

T = TypeVar("T")


class Company(enum.Enum):
    """Whether a call needs the header Procore-Company-Id."""

    REQUIRED = "required"
    OPTIONAL = "optional"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of the API."""

    method: str
    path: str
    handler: "Callable[[Call], Answer]"
    query: Mapping[str, Parser] = {}
    company: Company = Company.REQUIRED

    @property
    def label(self) -> str:
        """The route as it is counted."""
        return f"{self.method} {self.path}"


class Call(msgspec.Struct):
    """One call on its way to its handler."""

    sandbox: Sandbox
    request: Request
    caller: Caller
    query: dict[str, Any]
    raw_body: bytes

    def path_id(self, name: str = "id") -> int:
        return integer(name, self.request.path_params[name])

    def project(self) -> Project:
        """The project of path or query. Raises ApiError: not in this company, or nothing the caller may see."""
        project_id = self.path_id("project_id") if "project_id" in self.request.path_params else None
        if project_id is None:
            project_id = self.query.get("project_id")
        if project_id is None:
            raise invalid("project_id", "is missing")
        project = self.in_company(project_id)
        if not self.role(project).may(Right.READ):
            raise forbidden("You do not have access to the documents of this project")
        return project

    def in_company(self, project_id: int) -> Project:
        """A project that the caller may see, with or without its documents. Raises ApiError."""
        project = self.sandbox.store.project(project_id)
        if project is None or project.company_id != self.caller.company_id:
            raise not_found("Project")
        if self.sandbox.store.role(self.caller.user.id, project.id) is None:
            raise forbidden("You do not have access to this project")
        return project

    def role(self, project: Project) -> Role:
        return self.sandbox.store.role(self.caller.user.id, project.id) or Role("off")

    def check(self, project: Project, right: Right) -> None:
        """Raises ApiError 403: the caller may not do that in this project."""
        if not self.role(project).may(right):
            raise forbidden(
                f"You do not have permission to {right.value[0]} in the documents of this project"
            )

    def renderer(self, project: Project) -> Renderer:
        return Renderer(self.sandbox, project, writes=self.role(project).may(Right.WRITE))

    def body(self, shape: type[T]) -> T:
        """The JSON body in a shape; raises ApiError 400."""
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise ApiError(400, f"Content-Type must be application/json, not {kind!r}")
        try:
            return msgspec.json.decode(self.raw_body, type=shape)
        except msgspec.ValidationError as error:
            raise ApiError(400, {"base": [str(error)]}) from error
        except msgspec.DecodeError as error:
            raise ApiError(400, "The body is not JSON") from error

    def page(self, default_per_page: int) -> Page:
        """The page asked for, under the cap that holds now."""
        granted = self.query.get("per_page", default_per_page)
        cap = self.sandbox.faults.settings.per_page_cap
        return Page(self.query.get("page", 1), min(granted, cap) if cap else granted)

    def visible(self, project: Project, document_id: int) -> Document:
        """A document of the project that the caller may see. Raises ApiError 404."""
        document = self.sandbox.store.document(document_id)
        if document is None or document.project_id != project.id or not self._sees(project, document):
            raise not_found("Document")
        is_hidden = self.sandbox.dialect.deleted_get == "404" or not self.role(project).may(Right.SEE_BIN)
        if is_hidden and (document.deleted or document.buried):
            raise not_found("Document")
        return document

    def _sees(self, project: Project, document: Document) -> bool:
        if document.private_root is None or document.created_by == self.caller.user.id:
            return True
        if self.role(project).may(Right.SEE_PRIVATE):
            return True
        return document.private_root in granted_roots(self.sandbox, self.caller)


def granted_roots(sandbox: Sandbox, caller: Caller) -> set[int]:
    """Private documents that were opened to the caller."""
    return set(sandbox.store.column("SELECT document_id FROM grants WHERE user_id = ?", (caller.user.id,)))


def route(sandbox: Sandbox, checker: Checker | None, endpoint: Endpoint) -> Route:
    """The Starlette route of an endpoint."""

    async def serve(request: Request) -> Response:
        body = await request.body()

        async def work() -> Response:
            response = _answer(sandbox, endpoint, request, body)
            if checker is not None and not sandbox.faults.malformed:
                checker.check_response(endpoint.label, request, body, response)
            return response

        if checker is not None:
            checker.check_request(endpoint.label, request, body)
        return await with_faults(sandbox, endpoint.label, request, work, is_api=True)

    return Route(endpoint.path, serve, methods=[endpoint.method])


def _answer(sandbox: Sandbox, endpoint: Endpoint, request: Request, body: bytes) -> Response:
    """Check the call and let the handler do it; every refusal becomes its answer."""
    headers: dict[str, str] = {}
    if sandbox.dialect.tells_date:
        headers["Date"] = formatdate(sandbox.clock.now(), usegmt=True)
    try:
        caller = _admitted(sandbox, request, headers)
        answer = _handled(sandbox, endpoint, request, caller, body)
    except ApiError as error:
        status = error.status
        if status == 400 and request.method in ("POST", "PATCH", "DELETE"):
            status = sandbox.dialect.invalid_status
        answer = Answer(None if status == 204 else error.body(sandbox.dialect), status)
    except OverflowError:
        answer = Answer(ApiError(400, "A number has more than 64 bits").body(sandbox.dialect), 400)
    sandbox.calls.answered(answer.status)
    return answer.response(headers)


def _admitted(sandbox: Sandbox, request: Request, headers: dict[str, str]) -> Caller:
    """The caller, one call of its budget spent; fills in the rate headers. Raises ApiError 401, 429."""
    kind, now = sandbox.dialect.rate_windows, sandbox.clock.now()
    try:
        caller = caller_of(sandbox, request)
    except ApiError:
        if sandbox.dialect.unauthorized_has_rate_headers:
            headers.update(sandbox.rates.take("", kind, now)[1].headers())
        raise
    granted, reading = sandbox.rates.take(caller.client_id, kind, now)
    headers.update(reading.headers())
    if not granted:
        if sandbox.faults.settings.retry_after_with_429:
            headers["Retry-After"] = str(max(int(reading.reset_s - now) + 1, 1))
        raise ApiError(429, "You have surpassed the max number of requests for an allotted time period")
    return caller


def _handled(sandbox: Sandbox, endpoint: Endpoint, request: Request, caller: Caller, body: bytes) -> Answer:
    company_id = _company(sandbox, endpoint, request, caller)
    query = parse_query(request.query_params, endpoint.query)
    known = msgspec.structs.replace(caller, company_id=company_id)
    with sandbox.store.change():
        return endpoint.handler(Call(sandbox, request, known, query, body))


def _company(sandbox: Sandbox, endpoint: Endpoint, request: Request, caller: Caller) -> int | None:
    """The company of the header. Raises ApiError when it is missing, wrong, or not connected to this client."""
    given = request.headers.get("procore-company-id")
    if given is None:
        needed = caller.is_service and sandbox.dialect.service_needs_company
        if endpoint.company is Company.OPTIONAL and not needed:
            return None
        raise ApiError(sandbox.dialect.missing_company_status, "Missing Procore-Company-Id header!")
    company_id = integer("Procore-Company-Id", given)
    in_path = request.path_params.get("company_id")
    if in_path is not None and in_path != given:
        raise invalid("company_id", "is not the company of the header")
    connected = sandbox.store.one(
        "SELECT 1 FROM connections WHERE client_id = ? AND company_id = ?", (caller.client_id, company_id)
    )
    if not connected:
        raise forbidden("This app is not connected to this company")
    return company_id
