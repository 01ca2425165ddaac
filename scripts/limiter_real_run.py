"""Real processes of two hosts, a real Redis and the sandbox over HTTP, with an hour that takes minutes.

Tells what part of each full hour was used beside another program, the answers 429, and how long calls for which
somebody waits had to wait.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import trio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from procorefs.limiter import Priority, answers, open_limiter, policy
from procorefs.limiter.budget_state import State
from procorefs.limiter.file_store import FileStore
from procorefs.limiter.redis_store import RedisStore, parse_address
from procorefs.limiter.tuning import TUNING
from tests.support.redis_server import RedisServer
from tests.support.sandbox import SandboxHandle, running_sandbox

HOSTS, PROCESSES, WORKERS = 2, 4, 2
STOLEN = 0.1
HOUR_S, HOURLY, SPIKE = 120, 1200, 250  # both windows allow ten times the calls a second of a real hour
PERSON_EVERY_S = 40.0  # in each process


class Call(NamedTuple):
    """One call of a process, as it tells it."""

    priority: int
    answered_s: float
    waited_s: float
    status: int


def scale_tuning(hour_s: float) -> None:
    """The pace of this process looks as far ahead, for such an hour, as it does in a real one."""
    names = ("sent_s", "ahead_s", "kept_ahead_s", "at_once_s", "lately_s", "lately_least_s")
    part = hour_s / State().hour_s
    scaled = msgspec.structs.replace(TUNING, **{name: getattr(TUNING, name) * part for name in names})
    for module in (policy, answers):
        vars(module)["TUNING"] = scaled


async def process(url: str, token: str, path: str, redis: str, folder: str, until_s: float) -> None:
    """One process: two tasks that migrate, and now and then somebody who waits."""
    calls: list[Call] = []
    async with open_limiter(Path(folder), "key", redis) as limiter, httpx.AsyncClient(base_url=url) as client:

        async def call(priority: Priority) -> None:
            asked_s = time.time()
            await limiter.acquire(priority)
            waited_s = time.time() - asked_s
            status, headers = 0, httpx.Headers()
            try:
                answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
                status, headers = answer.status_code, answer.headers
            finally:
                limiter.observe(status, headers)
            calls.append(Call(int(priority), time.time(), waited_s, status))

        async def migrate() -> None:
            while time.time() < until_s:
                await call(Priority.WRITING)

        async def person() -> None:
            while time.time() < until_s:
                await trio.sleep(random.expovariate(1 / PERSON_EVERY_S))
                await call(Priority.INTERACTIVE)

        with trio.move_on_at(trio.current_time() + until_s - time.time()):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(person)
                for _ in range(WORKERS):
                    nursery.start_soon(migrate)
    print(json.dumps(calls))


def steal(sandbox: SandboxHandle, hourly: int, hour_s: int, until_s: float, stolen_s: list[float]) -> None:
    """Another program with the same client id; notes when it made a call."""
    while (next_s := time.time() + random.expovariate(STOLEN * hourly / hour_s)) < until_s:
        time.sleep(next_s - time.time())
        sandbox.faults(use_calls=1)
        stolen_s.append(time.time())


def scale(redis: RedisServer, folder: Path, hour_s: int, hourly: int, spike: int) -> None:
    """The budget in Redis counts hours of that length, and those with which hosts go on while it is slow.

    It starts from the limits of such an hour, as it does from the published ones of a real hour: told is neither.
    """

    def step(state: State, _now_s: float) -> None:
        state.hour_s = float(hour_s)
        state.limit, state.spike_limit = hourly, spike

    async def change() -> None:
        store = RedisStore(parse_address(redis.url), "key")
        await store.change(step)
        await store.aclose()

    trio.run(change)
    for number in range(HOSTS):
        host = folder / f"host{number}"
        host.mkdir()
        store = FileStore(host / "key-alone.budget")
        store.change_now(step)
        store.close()


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it."""

    hour_s: int
    hourly: int
    throttled: int
    granted: list[int]
    """In each full hour of the server."""
    stolen: list[int]
    """By another program, in the same hours."""
    waits_s: list[float]
    """Of all calls for which somebody waits, shortest first."""

    def used(self) -> list[float]:
        """Of what the other program left."""
        return [
            granted / (self.hourly - stolen)
            for granted, stolen in zip(self.granted, self.stolen, strict=True)
        ]

    def percentile_s(self, percent: float) -> float:
        waits_s = self.waits_s
        return waits_s[min(len(waits_s) - 1, int(len(waits_s) * percent / 100))] if waits_s else 0.0


