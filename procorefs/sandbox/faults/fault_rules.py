"""What goes wrong on purpose: settings, and rules that strike calls by their route.

A rule names a route as calls are counted: `GET /rest/v1.0/folders/{id}`, `POST /oauth/token`, `download GET` (a version
url on the API's host), `storage GET|PUT|POST`; `*` and `?` are wildcards. Rules strike in the order they were made.
"""

from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec
import trio

from procorefs.sandbox.storage.asgi_server import Receive

Kind = Literal[
    "error",
    "drop",
    "cut",
    "silence",
    "not_json",
    "latency",
    "wrong_type",
    "redirect",
    "stall",
    "gateway",
    "late",
]


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault for the calls that match."""

    kind: Kind
    route: str = "*"
    match: str = ""
    """Text that the path with its query must contain."""
    skip: int = 0
    """Matching calls that pass first."""
    count: int | None = None
    """Calls it strikes; None: until it is cleared."""
    when: Literal["before", "after"] = "before"
    """error, silence: before the work, or after it was done. A gateway's refusal always comes before.

    late: a gateway gives up with 504 at once, and the work behind it is done when `do_late` is switched.
    """
    status: int = 503
    retry_after: int | None = None
    seconds: float = 0.0
    """latency: how long."""
    location: str = ""
    """redirect: where to, instead of an answer."""
    after_bytes: int = 0
    """cut, stall: bytes of the body that arrive before it ends, or before nothing comes until the release."""
    body: str = "<html><body>Bad gateway</body></html>"
    """not_json, wrong_type, gateway: what is sent in place of the answer."""


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Faults that hold for all calls."""

    latency_api_s: float = 0.0
    latency_storage_s: float = 0.0
    bandwidth_bytes_s: int | None = None
    """Of one download."""
    no_range: bool = False
    short_range_bytes: int | None = None
    """206 answers carry at most so many bytes."""
    per_page_cap: int | None = None
    url_lifetime_s: int = 604_800
    expired_status: int = 403
    token_lifetime_s: int = 5400
    retry_after_with_429: bool = True


class Faults:
    """All that is switched on now, and the gate at which silent calls wait."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.malformed: dict[int, dict[str, Any]] = {}
        """Document id -> fields of its answers that are replaced; see render.py."""
        self._rules: list[Rule] = []
        self._released = trio.Event()
        self._arrived = trio.Event()
        self._late: list[Callable[[], Awaitable[object]]] = []
        self.waiting = 0
        """Calls that wait at the gate now."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(self._rules)

    def add(self, rule: Rule) -> None:
        self._rules.append(rule)

    def clear(self) -> None:
        """Nothing goes wrong any more; who waits goes on."""
        self.settings = Settings()
        self.malformed.clear()
        self._rules.clear()
        self.release()

    def release(self) -> None:
        """Open the gate for those who wait, and take away the rules that made them."""
        self._rules = [rule for rule in self._rules if rule.kind not in {"silence", "stall"}]
        self._released.set()
        self._released = trio.Event()

    def put_off(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do the work of a call later than its answer."""
        self._late.append(work)

    async def do_late(self) -> None:
        """Do the work of the calls that a gateway gave up, in their order."""
        late, self._late = self._late, []
        for work in late:
            await work()

    def strike(self, label: str, target: str) -> list[Rule]:
        """The rules that hit this call, counted down."""
        struck = []
        for rule in list(self._rules):
            if not fnmatchcase(label, rule.route) or rule.match not in target:
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            struck.append(rule)
            if rule.count is not None:
                rule.count -= 1
                if rule.count <= 0:
                    self._rules = [other for other in self._rules if other is not rule]
        return struck

    async def silent(self, receive: Receive | None) -> bool:
        """Wait until the gate is released; False: the client went away first.

        With None nobody looks whether the client is there: what it sends is to be read later.
        """
        is_there = True

        async def watch(client: Receive, waiting: trio.CancelScope) -> None:
            nonlocal is_there
            while (await client())["type"] != "http.disconnect":
                pass
            is_there = False
            waiting.cancel()

        async with trio.open_nursery() as nursery:
            if receive is not None:
                nursery.start_soon(watch, receive, nursery.cancel_scope)
            await self._wait_at_gate()
            nursery.cancel_scope.cancel()
        return is_there

    async def _wait_at_gate(self) -> None:
        released = self._released
        self.waiting += 1
        self._arrived.set()
        self._arrived = trio.Event()
        try:
            await released.wait()
        finally:
            self.waiting -= 1

    async def arrivals(self, count: int) -> None:
        """Return when that many calls wait at the gate."""
        while self.waiting < count:
            await self._arrived.wait()
