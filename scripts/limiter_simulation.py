"""Eight processes on two hosts share one call budget with a stranger, on a clock that only moves when all wait.

The server is the sandbox's own account of the two windows, fixed or rolling, and reports the window with fewer calls
left or that with the smaller share left. Printed for each case: answers 429, the part of the available calls that was
used in the worst full hour, and how long calls of each class waited.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Literal

import trio
import trio.testing

from procorefs.limiter import Priority
from procorefs.limiter.budget_store import MemoryStore, Step, T
from procorefs.limiter.gate import Gate
from procorefs.sandbox.api.rate_windows import ClientBudget, Reading

UNIX_S = 1_800_000_000.3
HOSTS = 2
PROCESSES = 4  # a host
WORKERS = 3  # tasks that migrate, a process
CALLS = 10_000
INTERACTIVE_EVERY_S = 20.0  # on average, over all processes
PERSON_BURST = 4  # calls at most that one thing a person does needs
STOLEN = 0.1
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of server."""

    windows: Literal["fixed", "rolling"] = "fixed"
    tells: Literal["fewest", "share"] = "fewest"
    hourly: int = 3600
    spike: int = 25
    stranger_starts_s: float = -900.0  # before us: the hour is not ours to begin


@dataclass(slots=True)
class Outcome:
    """What came of a case."""

    case: Case
    throttled: int = 0
    stolen_s: list[float] = field(default_factory=list)
    granted_s: list[float] = field(default_factory=list)
    waits_s: dict[Priority, list[float]] = field(default_factory=lambda: {p: [] for p in Priority})
    hours_s: list[float] = field(default_factory=list)  # when the server's hours began
    ended_s: float = 0.0

    def used(self) -> list[float]:
        """Of what the stranger left, the part that was used, in each full hour."""
        parts = []
        for start_s in self.full_hours_s():
            end_s = start_s + HOUR_S
            stolen = sum(start_s <= at_s < end_s for at_s in self.stolen_s)
            granted = sum(start_s <= at_s < end_s for at_s in self.granted_s)
            parts.append(granted / (self.case.hourly - stolen))
        return parts

    def full_hours_s(self) -> list[float]:
        """Hours in which there was work from beginning to end; rolling windows: each hour from the first call."""
        if self.case.windows == "fixed":
            begun = [s for s in self.hours_s if s >= math.floor(self.granted_s[0])]
        else:
            begun = [self.granted_s[0] + n * HOUR_S for n in range(100)]
        return [s for s in begun if s + HOUR_S <= self.ended_s]

    def percentile_s(self, priority: Priority, percent: float) -> float:
        waits = sorted(self.waits_s[priority])
        return waits[min(len(waits) - 1, int(len(waits) * percent / 100))] if waits else 0.0


class Server:
    """Counts calls as the sandbox does, on the virtual clock."""

    def __init__(self, case: Case, outcome: Outcome) -> None:
        self._case = case
        self._budget = ClientBudget(case.windows)
        self._outcome = outcome
        self._hour_ends_s = 0.0

    def now_s(self) -> float:
        return UNIX_S + trio.current_time()

    def call(self, *, stranger: bool) -> tuple[int, dict[str, str]]:
        now_s, case, outcome = self.now_s(), self._case, self._outcome
        granted = self._budget.take(now_s, case.hourly, case.spike)
        if now_s >= self._hour_ends_s:
            self._hour_ends_s = math.floor(now_s) + HOUR_S
            outcome.hours_s.append(math.floor(now_s) - UNIX_S)
        if granted:
            (outcome.stolen_s if stranger else outcome.granted_s).append(trio.current_time())
        elif not stranger:
            outcome.throttled += 1
        reading = self._reading(now_s)
        return 200 if granted else 429, {
            "date": formatdate(now_s, usegmt=True),
            **{name.lower(): value for name, value in reading.headers().items()},
        }

    def _reading(self, now_s: float) -> Reading:
        case, budget = self._case, self._budget
        if case.tells == "fewest":
            return budget.first_to_run_out(now_s, case.hourly, case.spike)
        both = [budget.first_to_run_out(now_s, case.hourly, 0), budget.first_to_run_out(now_s, 0, case.spike)]
        return min(both, key=lambda reading: reading.remaining / reading.limit)


