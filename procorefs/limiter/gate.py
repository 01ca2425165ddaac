"""The gate of one process: callers queue by class and age, and the first of them asks the store when it may go.

acquire ─▶ the queue ─▶ the first asks (`queue.ask` in the store) ─▶ 0: go; else sleep so long and ask again
observe ─▶ a report ─▶ the store at once, or before the next question, or by `run` when the store was busy
"""

import math
import random
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import Literal, NamedTuple

import trio

from procorefs.limiter import answers, process_queue
from procorefs.limiter.answers import Report, ServerClock, read_report
from procorefs.limiter.budget import LimiterStatus, Priority, WindowStatus
from procorefs.limiter.budget_state import State, decode, encode
from procorefs.limiter.budget_store import MemoryStore, Store, StoreAway
from procorefs.limiter.policy import Forecast, hour_limit, left_of_hour, sent_in_hour, settle, wait_s
from procorefs.limiter.tuning import TUNING
from procorefs.storage import clocks
from procorefs.storage.processes import process_name

RETRY_S = 0.05  # after which reports are brought to a store that was busy
ORDER_LOOK_S = 5.0  # how often those behind look whether they have waited long enough to ask all the same


class _Caller:
    """One `acquire` that waits."""

    __slots__ = ("priority", "since_s", "wake")

    def __init__(self, priority: Priority, since_s: float) -> None:
        self.priority = priority
        self.since_s = since_s
        self.wake = trio.Event()


class _Told(NamedTuple):
    """A report and when it came."""

    report: Report
    at_s: float


