"""Where a budget is kept: the interface of a store, memory of this process, and a store that falls back to another one.

A step is a pure function of (state, now): a store runs it on the newest state and keeps what it changed, all or
nothing, and may have to run it again. What a step returns belongs to the run that was kept.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

import trio

from procorefs.limiter.budget_state import Sent, State, decode, encode
from procorefs.limiter.policy import settle
from procorefs.limiter.process_queue import share_alone

log = logging.getLogger(__name__)

T = TypeVar("T")
Step = Callable[[State, float], T]


class StoreAway(Exception):
    """The place cannot be reached now; nothing was changed, as far as is known."""


class Store(Protocol):
    """A budget that is shared with whoever uses the same place."""

    @property
    def shared_by(self) -> str:
        """Who shares it, as `status` says it."""

    async def change(self, step: Step[T]) -> T:
        """Run a step; not torn by cancellation. Raises StoreAway."""

    def change_now(self, step: Step[T]) -> T:
        """The same without waiting. Raises StoreAway, also when only waiting would help."""

    def peek(self) -> tuple[State, float]:
        """The newest state at hand and the time on its clock; not to be changed."""

    def is_current(self) -> bool:
        """Does `peek` show what others have done in the last second?"""


class MemoryStore:
    """A budget of this process alone, or of all gates that are given the same store."""

    shared_by = "process"

    def __init__(self, state: State | None = None) -> None:
        self._state = State() if state is None else state

    async def change(self, step: Step[T]) -> T:
        return step(self._state, trio.current_time())

    def change_now(self, step: Step[T]) -> T:
        return step(self._state, trio.current_time())

    def peek(self) -> tuple[State, float]:
        return self._state, trio.current_time()

    def is_current(self) -> bool:
        return True


LOOK_S = 1.0  # how often the place that is away is looked for


class WithFallback:
    """`usual` as long as it answers, else `other`. `run` looks for the usual one again."""

    def __init__(self, usual: Store, other: Store, place: str) -> None:
        self._usual = usual
        self._other = other
        self._place = place  # for the log: "Redis at host:port"
        self._away = trio.Event()
        self._spent = 0  # calls taken while the usual place was away

    @property
    def shared_by(self) -> str:
        """Who shares it now."""
        if self._away.is_set():
            return f"{self._other.shared_by} ({self._usual.shared_by} is away)"
        return self._usual.shared_by

    async def change(self, step: Step[T]) -> T:
        if not self._away.is_set():
            try:
                return await self._usual.change(step)
            except StoreAway as error:
                await self._go(str(error))
        return await self._other.change(partial(self._counting, step))

    def change_now(self, step: Step[T]) -> T:
        if self._away.is_set():
            return self._other.change_now(partial(self._counting, step))
        return self._usual.change_now(step)

    def peek(self) -> tuple[State, float]:
        return self._other.peek() if self._away.is_set() else self._usual.peek()

    def is_current(self) -> bool:
        return self._away.is_set() or self._usual.is_current()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Come back to the usual place when it answers again; until cancelled."""
        task_status.started()
        while True:
            await self._away.wait()
            await trio.sleep(LOOK_S)
            known, then_s = self._other.peek()
            spent = self._spent
            try:
                await self._usual.change(_bringing(known, then_s, spent))
            except StoreAway:
                continue
            self._spent -= spent
            self._away = trio.Event()
            log.info("%s answers again: the call budget is shared through it", self._place)

    async def _go(self, reason: str) -> None:
        """Turn to the other place; of several who find the usual one away, the first says so."""
        if self._away.is_set():
            return
        self._away.set()
        self._spent = 0
        known, now_s = self._usual.peek()
        share = share_alone(known, now_s)
        log.warning(
            "%s does not answer (%s): continuing with %.0f %% of the call budget until it does",
            self._place,
            reason,
            share * 100,
        )
        await self._other.change(_carrying(known, now_s, share))

    def _counting(self, step: Step[T], state: State, now_s: float) -> T:
        before = len(state.permits)
        result = step(state, now_s)
        self._spent += max(0, len(state.permits) - before)
        return result


def _carrying(known: State, then_s: float, share: float) -> Callable[[State, float], None]:
    """Go on with the windows as they were known in the usual place."""

    def step(state: State, now_s: float) -> None:
        settle(state, now_s)
        state.share = share
        _adopt(state, known, now_s - then_s)

    return step


def _bringing(known: State, then_s: float, spent: int) -> Callable[[State, float], None]:
    """Count what was spent elsewhere; a place that was emptied meanwhile gets what is known."""

    def step(state: State, now_s: float) -> None:
        is_forgotten = not state.limits_told and not state.answered
        settle(state, now_s)
        if is_forgotten:
            under_way = [now_s] * len(known.permits)  # their answers may be counted in the other place
            _adopt(state, known, now_s - then_s)
            state.recent += under_way
            state.noted += under_way
            return
        if spent:
            state.sent.append(Sent(now_s, spent, 0))
            state.recent.extend([now_s] * spent)
        state.paused_until_s = max(state.paused_until_s, known.paused_until_s + now_s - then_s)

    return step


def _adopt(state: State, known: State, shift_s: float) -> None:
    """Take over what was learnt later than what is at hand: all but what belongs to this place."""
    copy = decode(encode(known))
    # What was carried here from another place may have no answer of its own yet.
    if copy is None or not (copy.answered or copy.limits_told):
        return
    copy.shift(shift_s)
    if copy.heard_s < state.heard_s:
        return
    recent = sorted(state.recent + copy.recent)
    paused_until_s = max(state.paused_until_s, copy.paused_until_s)
    for name in _LEARNT:
        setattr(state, name, getattr(copy, name))
    state.recent, state.paused_until_s = recent, paused_until_s


_LEARNT = (
    "limit", "told", "told_s", "told_last", "reset_s", "sent", "began_s", "over_minutes", "others_per_s",
    "others_burst", "watched_s", "heard_s", "spike_limit", "spike_told", "spike_told_s", "spike_others", "spike_ends_s",
    "spike_rolls", "spike_reset_s", "limits_told", "unlimited", "sure", "hour_rolls", "told_left", "noted",
)  # fmt: skip
