"""Whole hours against the sandbox's own account of the windows: never above either, all used, nobody waits long."""

import math
import random
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Literal, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from procorefs.limiter import Priority, answers
from procorefs.limiter.answers import ServerClock, read_report
from procorefs.limiter.budget_state import State
from procorefs.limiter.policy import settle
from procorefs.limiter.process_queue import Asking, ask
from procorefs.limiter.tuning import TUNING
from procorefs.sandbox.api.rate_windows import ClientBudget, Reading

INTERACTIVE, WRITING, REFRESH = Priority
UNIX_S = 1_800_000_000.0
HOUR_S = 3600.0
ROUNDING_S = 1e-6
PERSON_WAITS_S = 2.0  # at most, while the hour is not spent
DOUBTED = 1  # call at the end of an hour that another program may have used, where an answer made it seem there is one
STRANGER_BEGAN_S = 900.0  # before us: the first hour is not ours to begin
FIRST_ANSWERS_S = 60.0
ENOUGH_SPIKE = 10  # calls of a spike window that have room for a person's beside all the others


class Wait(NamedTuple):
    """How long a person waited, and how many calls of the hour the server had when that began."""

    seconds: float
    left: int


@dataclass
class Play:
    """Processes that always have work, a person who sometimes waits for a call, and a server.

    Time moves from event to event.
    """

    hourly: int
    spike: int
    windows: Literal["fixed", "rolling"]
    tells: Literal["fewest", "share"]
    latency_s: float
    starts_s: float
    ahead_s: float
    person_every_s: float
    stranger_per_s: float = 0.0  # calls of another program, now and then two or three at once
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    state: State = field(default_factory=State)
    throttled: int = 0
    granted_s: list[float] = field(default_factory=list)
    stolen_s: list[float] = field(default_factory=list)
    served_s: dict[Priority, list[float]] = field(default_factory=lambda: {p: [] for p in Priority})
    person_waits: list[Wait] = field(default_factory=list)
    told_s: float = math.inf  # when an answer spoke of the hour for the first time

    def run(self, until_s: float) -> None:
        server, clock = ClientBudget(self.windows), ServerClock()
        now_s = self.starts_s
        wakes_s = {priority: now_s + self.pause_s(priority) for priority in Priority}
        since_s = dict(wakes_s)
        left = 0
        coming: list[tuple[float, float, Priority, int, dict[str, str]]] = []
        stranger_s = now_s - STRANGER_BEGAN_S + self.stranger_pause_s()
        while now_s < until_s:
            now_s = min([*wakes_s.values(), *(answer[0] for answer in coming)])
            while stranger_s < now_s:
                self.steal(server, stranger_s)
                stranger_s += self.stranger_pause_s()
            for answer in [answer for answer in coming if answer[0] <= now_s]:
                coming.remove(answer)
                _, sent_s, priority, status, headers = answer
                unix_s = clock.unix_s(headers["date"], sent_s, now_s, UNIX_S + now_s)
                settle(self.state, now_s)
                report = read_report(status, headers, unix_s)
                answers.observe(self.state, priority.name, report, now_s, lambda: 0.5)
                if self.state.told:
                    self.told_s = min(self.told_s, now_s)
            for priority in [p for p in Priority if wakes_s[p] <= now_s]:
                if priority is INTERACTIVE and now_s == since_s[priority]:
                    left = self.left(server, now_s)
                waiting = (0, 1, 1)
                asking = Asking(priority.name, "host", priority, now_s - since_s[priority], waiting)
                sleep_s = ask(self.state, asking, now_s)
                wakes_s[priority] = now_s + max(sleep_s, 0.0)
                if sleep_s == 0:
                    if priority is INTERACTIVE:
                        self.person_waits.append(Wait(now_s - since_s[priority], left))
                    self.served_s[priority].append(now_s)
                    since_s[priority] = wakes_s[priority] = now_s + self.pause_s(priority)
                    status, headers = self.call(server, now_s + self.latency_s / 2)
                    coming.append((now_s + self.latency_s, now_s, priority, status, headers))
        if now_s > since_s[INTERACTIVE]:
            self.person_waits.append(Wait(now_s - since_s[INTERACTIVE], left))

    def pause_s(self, priority: Priority) -> float:
        """Between a call and the wish for the next one."""
        if priority is not INTERACTIVE:
            return 0.0
        if self.stranger_per_s:
            return self.dice.expovariate(1 / self.person_every_s)
        return self.person_every_s

    def stranger_pause_s(self) -> float:
        if not self.stranger_per_s:
            return math.inf
        return self.dice.expovariate(self.stranger_per_s / 1.6)

    def steal(self, server: ClientBudget, now_s: float) -> None:
        for _ in range(self.dice.choice([1, 1, 1, 2, 3])):
            if server.take(UNIX_S + now_s + self.ahead_s, self.hourly, self.spike):
                self.stolen_s.append(now_s)

    def left(self, server: ClientBudget, now_s: float) -> int:
        """Calls of the hour; those on their way are taken off already."""
        return server.first_to_run_out(UNIX_S + now_s + self.ahead_s, self.hourly, 0).remaining

    def call(self, server: ClientBudget, now_s: float) -> tuple[int, dict[str, str]]:
        unix_s = UNIX_S + now_s + self.ahead_s
        granted = server.take(unix_s, self.hourly, self.spike)
        if granted:
            self.granted_s.append(now_s)
        else:
            self.throttled += 1
        readings = [server.first_to_run_out(unix_s, *limits) for limits in self.limits()]
        told = min(readings, key=lambda reading: reading.remaining / reading.limit)
        return (200 if granted else 429), _headers(told, unix_s)

    def limits(self) -> list[tuple[int, int]]:
        if self.tells == "fewest":
            return [(self.hourly, self.spike)]
        return [(self.hourly, 0), (0, self.spike)]