class Gate:
    """A Limiter over a store.

    Only the first caller (lowest class, then oldest) asks, all others sleep until they are first. A call is taken
    by the store in one step and there is no await after it, so a cancelled caller takes nothing.
    """

    def __init__(
        self,
        store: Store,
        *,
        unix_time_s: Callable[[], float] = clocks.wall_s,
        jitter: Callable[[], float] = random.random,
        owner: str | None = None,
        calls_per_hour: int = 0,
    ) -> None:
        self._store = store
        self._unix_time_s = unix_time_s
        self._jitter = jitter
        self._calls_per_hour = calls_per_hour
        self._host = socket.gethostname()
        self.owner = owner or process_name()
        self._callers: list[_Caller] = []
        self._server_clock = ServerClock()
        self._sent_s: deque[float] = deque()  # when the calls under way were taken, oldest first
        self.reports: list[_Told] = []
        """Not yet in the store."""
        self._unreported = trio.Event()

    async def acquire(self, priority: Priority) -> None:
        """Wait for one call and take it; cancelled while waiting, nothing is taken."""
        await trio.lowlevel.checkpoint_if_cancelled()
        caller = _Caller(priority, trio.current_time())
        self._callers.append(caller)
        try:
            while True:
                sleep_s = ORDER_LOOK_S
                if self._may_ask(caller):
                    sleep_s = await self._ask(caller)
                    if sleep_s == 0:
                        break
                with trio.move_on_after(sleep_s):
                    await caller.wake.wait()
                if caller.wake.is_set():
                    caller.wake = trio.Event()  # an event can be set only once
        except BaseException:
            self._callers.remove(caller)
            if not self._callers:
                self._leave()
            self._wake_first()
            raise
        self._callers.remove(caller)
        self._sent_s.append(trio.current_time())
        self._wake_first()

    def observe(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from the answer to a call that was taken; once for each. Status 0: no answer came."""
        now_s = trio.current_time()
        sent_s = self._sent_s.popleft() if self._sent_s else now_s
        server_unix_s = self._server_clock.unix_s(headers.get("date"), sent_s, now_s, self._unix_time_s())
        self.reports.append(_Told(read_report(status, headers, server_unix_s), now_s))
        if not self._report_now():
            self._unreported.set()
        self._wake_first()

    def server_unix_s(self) -> float:
        """Procore's Unix time now, as far as its answers have told it; else ours."""
        now_s = trio.current_time()
        return self._server_clock.unix_s(None, now_s, now_s, self._unix_time_s())

    def would_wait(self, priority: Priority) -> bool:
        """Would `acquire` have to wait now?"""
        if any(caller.priority <= priority for caller in self._callers):
            return True
        state, now_s = self._look()
        others = (
            w for w in state.waiters if w.owner != self.owner and now_s < w.wakes_at_s + process_queue.LATE_S
        )
        if any(waiter.priority <= priority for waiter in others):
            return True
        return wait_s(_settled(state, now_s), priority, now_s, configured=self._calls_per_hour) > 0

    async def look(self) -> None:
        """See to it that `snapshot` tells of this moment, and who is away; waits a second or two, no longer."""
        if not self._store.is_current():
            with suppress(StoreAway):
                await self.bring_reports()

    def snapshot(self) -> LimiterStatus:
        """What is known now; times as Unix seconds."""
        state, now_s = self._look()
        state = _settled(state, now_s)
        state.waiters = [waiter for waiter in state.waiters if waiter.owner != self.owner]
        waiting = [
            mine + theirs
            for mine, theirs in zip(
                self._waiting(), process_queue.waiting_by_class(state, now_s), strict=True
            )
        ]
        to_unix_s = self._unix_time_s() - now_s
        people = sum(sent.people for sent in state.sent)
        ours, others = sent_in_hour(state, now_s)
        forecast = Forecast(state, hour_limit(state, self._calls_per_hour), now_s)
        return LimiterStatus(
            hourly=self._hourly_status(state, now_s, to_unix_s),
            spike=_spike_status(state, now_s, to_unix_s),
            waiting=sum(waiting),
            paused_until=state.paused_until_s + to_unix_s if state.paused_until_s > now_s else None,
            waiting_by_class={c.name.lower(): n for c, n in zip(Priority, waiting, strict=True)},
            next_at=self._next_at(state, waiting, now_s, to_unix_s),
            shared_by=self._store.shared_by,
            share=state.share,
            source=_source(state, self._calls_per_hour),
            used_by_people=people,
            used_by_background=max(0, round(ours) - people),
            used_by_others=round(others),
            kept_for_people=round(forecast.calls(state.hour_s)),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bring reports to a store that was busy or must be waited for; until cancelled."""
        task_status.started()
        while True:
            await self._unreported.wait()
            self._unreported = trio.Event()
            try:
                await self.bring_reports()
            except StoreAway:
                await trio.sleep(RETRY_S)
            self._wake_first()
            if self.reports:
                self._unreported.set()

    def _look(self) -> tuple[State, float]:
        """The state at hand; a newer one is on its way when others may have changed it."""
        if not self._store.is_current():
            self._unreported.set()
        return self._store.peek()

    async def _ask(self, caller: _Caller) -> float:
        asking = process_queue.Asking(
            owner=self.owner,
            host=self._host,
            priority=caller.priority,
            waited_s=trio.current_time() - caller.since_s,
            waiting=self._waiting(),
            configured=self._calls_per_hour,
        )
        try:
            with self._taking_reports() as reports:
                return await self._store.change(partial(_report_and_ask, asking, reports, self._jitter))
        except StoreAway:
            return RETRY_S

    async def bring_reports(self) -> None:
        """Return when the store has all that was observed."""
        with self._taking_reports() as reports:
            await self._store.change(partial(_report_all, self.owner, reports, self._jitter))

    def _report_now(self) -> bool:
        try:
            with self._taking_reports() as reports:
                self._store.change_now(partial(_report_all, self.owner, reports, self._jitter))
        except StoreAway:
            return False
        return True

    @contextmanager
    def _taking_reports(self) -> Iterator[list["_Told"]]:
        """The reports so far, for one step; they are back in their place when it was not carried out."""
        reports = self.reports
        self.reports = []
        try:
            yield reports
        except BaseException:
            self.reports = reports + self.reports
            raise

    def _leave(self) -> None:
        with suppress(StoreAway):  # then it is late soon, and holds nobody up
            self._store.change_now(partial(process_queue.leave, owner=self.owner))

    def _hourly_status(self, state: State, now_s: float, to_unix_s: float) -> WindowStatus:
        limit = hour_limit(state, self._calls_per_hour)
        left = min(max(int(left_of_hour(state, now_s, self._calls_per_hour)), 0), limit)
        if state.reset_s > now_s:
            return WindowStatus(limit, left, state.reset_s + to_unix_s)
        reset_s = state.sent[0].first_s + state.hour_s + to_unix_s if state.sent else None
        return WindowStatus(limit, left, reset_s)

    def _next_at(self, state: State, waiting: Sequence[int], now_s: float, to_unix_s: float) -> float | None:
        """When the first of those who wait may go; None: nobody waits, or only an answer can tell."""
        first = next((priority for priority in Priority if waiting[priority]), None)
        if first is None:
            return None
        seconds = wait_s(state, first, now_s, configured=self._calls_per_hour)
        return now_s + seconds + to_unix_s if math.isfinite(seconds) else None

    def _may_ask(self, caller: _Caller) -> bool:
        """Only the first asks, and the first of a class that may be starving behind it."""
        if self._first() is caller:
            return True
        if trio.current_time() - caller.since_s < TUNING.starved_s:
            return False
        return next(c for c in self._callers if c.priority is caller.priority) is caller

    def _first(self) -> _Caller | None:
        return min(self._callers, key=attrgetter("priority"), default=None)  # the oldest of the first class

    def _wake_first(self) -> None:
        first = self._first()
        if first is not None:
            first.wake.set()

    def _waiting(self) -> tuple[int, int, int]:
        counts = [0, 0, 0]
        for caller in self._callers:
            counts[caller.priority] += 1
        return counts[0], counts[1], counts[2]


class LocalLimiter(Gate):
    """A budget known to this process alone."""

    def __init__(
        self, *, unix_time_s: Callable[[], float] = clocks.wall_s, jitter: Callable[[], float] = random.random
    ) -> None:
        super().__init__(MemoryStore(), unix_time_s=unix_time_s, jitter=jitter)


def _report_all(
    owner: str, told: Sequence[_Told], jitter: Callable[[], float], state: State, now_s: float
) -> None:
    settle(state, now_s)
    for report, at_s in told:
        answers.observe(state, owner, report.aged(trio.current_time() - at_s), now_s, jitter)


def _report_and_ask(
    asking: process_queue.Asking,
    told: Sequence[_Told],
    jitter: Callable[[], float],
    state: State,
    now_s: float,
) -> float:
    if told:
        _report_all(asking.owner, told, jitter, state, now_s)
    return process_queue.ask(state, asking, now_s)


def _settled(state: State, now_s: float) -> State:
    """A copy as it is at this moment."""
    copy = decode(encode(state))
    assert copy is not None
    settle(copy, now_s)
    return copy


def _source(state: State, configured: int) -> Literal["told", "configured", "assumed"]:
    if configured and not (state.told and state.limit < configured):
        return "configured"
    return "told" if state.told else "assumed"


def _spike_status(state: State, now_s: float, to_unix_s: float) -> WindowStatus:
    used = len(state.permits) + len(state.recent)
    if not used and now_s >= state.spike_reset_s:
        return WindowStatus(state.spike_limit, state.spike_limit, None)
    told = state.spike_others if now_s < state.spike_ends_s + TUNING.margin_s else 0.0
    left = 0 if now_s < state.spike_reset_s else max(0, int(state.spike_limit - used - told))
    oldest_s = state.recent[0] + state.spike_s if state.recent else now_s + state.spike_s
    return WindowStatus(state.spike_limit, left, max(state.spike_reset_s, oldest_s) + to_unix_s)
