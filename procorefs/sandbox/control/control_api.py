"""The control API below /sandbox/KEY: no part of Procore, never counted, never limited.

POST faults   switches, see switches.py; answers what holds now
GET  calls    calls by route since the last POST calls/reset
POST act      one deed of another user, see acts.py
POST import   {"path", "into"}: a local directory tree goes into a folder
POST reset    {"documents"}: everything anew
GET  state    ids, urls, faults, documents
GET  inventory         every document by its path, see inventory.py
GET  waiting?count=N   answers when N calls wait at the gate of a silence
GET  violations        what did not fit the OpenAPI description; POST violations/forget

KEY is random and in the announced `control_url`: every user of the machine, and every page in a browser, can send
requests to a port of the loopback address, and an import would show them any directory of the user who runs this.
"""

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from procorefs.sandbox.api.conformance import Checker
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.control.acts import Act, Actor
from procorefs.sandbox.control.inventory import inventory
from procorefs.sandbox.faults.switches import Switches, describe_faults, switch
from procorefs.sandbox.fill import announcement, import_directory, refill
from procorefs.sandbox.project.invented_project import PROJECT_ID
from procorefs.sandbox.project.records import Json
from procorefs.sandbox.state import Sandbox

T = TypeVar("T")
Work = Callable[[Request], Awaitable[Json]]


class ImportWish(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    into: str = "/"


class ResetWish(msgspec.Struct, forbid_unknown_fields=True):
    documents: int = 0


def control_routes(sandbox: Sandbox, checker: Checker | None) -> list[Route]:
    """All routes of the control API."""
    control = _Control(sandbox, checker)

    def route(method: str, name: str, work: Work) -> Route:
        return Route(f"/sandbox/{{key}}/{name}", _Guarded(sandbox.control_key, work).serve, methods=[method])

    return [
        route("POST", "faults", control.faults),
        route("POST", "act", control.act),
        route("POST", "import", control.import_tree),
        route("POST", "reset", control.reset),
        route("GET", "state", control.state),
        route("GET", "inventory", control.inventory),
        route("GET", "calls", control.calls),
        route("POST", "calls/reset", control.reset_calls),
        route("GET", "waiting", control.waiting),
        route("GET", "violations", control.violations),
        route("POST", "violations/forget", control.forget_violations),
    ]


class _Control:
    """The work of each route."""

    def __init__(self, sandbox: Sandbox, checker: Checker | None) -> None:
        self._sandbox = sandbox
        self._checker = checker

    async def faults(self, request: Request) -> Json:
        switches = await _body(request, Switches)
        switch(self._sandbox, switches)
        if switches.do_late:
            await self._sandbox.faults.do_late()
        return describe_faults(self._sandbox)

    async def act(self, request: Request) -> Json:
        return Actor(self._sandbox).do(await _body(request, Act))

    async def import_tree(self, request: Request) -> Json:
        wish = await _body(request, ImportWish)
        imported: Json = msgspec.to_builtins(import_directory(self._sandbox, Path(wish.path), wish.into))
        return imported

    async def reset(self, request: Request) -> Json:
        wish = await _body(request, ResetWish)
        refill(self._sandbox, wish.documents)
        switch(self._sandbox, Switches(clear=True))
        await self.forget_violations(request)
        return announcement(self._sandbox)

    async def state(self, _request: Request) -> Json:
        return describe(self._sandbox)

    async def inventory(self, _request: Request) -> Json:
        return inventory(self._sandbox)

    async def calls(self, _request: Request) -> Json:
        return self._sandbox.calls.report()

    async def reset_calls(self, _request: Request) -> Json:
        self._sandbox.calls.reset()
        return {}

    async def waiting(self, request: Request) -> Json:
        await self._sandbox.faults.arrivals(int(request.query_params.get("count", "1")))
        return {"waiting": self._sandbox.faults.waiting}

    async def violations(self, _request: Request) -> Json:
        return {
            "checked": self._checker is not None,
            "violations": self._checker.violations if self._checker else [],
        }

    async def forget_violations(self, _request: Request) -> Json:
        if self._checker is not None:
            self._checker.violations.clear()
        return {}


def describe(sandbox: Sandbox) -> Json:
    """GET /sandbox/state."""
    store, project = sandbox.store, sandbox.store.project(PROJECT_ID)
    assert project is not None
    return {
        "announced": announcement(sandbox),
        "documents": store.value("SELECT count(*) FROM documents WHERE project_id = ?", (PROJECT_ID,)),
        "root_id": project.root_id,
        "bin_id": project.bin_id,
        "now_s": sandbox.clock.now_s(),
        "waiting": sandbox.faults.waiting,
        **describe_faults(sandbox),
    }


async def _body(request: Request, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=shape)
    except msgspec.MsgspecError as error:
        raise ApiError(400, str(error)) from error


class _Guarded:
    """Does the work of a route for those who know the key."""

    def __init__(self, key: str, work: Work) -> None:
        self._key = key
        self._work = work

    async def serve(self, request: Request) -> Response:
        if not hmac.compare_digest(request.path_params["key"].encode(), self._key.encode()):
            return Answer({"errors": "the address of the control API has another key"}, 404).response({})
        try:
            return Answer(await self._work(request)).response({})
        except ApiError as error:
            return Answer({"errors": error.errors}, error.status).response({})
