"""Processes on two hosts share one call budget with another program, on a clock that moves only when all wait.

The server counts with the sandbox's own windows. Its answers tell one window: the one with fewer calls left, the one
with the smaller share left, or the hour only when it is nearly used up (`late`). Printed for each hour: answers 429,
the part of the available calls that was used, how long calls of each class waited, and the assumed limit.
"""

import argparse
import concurrent.futures
import functools
import heapq
import itertools
import math
import random
import sys
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Literal, NamedTuple

import msgspec

from procorefs.limiter import Priority
from procorefs.limiter.answers import ServerClock, observe, read_report
from procorefs.limiter.budget_state import State
from procorefs.limiter.gate import ORDER_LOOK_S
from procorefs.limiter.policy import settle
from procorefs.limiter.process_queue import Asking, ask
from procorefs.limiter.tuning import TUNING
from procorefs.sandbox.api.rate_windows import HOUR_S, SPIKE_S, FixedWindow, Reading, RollingWindow

UNIX_S = 1_800_000_000.3
HOSTS = 1
PROCESSES = 1  # a host
WORKERS = 12  # tasks that migrate, a process
PERSON_BURST = 4  # calls at most that one action of a person needs
OTHERS_START_S = -900.0  # before us: the server's hour does not begin with our first call
SPIKE = 25
LATE = 0.02  # share of the hour that is left when `late` begins to tell it
HOURS = 4  # simulated where the number of calls is not given
STARTS_S = 120.0  # a person begins to use the mount at any moment of this time
PERSON_WAITS_S = 2.0
USED = 0.97
SELDOM = 10_000  # where windows roll, one answer 429 in so many is accepted

Kind = Literal["fixed", "rolling"]
Tells = Literal["fewest", "share", "late"]
KINDS: tuple[Kind, ...] = ("fixed", "rolling")
TELLINGS: tuple[Tells, ...] = ("fewest", "share", "late")


