"""The application of `procorefs serve`: the status page, its actions, and the metrics."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote

import anyio
import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from procorefs.cli.web.access import METRICS, Access, Guard
from procorefs.cli.web.metrics import metrics_text
from procorefs.cli.web.mounts import SAMPLE_S, BudgetHistory, all_mounts, find_mount
from procorefs.cli.web.plot import plot_of
from procorefs.config import Paths
from procorefs.config.units import show_duration, show_size
from procorefs.service.control_socket import (
    ControlError,
    DiscardRequest,
    Remaining,
    RetryRequest,
    ask,
)
from procorefs.storage.printable import printable

_FILES = Path(__file__).parent

WARNINGS_SHOWN = 10
ITEMS_SHOWN = 100
"""Of each list; the page says how many there are."""

ACTION_WAIT_S = 60.0

_TAIL_BYTES = 64 << 10


def make_app(paths: Paths, access: Access) -> Starlette:
    """The application; it trusts requests that `Guard` lets pass."""
    page = StatusPage(paths)
    routes = [
        Route("/", page.show),
        Route("/mounts", page.mounts),
        Route("/act", page.act, methods=["POST"]),
        Route(METRICS, page.metrics),
        Mount("/static", StaticFiles(directory=_FILES / "static")),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, access=access)], lifespan=page.recording)


class StatusPage:
    """Answers the requests."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._history = BudgetHistory()
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FILES / "templates"), autoescape=True
        )
        environment.filters |= {
            "size": show_size,
            "duration": show_duration,
            "printable": printable,
            "moment": show_moment,
        }
        self._templates = environment

    @asynccontextmanager
    async def recording(self, _app: Starlette) -> AsyncIterator[None]:
        """Record the use of the call budget while the application runs, whether the page is open or not."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._record)
            yield
            tasks.cancel_scope.cancel()

    async def _record(self) -> None:
        while True:
            self._history.record(await run_in_threadpool(all_mounts, self._paths), time.time())
            await anyio.sleep(SAMPLE_S)

    async def show(self, _request: Request) -> Response:
        """The whole page."""
        return HTMLResponse(await run_in_threadpool(self._rendered, "page.html"))

    async def mounts(self, _request: Request) -> Response:
        """The part of the page that is updated."""
        return HTMLResponse(await run_in_threadpool(self._rendered, "mounts.html"))

    async def metrics(self, _request: Request) -> Response:
        """The metrics for Prometheus."""
        mounts = await run_in_threadpool(all_mounts, self._paths)
        return Response(metrics_text(mounts), media_type="text/plain; version=0.0.4")

    async def act(self, request: Request) -> Response:
        """Retry or discard at a path of a mount, then show the page again."""
        form = parse_qs((await request.body()).decode(errors="replace"), keep_blank_values=True)
        action, mount, path = (form.get(field, [""])[0] for field in ("action", "mount", "path"))
        entry = await run_in_threadpool(find_mount, self._paths, mount)
        if entry is None or action not in ("retry", "discard"):
            return PlainTextResponse("There is no such mount or action any more.", 404)
        paths = (unquote(path),)  # quoted in the page: a form would change line breaks
        wanted = RetryRequest(paths) if action == "retry" else DiscardRequest(paths)
        try:
            await run_in_threadpool(ask, Path(entry.socket), wanted, Remaining, timeout_s=ACTION_WAIT_S)
        except ControlError as error:
            return PlainTextResponse(printable(str(error)), 409)
        return RedirectResponse("/", 303)

    def _rendered(self, template: str) -> str:
        mounts = all_mounts(self._paths)
        statuses = [mount.status for mount in mounts]
        return self._templates.get_template(template).render(
            mounts=mounts,
            statuses=statuses,
            plot=plot_of(self._history.samples),
            warnings={status.pid: last_warnings(Path(status.log)) for status in statuses if status.log},
            shown=ITEMS_SHOWN,
            now=time.time(),
        )


def show_moment(unix_s: float) -> str:
    """A moment in the time zone of this machine; with the date unless it is today."""
    at = datetime.fromtimestamp(unix_s)
    return f"{at:%H:%M}" if at.date() == datetime.now().date() else f"{at:%Y-%m-%d %H:%M}"


def last_warnings(log: Path) -> list[str]:
    """The last lines of a log with a warning or an error, the newest first."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    found = [line for line in lines if " WARNING " in line or " ERROR " in line]
    return [printable(line) for line in reversed(found[-WARNINGS_SHOWN:])]