def _headers(told: Reading, unix_s: float) -> dict[str, str]:
    named = {name.lower(): value for name, value in told.headers().items()}
    return {"date": formatdate(math.floor(unix_s), usegmt=True), **named}


plays = st.builds(
    Play,
    hourly=st.integers(100, 700),
    spike=st.integers(5, 40),
    windows=st.sampled_from(["fixed", "rolling"]),
    tells=st.sampled_from(["fewest", "share"]),
    latency_s=st.floats(0.02, 2),
    starts_s=st.floats(1, 1000),
    ahead_s=st.floats(-100, 100),
    person_every_s=st.floats(11, 500) | st.just(math.inf),
)


@settings(max_examples=20, deadline=None)
@given(plays)
@example(Play(100, 6, "fixed", "fewest", latency_s=1.0, starts_s=1.0, ahead_s=-1.0, person_every_s=math.inf))
@example(  # answers that come when the window has begun anew are no sign of other programs
    Play(100, 9, "fixed", "fewest", latency_s=2.0, starts_s=1.0, ahead_s=-1.0, person_every_s=math.inf)
)
@example(  # nor are calls that were under way when the window began anew
    Play(100, 16, "fixed", "share", latency_s=1.0, starts_s=1.0, ahead_s=0.0, person_every_s=13.0)
)
@example(  # many calls at the end of some that are remembered together
    Play(100, 17, "rolling", "fewest", latency_s=1.0, starts_s=1.0, ahead_s=0.0, person_every_s=math.inf)
)
@example(  # of an hour that no answer has told yet no more calls are under way than are surely left
    Play(244, 5, "fixed", "fewest", latency_s=0.02, starts_s=1.0, ahead_s=0.0, person_every_s=11.0)
)
def test_two_hours_are_used_and_neither_window_is_overshot(play: Play) -> None:
    play.run(play.starts_s + 2 * HOUR_S + 60)
    assert play.throttled == 0
    possible = min(play.hourly, play.spike * HOUR_S / 10)
    for start_s in (play.granted_s[0], play.granted_s[0] + HOUR_S):
        # Until an answer tells of the hour, which may be at its end, no more than the assumed limit is known; and the
        # pace needs an hour to follow a higher one, because the hour may roll and hold all calls of the last one.
        is_known = start_s - play.told_s >= HOUR_S - FIRST_ANSWERS_S
        known = possible if is_known else min(possible, TUNING.first_limit)
        used = sum(start_s <= at_s < start_s + HOUR_S for at_s in play.granted_s)
        if play.windows == "fixed" and play.spike * 360 > 2 * play.hourly:
            # What is kept for one action of a person costs a few calls, whatever the hour holds.
            assert used >= min(0.97 * known, known - 8)
    for served_s in (play.served_s[WRITING], play.served_s[REFRESH]):
        assert served_s, "a class was never served"
    if play.windows == "fixed" and play.spike >= ENOUGH_SPIKE:
        long = [wait for wait in play.person_waits if wait.seconds > PERSON_WAITS_S + ROUNDING_S]
        assert [wait for wait in long if wait.left > DOUBTED] == []


@settings(max_examples=10, deadline=None)
@given(plays)
def test_no_class_starves_while_there_are_calls(play: Play) -> None:
    """Nothing but people's calls, all the time: what must be written and looked at goes on, too."""
    play.person_every_s = 0.0
    play.hourly = 100_000
    play.run(play.starts_s + 300)
    assert play.throttled == 0
    for priority in (WRITING, REFRESH):
        gaps_s = [b - a for a, b in zip(play.served_s[priority], play.served_s[priority][1:], strict=False)]
        assert gaps_s
        assert max(gaps_s) < 3 * TUNING.starved_s


@pytest.mark.parametrize("tells", ["fewest", "share"])
@pytest.mark.parametrize("windows", ["fixed", "rolling"])
def test_beside_another_program_hours_are_used_and_no_person_waits(
    windows: Literal["fixed", "rolling"], tells: Literal["fewest", "share"]
) -> None:
    """It takes a tenth of the hour, in bursts, and nothing tells of it but what is left."""
    play = Play(
        3600, 25, windows, tells, 0.2, starts_s=1000.0, ahead_s=0.0, person_every_s=8.0, stranger_per_s=0.1
    )
    play.state = State(limit=3600, told=True)
    play.run(play.starts_s + 3.1 * HOUR_S)
    assert play.throttled == 0
    waits_s = sorted(wait.seconds for wait in play.person_waits)
    assert waits_s[int(len(waits_s) * 0.99)] <= PERSON_WAITS_S
    # the server's first hour that fixed windows count began with the other program
    begun_s = play.granted_s[0] if windows == "rolling" else _fixed_hour_after(play)
    for start_s in (begun_s, begun_s + HOUR_S):
        granted, stolen = (
            sum(start_s <= at_s < start_s + HOUR_S for at_s in calls)
            for calls in (play.granted_s, play.stolen_s)
        )
        assert granted >= 0.97 * (play.hourly - stolen)


def _fixed_hour_after(play: Play) -> float:
    """The first of the server's hours that began after our first call, on a whole second."""
    calls_s = sorted(play.granted_s + play.stolen_s)
    begun_s = math.floor(calls_s[0])
    while begun_s < play.granted_s[0]:
        begun_s = math.floor(next(at_s for at_s in calls_s if at_s >= begun_s + HOUR_S))
    return begun_s
