"""Real processes of two hosts, a real Redis and the sandbox over HTTP, with an hour that takes less than a minute.

Prints what the server granted in each of its hours beside what it allowed, the answers 429, and how long calls for
which somebody waits had to wait.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import trio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from procorefs.limiter import Priority, open_limiter
from procorefs.limiter.redis_store import RedisStore
from procorefs.limiter.redis_wire import parse_address
from procorefs.limiter.state import State
from tests.redis_server import RedisServer
from tests.sandbox import SandboxHandle, running_sandbox

HOSTS, PROCESSES, WORKERS = 2, 4, 2
STOLEN = 0.1
PERSON_EVERY_S = 40.0  # in each process


async def process(url: str, token: str, path: str, redis: str, folder: str, until_s: float) -> None:
    """One process: two tasks that migrate, and now and then somebody who waits."""
    calls: list[tuple[int, float, float, int]] = []
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
            calls.append((int(priority), time.time(), waited_s, status))

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


def steal(sandbox: SandboxHandle, hourly: int, hour_s: int, until_s: float) -> int:
    """Another program with the same client id; returns how many calls it made."""
    stolen = 0
    while time.time() < until_s:
        time.sleep(random.expovariate(STOLEN * hourly / hour_s))
        sandbox.faults(use_calls=1)
        stolen += 1
    return stolen


def shorten(redis: RedisServer, hour_s: int) -> None:
    """The budget in Redis counts hours of that length."""

    def step(state: State, _now_s: float) -> None:
        state.hourly.length_s = float(hour_s)

    async def change() -> None:
        store = RedisStore(parse_address(redis.url), "key")
        await store.change(step)
        await store.aclose()

    trio.run(change)


def run(hour_s: int, hours: int, hourly: int, spike: int) -> None:
    options = ["--hour-seconds", str(hour_s), "--hourly", str(hourly), "--spike", str(spike)]
    with tempfile.TemporaryDirectory() as folder, running_sandbox(*options) as sandbox:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            shorten(redis, hour_s)
            _measure(sandbox, redis, Path(folder), hour_s, hours, hourly)
        finally:
            redis.stop()


def _measure(
    sandbox: SandboxHandle, redis: RedisServer, folder: Path, hour_s: int, hours: int, hourly: int
) -> None:
    until_s = time.time() + hour_s * hours + 5
    token = sandbox.token()
    command = [sys.executable, __file__, "--process", sandbox.url, token, "/rest/v1.0/me", redis.url]
    children = [
        subprocess.Popen(
            [*command, str(folder / f"host{number % HOSTS}"), str(until_s)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for number in range(HOSTS * PROCESSES)
    ]
    stolen = steal(sandbox, hourly, hour_s, until_s)
    outputs = [child.communicate(timeout=60)[0] for child in children]
    calls = sorted((call for output in outputs for call in json.loads(output)), key=lambda call: call[1])
    waits = sorted(call[2] for call in calls if call[0] == Priority.INTERACTIVE)
    begun_s = calls[0][1]
    granted = [
        sum(call[3] == 200 and begun_s + n * hour_s <= call[1] < begun_s + (n + 1) * hour_s for call in calls)
        for n in range(hours)
    ]
    print(
        f"{HOSTS} hosts x {PROCESSES} processes, hours of {hour_s} s with {hourly} calls, {stolen} taken by others"
    )
    print(f"answers 429: {sum(call[3] == 429 for call in calls)}")
    print(f"calls in each hour: {granted}; together {sum(granted)} of {hourly * hours - stolen}")
    print(f"calls that somebody waits for: {len(waits)}, p99 {waits[int(len(waits) * 0.99)]:.2f} s")


def main() -> None:
    if sys.argv[1:2] == ["--process"]:
        url, token, path, redis, folder, until_s = sys.argv[2:]
        trio.run(process, url, token, path, redis, folder, float(until_s))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hour-seconds", type=int, default=60)
    parser.add_argument("--hours", type=int, default=3)
    parser.add_argument("--hourly", type=int, default=120)
    parser.add_argument("--spike", type=int, default=25)
    chosen = parser.parse_args()
    run(chosen.hour_seconds, chosen.hours, chosen.hourly, chosen.spike)


if __name__ == "__main__":
    main()