class Case(msgspec.Struct, frozen=True):
    """One kind of server, and what is done with it."""

    hourly: int = 3600
    hour_window: Kind = "fixed"
    spike_window: Kind = "rolling"
    tells: Tells = "fewest"
    people_every_s: float = 60.0
    """Between two actions of people, on average; 0: nobody uses the mount."""
    stolen: float = 0.1
    """Part of the hour that another program takes."""
    known: int | None = None
    """The limit that is known at the start."""
    calls: int = 0
    """How many calls there are to make; 0: as many as four hours hold."""
    seed: int = 1

    @property
    def possible(self) -> int:
        """Calls that an hour can hold by both windows."""
        return min(self.hourly, SPIKE * HOUR_S // SPIKE_S)

    @property
    def work(self) -> int:
        return self.calls or int(HOURS * self.possible * (1 - self.stolen)) + 1


class Waits(msgspec.Struct, frozen=True):
    """Seconds that the calls of one class waited."""

    calls: int
    p50: float
    p99: float
    max: float


class Hour(msgspec.Struct, frozen=True):
    """One hour: the server's where its hours are fixed, else counted from the first call."""

    begins_s: float
    full: bool
    """There was work from its beginning to its end."""
    throttled: int
    calls: int
    stolen: int
    used: float
    """Of what the other program left."""
    assumed: int
    """The limit that is assumed at its end."""
    known: bool
    """The limit was known at its beginning."""
    waits: dict[str, Waits]


class Outcome(msgspec.Struct):
    """What came of a case; times are seconds since the first call."""

    case: Case
    hours: list[Hour] = []
    calls: int = 0
    throttled: int = 0
    found_s: float | None = None
    """When as much as the true limit was assumed for the first time."""

    def faults(self) -> list[str]:
        """What was promised and is not so."""
        fixed = self.case.hour_window == self.case.spike_window == "fixed"
        accepted = 0 if fixed else math.ceil(self.calls / SELDOM)
        found = [f"{self.throttled} x 429"] if self.throttled > accepted else []
        for number, hour in enumerate(self.hours, 1):
            people = hour.waits["interactive"]
            if people.p99 > PERSON_WAITS_S:
                found.append(f"hour {number}: people wait {people.p99:.0f} s")
            if hour.full and hour.known and hour.used < USED and self.case.possible == self.case.hourly:
                found.append(f"hour {number}: used {hour.used:.1%}")
        return found


class Server:
    """Counts calls as the sandbox does, on the virtual clock."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._hour = _window(case.hour_window, HOUR_S)
        self._spike = _window(case.spike_window, SPIKE_S)
        self._hour_ends_s = -math.inf
        self.hours_s: list[float] = []
        self.granted_s: list[float] = []
        self.stolen_s: list[float] = []
        self.throttled_s: list[float] = []

    def call(self, clock_s: float, *, other: bool) -> tuple[int, dict[str, str]]:
        """The answer to a call that arrives at this moment."""
        now_s = UNIX_S + clock_s
        hour, spike = self._read(now_s)
        granted = hour.remaining > 0 and spike.remaining > 0
        if granted:
            self._hour.take(now_s)
            self._spike.take(now_s)
            (self.stolen_s if other else self.granted_s).append(clock_s)
            if clock_s >= self._hour_ends_s:
                self._hour_ends_s = math.floor(now_s) + HOUR_S - UNIX_S
                self.hours_s.append(self._hour_ends_s - HOUR_S)
            hour, spike = self._read(now_s)
        elif not other:
            self.throttled_s.append(clock_s)
        told = self._told(hour, spike)
        headers = {name.lower(): value for name, value in told.headers().items()}
        return 200 if granted else 429, {"date": formatdate(now_s, usegmt=True), **headers}

    def _read(self, now_s: float) -> tuple[Reading, Reading]:
        return self._hour.read(now_s, self._case.hourly), self._spike.read(now_s, SPIKE)

    def _told(self, hour: Reading, spike: Reading) -> Reading:
        if hour.remaining == 0 or spike.remaining == 0:
            return hour if hour.remaining == 0 else spike
        match self._case.tells:
            case "fewest":
                return min(hour, spike, key=lambda one: one.remaining)
            case "share":
                return min(hour, spike, key=lambda one: one.remaining / one.limit)
            case "late":
                return hour if hour.remaining <= LATE * hour.limit else spike


def _window(kind: Kind, length_s: int) -> FixedWindow | RollingWindow:
    return FixedWindow(length_s) if kind == "fixed" else RollingWindow(length_s)


class Caller(NamedTuple):
    """One call that waits in a process."""

    priority: Priority
    since_s: float
    works: bool
    """It is a task that migrates, and has the next call when this one was answered."""


class Process:
    """The queue of one process, as `limiter.gate` keeps it: its first caller asks, and sleeps as long as it is told."""

    def __init__(self, name: str) -> None:
        self.owner, self.host = name, name.partition("/")[0]
        self.clock = ServerClock()
        self.callers: list[Caller] = []
        self.wakes_at_s = math.inf
        self.looked_s = 0.0

    def waiting(self) -> tuple[int, int, int]:
        counts = [0, 0, 0]
        for caller in self.callers:
            counts[caller.priority] += 1
        return counts[0], counts[1], counts[2]

    def may_ask(self, now_s: float) -> list[Caller]:
        """The first, and now and then the first of each class that may be starving behind it."""
        if not self.callers:
            return []
        first = min(self.callers)
        if now_s < self.looked_s + ORDER_LOOK_S:
            return [first]
        self.looked_s = now_s
        starved = (caller for caller in self.callers if now_s - caller.since_s >= TUNING.starved_s)
        oldest = {caller.priority: caller for caller in sorted(starved, reverse=True)}
        return [*oldest.values()] if first.priority in oldest else [first, *oldest.values()]


class Simulation:
    """One case with all that takes part in it; time moves from event to event."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.dice = random.Random(case.seed)
        self.server = Server(case)
        self.state = State() if case.known is None else State(limit=case.known, told=True)
        self.processes = [Process(f"host{h}/{p}") for h in range(HOSTS) for p in range(PROCESSES)]
        self.left = case.work
        self.waits: list[tuple[float, Priority, float]] = []
        self.assumed: list[tuple[float, int, bool]] = []
        self.started_s = self.ended_s = self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def run(self) -> None:
        if self.case.stolen:
            self._steal(0)
            self.started_s = -OTHERS_START_S
        self._after(self.started_s, self._begin)
        while self.left > 0:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
        self.ended_s = self.now_s
        self._note_assumed()

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_s + seconds, next(self._numbers), event))

    def _begin(self) -> None:
        self._note_assumed()
        for process in self.processes:
            for number in range(WORKERS):
                self._wish(process, Priority.WRITING if number else Priority.REFRESH, works=True)
        if self.case.people_every_s:
            self._after(self._pause_of_people_s(), self._act)

    def _note_assumed(self) -> None:
        self.assumed.append((self.now_s, self.state.limit, self.state.told))
        self._after(10.0, self._note_assumed)

    def _steal(self, calls: int) -> None:
        """Another program spends its part of the hour, now and then two or three calls at once."""
        for _ in range(calls):
            self.server.call(self.now_s, other=True)
        next_calls = self.dice.choice([1, 1, 1, 2, 3])
        pause_s = self.dice.expovariate(self.case.stolen * self.case.possible / HOUR_S / 1.6)
        self._after(pause_s, functools.partial(self._steal, next_calls))

    def _pause_of_people_s(self) -> float:
        return self.dice.expovariate(1 / self.case.people_every_s)

    def _act(self) -> None:
        """One action of a person."""
        process = self.dice.choice(self.processes)
        for _ in range(self.dice.randint(1, PERSON_BURST)):
            self._wish(process, Priority.INTERACTIVE, works=False)
        self._after(self._pause_of_people_s(), self._act)

    def _wish(self, process: Process, priority: Priority, *, works: bool) -> None:
        process.callers.append(Caller(priority, self.now_s, works))
        self._ask(process)

    def _ask(self, process: Process) -> None:
        sleep_s = math.inf
        for caller in process.may_ask(self.now_s):
            waited_s = self.now_s - caller.since_s
            asking = Asking(process.owner, process.host, caller.priority, waited_s, process.waiting())
            slept_s = ask(self.state, asking, self.now_s)
            sleep_s = min(sleep_s, slept_s)
            if slept_s == 0:
                process.callers.remove(caller)
                self._send(process, caller)
        process.wakes_at_s = self.now_s + sleep_s
        if process.callers:
            self._after(sleep_s, functools.partial(self._wake, process, process.wakes_at_s))

    def _wake(self, process: Process, wakes_at_s: float) -> None:
        if process.wakes_at_s == wakes_at_s:
            self._ask(process)

    def _send(self, process: Process, caller: Caller) -> None:
        self.waits.append((caller.since_s, caller.priority, self.now_s - caller.since_s))
        self._after(
            self.dice.uniform(0.02, 0.1), functools.partial(self._arrive, process, caller, self.now_s)
        )

    def _arrive(self, process: Process, caller: Caller, sent_s: float) -> None:
        status, headers = self.server.call(self.now_s, other=False)
        self.left -= status == 200
        answer = functools.partial(self._answer, process, caller, sent_s, status, headers)
        self._after(self.dice.uniform(0.02, 0.3), answer)

    def _answer(
        self, process: Process, caller: Caller, sent_s: float, status: int, headers: dict[str, str]
    ) -> None:
        unix_s = process.clock.unix_s(headers["date"], sent_s, self.now_s, UNIX_S + self.now_s)
        settle(self.state, self.now_s)
        report = read_report(status, headers, unix_s)
        observe(self.state, process.owner, report, self.now_s, self.dice.random)
        if caller.works:
            process.callers.append(Caller(caller.priority, self.now_s, caller.works))
        self._ask(process)

    def outcome(self) -> Outcome:
        server, case = self.server, self.case
        found_s = [at_s for at_s, limit, _ in self.assumed if limit >= case.hourly]
        hours = [self._hour(begins_s) for begins_s in self._hours_s()]
        return Outcome(
            case,
            [hour for hour in hours if hour is not None],
            len(server.granted_s),
            len(server.throttled_s),
            found_s[0] - self.started_s if found_s else None,
        )

    def _hours_s(self) -> list[float]:
        if self.case.hour_window == "fixed":
            return [begins_s for begins_s in self.server.hours_s if begins_s + HOUR_S > self.started_s]
        count = math.ceil((self.ended_s - self.started_s) / HOUR_S)
        return [self.started_s + number * HOUR_S for number in range(count)]

    def _hour(self, begins_s: float) -> Hour | None:
        ends_s = min(begins_s + HOUR_S, self.ended_s)
        server = self.server

        def within(times_s: list[float]) -> int:
            return sum(begins_s <= at_s < ends_s for at_s in times_s)

        calls, stolen = within(server.granted_s), within(server.stolen_s)
        at_begin = [row for row in self.assumed if row[0] <= begins_s] or self.assumed[:1]
        at_end = [row for row in self.assumed if row[0] < ends_s] or self.assumed[:1]
        return Hour(
            round(begins_s - self.started_s, 1),
            begins_s + 1 >= self.started_s and begins_s + HOUR_S <= self.ended_s,
            within(server.throttled_s),
            calls,
            stolen,
            round(calls / max(self.case.possible - stolen, 1), 4),
            at_end[-1][1],
            at_begin[-1][2] and at_begin[-1][1] == self.case.hourly,
            {
                priority.name.lower(): _waits(
                    [w for at_s, p, w in self.waits if p is priority and begins_s <= at_s < ends_s]
                )
                for priority in Priority
            },
        )


