"""Whole hours against the sandbox's own account of the windows: never above either, all used, nobody starves."""

import math
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from procorefs.limiter import Priority, learning
from procorefs.limiter.headers import ServerClock, read_report
from procorefs.limiter.policy import STARVED_S, settle
from procorefs.limiter.queue import Asking, ask
from procorefs.limiter.state import State, fresh
from procorefs.sandbox.rates import ClientBudget, Reading

INTERACTIVE, WRITING, REFRESH = Priority
UNIX_S = 1_800_000_000.0
HOUR_S = 3600.0


@dataclass
class Play:
    """Processes that always have work in every class, and a server; time moves from event to event."""

    hourly: int
    spike: int
    windows: Literal["fixed", "rolling"]
    tells: Literal["fewest", "share"]
    latency_s: float
    starts_s: float
    ahead_s: float
    classes: tuple[Priority, ...] = (WRITING, REFRESH)
    state: State = field(default_factory=fresh)
    throttled: int = 0
    granted_s: list[float] = field(default_factory=list)
    served_s: dict[Priority, list[float]] = field(default_factory=lambda: {p: [] for p in Priority})

    def run(self, until_s: float) -> None:
        server, clock = ClientBudget(self.windows), ServerClock()
        now_s = self.starts_s
        wakes_s = dict.fromkeys(self.classes, now_s)
        since_s = dict.fromkeys(self.classes, now_s)
        answers: list[tuple[float, float, Priority, int, dict[str, str]]] = []
        while now_s < until_s:
            now_s = min([*wakes_s.values(), *(answer[0] for answer in answers)])
            for answer in [answer for answer in answers if answer[0] <= now_s]:
                answers.remove(answer)
                _, sent_s, priority, status, headers = answer
                unix_s = clock.unix_s(headers["date"], sent_s, now_s, UNIX_S + now_s)
                settle(self.state, now_s)
                report = read_report(status, headers, unix_s)
                learning.observe(self.state, priority.name, report, now_s, lambda: 0.5)
            for priority in [p for p in self.classes if wakes_s[p] <= now_s]:
                waiting = (0, 1, 1)
                asking = Asking(priority.name, "host", priority, now_s - since_s[priority], waiting)
                sleep_s = ask(self.state, asking, now_s)
                wakes_s[priority] = now_s + max(sleep_s, 0.0)
                if sleep_s == 0:
                    self.served_s[priority].append(now_s)
                    since_s[priority] = now_s
                    status, headers = self.call(server, now_s + self.latency_s / 2)
                    answers.append((now_s + self.latency_s, now_s, priority, status, headers))

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
)


@settings(max_examples=20, deadline=None)
@given(plays)
@example(
    Play(hourly=100, spike=6, windows="fixed", tells="fewest", latency_s=1.0, starts_s=1.0, ahead_s=-1.0)
)
@example(  # answers that come when the window has begun anew are no sign of other programs
    Play(hourly=100, spike=9, windows="fixed", tells="fewest", latency_s=2.0, starts_s=1.0, ahead_s=-1.0)
)
@example(  # many calls at the end of some that are remembered together
    Play(hourly=100, spike=17, windows="rolling", tells="fewest", latency_s=1.0, starts_s=1.0, ahead_s=0.0)
)
def test_two_hours_are_used_and_neither_window_is_overshot(play: Play) -> None:
    play.run(play.starts_s + 2 * HOUR_S + 60)
    assert play.throttled == 0
    possible = min(play.hourly, play.spike * HOUR_S / 10)
    for start_s in (play.granted_s[0], play.granted_s[0] + HOUR_S):
        used = sum(start_s <= at_s < start_s + HOUR_S for at_s in play.granted_s)
        if play.windows == "fixed" and play.spike * 360 > 2 * play.hourly:
            # In an hour of 100 calls the turn of the window and the clocks' difference cost a few, whatever its length.
            assert used >= min(0.98 * possible, possible - 4)
    for served_s in (play.served_s[WRITING], play.served_s[REFRESH]):
        assert served_s, "a class was never served"


@settings(max_examples=10, deadline=None)
@given(plays)
def test_no_class_starves_while_there_are_calls(play: Play) -> None:
    """Nothing but people's calls, all the time: what must be written and looked at goes on, too."""
    play.classes = tuple(Priority)
    play.hourly = 100_000
    play.run(play.starts_s + 300)
    assert play.throttled == 0
    for priority in (WRITING, REFRESH):
        gaps_s = [b - a for a, b in zip(play.served_s[priority], play.served_s[priority][1:], strict=False)]
        assert gaps_s
        assert max(gaps_s) < 3 * STARVED_S