def run(hour_s: int, hours: int, hourly: int, spike: int) -> Ran:
    """So many full hours, after a part of one: when ours begin nobody knows how much of it is over."""
    options = ["--hour-seconds", str(hour_s), "--hourly", str(hourly), "--spike", str(spike)]
    with tempfile.TemporaryDirectory() as folder, running_sandbox(*options) as sandbox:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            scale(redis, Path(folder), hour_s, hourly, spike)
            return _measure(sandbox, redis, Path(folder), hour_s, hours, hourly)
        finally:
            redis.stop()


def _measure(
    sandbox: SandboxHandle, redis: RedisServer, folder: Path, hour_s: int, hours: int, hourly: int
) -> Ran:
    token = sandbox.token()
    sandbox.faults(use_calls=1)  # the other program begins the server's hour
    begun_s = float(int(time.time()))
    stolen_s = [begun_s]
    until_s = begun_s + hour_s * (hours + 1)
    command = [sys.executable, __file__, "--process", sandbox.url, token, "/rest/v1.0/me", redis.url]
    steal(sandbox, hourly, hour_s, begun_s + hour_s / 4, stolen_s)
    children = [
        subprocess.Popen(
            [*command, str(folder / f"host{number % HOSTS}"), str(until_s), str(hour_s)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for number in range(HOSTS * PROCESSES)
    ]
    steal(sandbox, hourly, hour_s, until_s, stolen_s)
    outputs = [child.communicate(timeout=60)[0] for child in children]
    calls = [Call(*call) for output in outputs for call in json.loads(output)]
    granted_s = [call.answered_s for call in calls if call.status == 200]
    hours_s = _server_hours(sorted(granted_s + stolen_s), hour_s)[1 : hours + 1]
    return Ran(
        hour_s,
        hourly,
        sum(call.status == 429 for call in calls),
        [sum(start_s <= at_s < start_s + hour_s for at_s in granted_s) for start_s in hours_s],
        [sum(start_s <= at_s < start_s + hour_s for at_s in stolen_s) for start_s in hours_s],
        sorted(call.waited_s for call in calls if call.priority == Priority.INTERACTIVE),
    )


def _server_hours(calls_s: list[float], hour_s: int) -> list[float]:
    """When the server's hours began: with the first call after the end of the one before, on a whole second."""
    hours_s = [float(int(calls_s[0]))]
    for called_s in calls_s:
        if called_s >= hours_s[-1] + hour_s:
            hours_s.append(float(int(called_s)))
    return hours_s


def main() -> None:
    if sys.argv[1:2] == ["--process"]:
        url, token, path, redis, folder, until_s, hour_s = sys.argv[2:]
        scale_tuning(float(hour_s))
        trio.run(process, url, token, path, redis, folder, float(until_s))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hour-seconds", type=int, default=HOUR_S)
    parser.add_argument("--hours", type=int, default=2)
    parser.add_argument("--hourly", type=int, default=HOURLY)
    parser.add_argument("--spike", type=int, default=SPIKE)
    chosen = parser.parse_args()
    ran = run(chosen.hour_seconds, chosen.hours, chosen.hourly, chosen.spike)
    print(f"{HOSTS} hosts x {PROCESSES} processes, hours of {ran.hour_s} s with {ran.hourly} calls")
    print(f"answers 429: {ran.throttled}")
    for granted, stolen, used in zip(ran.granted, ran.stolen, ran.used(), strict=True):
        print(f"a full hour: {granted} calls, {stolen} by another program: {used:.1%} of what that left")
    print(f"calls that somebody waits for: {len(ran.waits_s)}, p99 {ran.percentile_s(99):.2f} s")


if __name__ == "__main__":
    main()