def _waits(waits_s: list[float]) -> Waits:
    found = sorted(waits_s)
    if not found:
        return Waits(0, 0.0, 0.0, 0.0)
    return Waits(len(found), *(round(_percentile(found, percent), 3) for percent in (50, 99, 100)))


def _percentile(ordered: list[float], percent: float) -> float:
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def simulate(case: Case) -> Outcome:
    """Play one case."""
    simulation = Simulation(case)
    simulation.run()
    return simulation.outcome()


def grid(base: Case, seeds: int) -> Iterator[Case]:
    """Every kind of server with so many seeds; `known` says whether the limit is known at the start."""
    for hourly, hour, spike, told, seed in itertools.product(
        (600, 3600, 10_000), KINDS, KINDS, TELLINGS, range(1, seeds + 1)
    ):
        yield msgspec.structs.replace(
            base,
            hourly=hourly,
            hour_window=hour,
            spike_window=spike,
            tells=told,
            known=hourly if base.known is not None else None,
            seed=seed,
        )


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """What came of the seeds of each kind of server, as lines of Markdown."""
    yield "| calls | hour | 10 s | told | 429 of calls | used: worst, median | hours people wait > 2 s | found after |"
    yield "|---|---|---|---|---|---|---|---|"

    def kind(outcome: Outcome) -> tuple[int, str, str, str]:
        case = outcome.case
        return case.hourly, case.hour_window, case.spike_window, case.tells

    for (hourly, hour, spike, told), group in itertools.groupby(outcomes, kind):
        some = list(group)
        judged = [h for o in some for h in o.hours if h.full and h.known and o.case.possible == hourly]
        used = sorted(h.used for h in judged)
        waits = [h.waits["interactive"].p99 for o in some for h in o.hours]
        long = [wait for wait in waits if wait > PERSON_WAITS_S]
        found = [math.inf if o.found_s is None else o.found_s / 60 for o in some]
        yield " | ".join(
            (
                f"| {hourly:,} | {hour} | {spike} | {told}",
                f"{sum(o.throttled for o in some)} of {sum(o.calls for o in some):,}",
                f"{used[0]:.1%}, {used[len(used) // 2]:.1%}" if used else "-",
                f"{len(long)} of {len(waits)}" + (f" (p99 {max(long):.0f} s)" if long else ""),
                ("-" if math.isinf(max(found)) else f"{max(found):.0f} min") + " |",
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--hourly", type=int, default=3600)
    parser.add_argument("--hour-window", choices=["fixed", "rolling"], default="fixed")
    parser.add_argument("--spike-window", choices=["fixed", "rolling"], default="rolling")
    parser.add_argument("--tells", choices=["fewest", "share", "late"], default="fewest")
    parser.add_argument("--people-every", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--stolen", type=float, default=0.1, metavar="FRACTION")
    parser.add_argument("--known", default="no", metavar="N|no")
    parser.add_argument("--calls", type=int, default=0, help="default: what four hours hold")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--grid", type=int, metavar="SEEDS", help="all kinds of servers, as a table")
    parser.add_argument("--processes", type=int, default=2, help="that play the grid")
    chosen = parser.parse_args()
    case = Case(
        chosen.hourly,
        chosen.hour_window,
        chosen.spike_window,
        chosen.tells,
        chosen.people_every,
        chosen.stolen,
        None if chosen.known == "no" else int(chosen.known),
        chosen.calls,
        chosen.seed,
    )
    if chosen.grid:
        with concurrent.futures.ProcessPoolExecutor(chosen.processes) as pool:
            outcomes = list(pool.map(simulate, grid(case, chosen.grid)))
        for line in table(outcomes):
            print(line)
        for outcome in outcomes:
            for fault in outcome.faults():
                print(f"{outcome.case}: {fault}", file=sys.stderr)
        return
    outcome = simulate(case)
    if chosen.json:
        print(msgspec.json.format(msgspec.json.encode(outcome)).decode())
        return
    show = functools.partial(print, sep="  ")
    show("hour begins", "full", "429", "used", "assumed", "people p50/p99/max", "writing p50/p99/max")
    for hour in outcome.hours:
        people, writing = hour.waits["interactive"], hour.waits["writing"]
        show(
            f"{hour.begins_s:>11.0f}", f"{hour.full!s:<5}", hour.throttled, f"{hour.used:6.1%}", hour.assumed,
            f"{people.p50:.1f}/{people.p99:.1f}/{people.max:.1f}",
            f"{writing.p50:.1f}/{writing.p99:.1f}/{writing.max:.1f}",
        )  # fmt: skip
    for fault in outcome.faults():
        show(fault)


if __name__ == "__main__":
    main()
