"""What the shared call budget is worth: simulated over hours, real processes over short ones, and what a call costs."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from procorefs.limiter import Priority
from procorefs.limiter.file_store import FileStore
from procorefs.limiter.gate import Gate
from scripts import limiter_real_run, limiter_simulation
from scripts.bench.place import Place
from scripts.bench.results import Figure, at_least, at_most

ACQUIRES = 2_000


def budget(place: Place) -> Iterator[Figure]:
    """The rows of the budget; the simulated ones are those of the worst of the kinds of server that Procore may be."""
    yield from _simulated(place)
    yield from _real(place)
    yield _acquire(place.new_folder("budget"))


def _simulated(place: Place) -> Iterator[Figure]:
    outcomes = [
        limiter_simulation.simulate(
            limiter_simulation.Case(3600, hour, hour, tells, known=3600, calls=place.sizes.budget_calls)
        )
        for hour in limiter_simulation.KINDS
        for tells in limiter_simulation.TELLINGS
    ]
    hours = [hour for outcome in outcomes for hour in outcome.hours]

    def figure(what: str) -> str:
        return f"budget, simulated hours: {what}"

    note = f"worst of {len(outcomes)} kinds of server"
    throttled = max(outcome.throttled for outcome in outcomes)
    yield Figure(figure("answers 429"), throttled, "", at_most(0), note=note)
    used = min(hour.used for hour in hours if hour.full) * 100
    yield Figure(figure("used of each full hour"), used, "%", at_least(97, "%"), note=note)
    waits_s = max(hour.waits["interactive"].p99 for hour in hours)
    yield Figure(figure("p99 of what a person waits"), waits_s, "s", at_most(2, "s"), note=note)


def _real(place: Place) -> Iterator[Figure]:
    sizes = place.sizes
    hour_s, hourly = limiter_real_run.HOUR_S, limiter_real_run.HOURLY
    ran = limiter_real_run.run(hour_s, sizes.budget_hours, hourly, limiter_real_run.SPIKE)
    what, note = "budget, 8 real processes", f"{sizes.budget_hours} x {hourly} calls in {hour_s} s"
    yield Figure(f"{what}: answers 429", ran.throttled, "", at_most(0), note=note)
    yield Figure(f"{what}: used of each full hour", min(ran.used()) * 100, "%", at_least(98, "%"), note=note)
    yield Figure(f"{what}: p99 of what a person waits", ran.percentile_s(99), "s", at_most(2, "s"), note=note)


def _acquire(folder: Path) -> Figure:
    async def acquire() -> float:
        store = FileStore(folder / "key.budget")
        gate = Gate(store)
        took_s = []
        for _ in range(ACQUIRES):
            began_s = time.perf_counter()
            await gate.acquire(Priority.INTERACTIVE)
            took_s.append(time.perf_counter() - began_s)
            gate.observe(200, {})
        store.close()
        return statistics.median(took_s)

    return Figure(
        "one acquire, shared by a file", trio.run(acquire) * 1e3, "ms", at_most(0.2, "ms"), note="median"
    )