class DistantStore(MemoryStore):
    """A store that takes a moment to ask, as Redis does."""

    async def change(self, step: Step[T]) -> T:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.001)
        return await super().change(step)


@dataclass(slots=True)
class Simulation:
    """One case with all that takes part in it."""

    case: Case
    calls: int
    dice: random.Random
    outcome: Outcome = field(init=False)
    server: Server = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.outcome = Outcome(self.case)
        self.server = Server(self.case, self.outcome)
        self.left = self.calls

    async def run(self) -> None:
        store = DistantStore()
        gates = [
            Gate(store, unix_time_s=self.server.now_s, jitter=self.dice.random, owner=f"host{h}/{p}")
            for h in range(HOSTS)
            for p in range(PROCESSES)
        ]
        async with trio.open_nursery() as others:
            others.start_soon(self._steal)
            await trio.sleep(-self.case.stranger_starts_s)
            async with trio.open_nursery() as work:
                work.start_soon(self._people, gates, work)
                for gate in gates:
                    for number in range(WORKERS):
                        priority = Priority.WRITING if number else Priority.REFRESH
                        work.start_soon(self._migrate, gate, priority)
            self.outcome.ended_s = trio.current_time()
            others.cancel_scope.cancel()

    async def _steal(self) -> None:
        """A stranger spends a tenth of the hour, now and then two or three calls at once."""
        while True:
            calls = self.dice.choice([1, 1, 1, 2, 3])
            await trio.sleep(self.dice.expovariate(STOLEN * self.case.hourly / HOUR_S / 1.6))
            for _ in range(calls):
                self.server.call(stranger=True)

    async def _migrate(self, gate: Gate, priority: Priority) -> None:
        while self.left > 0:
            await self._call(gate, priority)

    async def _people(self, gates: list[Gate], nursery: trio.Nursery) -> None:
        while self.left > 0:
            await trio.sleep(self.dice.expovariate(1 / INTERACTIVE_EVERY_S))
            gate = self.dice.choice(gates)
            for _ in range(self.dice.randint(1, PERSON_BURST)):
                nursery.start_soon(self._call, gate, Priority.INTERACTIVE)

    async def _call(self, gate: Gate, priority: Priority) -> None:
        asked_s = trio.current_time()
        await gate.acquire(priority)
        self.outcome.waits_s[priority].append(trio.current_time() - asked_s)
        self.left -= 1
        await trio.sleep(self.dice.uniform(0.02, 0.1))
        status, headers = self.server.call(stranger=False)
        if status == 429:
            self.left += 1
        await trio.sleep(self.dice.uniform(0.02, 0.3))
        gate.observe(status, headers)


def simulate(case: Case, calls: int = CALLS, seed: int = 1) -> Outcome:
    """Play one case."""
    simulation = Simulation(case, calls, random.Random(seed))
    trio.run(simulation.run, clock=trio.testing.MockClock(autojump_threshold=0))
    return simulation.outcome


CASES = [Case(windows, tells) for windows in ("fixed", "rolling") for tells in ("fewest", "share")]


def table(calls: int = CALLS, seed: int = 1) -> Iterator[str]:
    """The figures, line by line, a case each."""
    yield f"{HOSTS} hosts x {PROCESSES} processes, {calls:,} calls, {STOLEN:.0%} of the hour taken by another program"
    yield "windows  told    429  used in the worst full hour  waits p99: interactive  writing  hours  took"
    for case in CASES:
        began_s = time.monotonic()
        outcome = simulate(case, calls, seed)
        used = outcome.used()
        yield (
            f"{case.windows:<8} {case.tells:<6} {outcome.throttled:>4}"
            f"  {min(used, default=math.nan):>27.1%}"
            f"  {outcome.percentile_s(Priority.INTERACTIVE, 99):>20.2f} s"
            f"  {outcome.percentile_s(Priority.WRITING, 99):>5.0f} s"
            f"  {outcome.ended_s / HOUR_S:>5.2f}"
            f"  {time.monotonic() - began_s:.1f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    for line in table(chosen.calls, chosen.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
