"""Decides which process sends the next call: by class, then by age; one that is late delays nobody. Pure.

The first waiter of each process asks. It gets a call, or the time to ask again. What it said of itself stays in the
state, so that a process which asks earlier than that sees that the other was there before it.
"""

import math

import msgspec

from procorefs.limiter.budget import Priority
from procorefs.limiter.budget_state import State, Waiter
from procorefs.limiter.policy import is_starved, settle, take, wait_s

GRACE_S = 0.01  # who was let pass is looked for again after so long
ANSWER_LOOK_S = 0.05  # how often another process's answer is looked for when only it can help
LONGEST_SLEEP_S = (2.0, 5.0, 5.0)  # by class: a limit may be raised, so a waiter looks again
SHORTEST_SLEEP_S = 0.001
EARLY_S = 0.06  # a waiter that is due within this time is waited for
LATE_S = 0.25  # and one later than this is not
HOST_S = 3600.0  # a host that asked within this time shares the budget


class Asking(msgspec.Struct, frozen=True):
    """The first waiter of one process."""

    owner: str
    host: str
    priority: Priority
    waited_s: float
    waiting: tuple[int, int, int]
    """How many wait in this process, by class, itself included."""
    configured: int = 0
    """Calls per hour that this process is configured to use at most; 0: as many as there are."""


def ask(state: State, asking: Asking, now_s: float) -> float:
    """Take a call (0), or the seconds after which to ask again."""
    settle(state, now_s)
    state.hosts[asking.host] = now_s
    waiters = [w for w in state.waiters if w.owner != asking.owner and now_s < w.wakes_at_s + LATE_S]
    state.waiters = waiters
    sleep_s = wait_s(state, asking.priority, now_s, asking.waited_s, asking.configured)
    if sleep_s <= 0:
        if not _somebody_before(state, asking, now_s):
            take(state, asking.owner, asking.priority, now_s)
            return 0.0
        sleep_s = GRACE_S
    if math.isinf(sleep_s):
        sleep_s = ANSWER_LOOK_S
    sleep_s = min(max(sleep_s, SHORTEST_SLEEP_S), LONGEST_SLEEP_S[asking.priority])
    arrived_s = now_s - asking.waited_s
    waiters.append(Waiter(asking.owner, asking.priority, arrived_s, now_s + sleep_s, asking.waiting))
    return sleep_s


def leave(state: State, now_s: float, *, owner: str) -> None:
    """Nobody waits in this process any more."""
    settle(state, now_s)
    state.waiters = [waiter for waiter in state.waiters if waiter.owner != owner]


def rank(state: State, priority: Priority, arrived_s: float, now_s: float) -> tuple[int, float]:
    """The order in which waiters go; a class that starves is first when it could go."""
    waited_s = now_s - arrived_s
    starved = (
        priority is not Priority.INTERACTIVE
        and is_starved(state, priority, now_s, waited_s)
        and wait_s(state, priority, now_s, waited_s) <= 0
    )
    return (-1 if starved else int(priority), arrived_s)


def waiting_by_class(state: State, now_s: float) -> tuple[int, int, int]:
    """How many wait, as their processes said when they last asked."""
    present = [waiter.waiting for waiter in state.waiters if now_s < waiter.wakes_at_s + LATE_S]
    interactive, writing, refresh = (sum(column) for column in zip((0, 0, 0), *present, strict=True))
    return interactive, writing, refresh


def share_alone(state: State, now_s: float) -> float:
    """The part of the budget that a host may use when it cannot ask the others; never the whole."""
    hosts = sum(now_s - asked_s < HOST_S for asked_s in state.hosts.values())
    return 1 / max(2, hosts)


def _somebody_before(state: State, asking: Asking, now_s: float) -> bool:
    mine = rank(state, asking.priority, now_s - asking.waited_s, now_s)
    due = (waiter for waiter in state.waiters if waiter.wakes_at_s <= now_s + EARLY_S)
    return any(
        rank(state, Priority(waiter.priority), waiter.arrived_s, now_s) < mine
        and wait_s(state, Priority(waiter.priority), now_s, now_s - waiter.arrived_s) <= 0
        for waiter in due
    )
