"""Plays new seeds on all cores, in processes of their own; prints what fails, shrunk, and goes on."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import count as counted
from itertools import islice

from tests.simulation.clock import real_s
from tests.simulation.shrink import kind_of

BATCH = 50
"""Histories of one process."""

SHRUNK_OF_A_KIND = 2
"""Failures with the same words that are shrunk; further ones are counted, and their first words printed."""

FAILED = re.compile(r"^Seed (\d+), \d+ steps: (.*)$", re.MULTILINE)


def soak(first: int | None, count: int | None, options: list[str]) -> int:
    """How many histories failed; without a count it ends with Ctrl-C."""
    begin = first if first is not None else int.from_bytes(os.urandom(3), "big") * 1000
    print(f"Playing from seed {begin} on.", flush=True)
    soaking = _Soak(options)
    batches = iter(counted(begin, BATCH) if count is None else range(begin, begin + count, BATCH))
    end = None if count is None else begin + count
    with suppress(KeyboardInterrupt):
        soaking.run(batches, end)
    print(soaking.summary())
    return soaking.failed.total()


class _Soak:
    """Some batches under way; what they print is read when they end."""

    def __init__(self, options: list[str]) -> None:
        self._options = options
        self._began_s = real_s()
        self.failed: Counter[str] = Counter()
        self.played = 0

    def run(self, batches: Iterator[int], end: int | None) -> None:
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            running: dict[Future[str], int] = {}
            while True:
                for begin in islice(batches, workers - len(running)):
                    size = BATCH if end is None else min(BATCH, end - begin)
                    running[pool.submit(self._batch, begin, size)] = size
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self.played += running.pop(future)
                    self._read(future.result())

    def _batch(self, begin: int, size: int) -> str:
        return self._output("--seed", str(begin), "--count", str(size), "--no-shrink")

    def _output(self, *words: str) -> str:
        command = [sys.executable, "-m", "tests.simulation", *words, *self._options]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return ended.stdout + ended.stderr

    def _read(self, output: str) -> None:
        if " histories, " not in output:
            print(f"A process of the simulation ended without a result:\n{output}", flush=True)
        for seed, wrong in FAILED.findall(output):
            kind = kind_of(wrong)
            self.failed[kind] += 1
            if self.failed[kind] <= SHRUNK_OF_A_KIND:
                print(self._output("--seed", seed), flush=True)
            else:
                print(f"Seed {seed}: {wrong[:160]}", flush=True)
        print(self.summary(), flush=True)

    def summary(self) -> str:
        """How many, how long, and what failed how often."""
        kinds = "; ".join(f"{number} x {kind.strip()}" for kind, number in self.failed.most_common())
        told = f"{self.played} histories in {real_s() - self._began_s:.0f} s, {self.failed.total()} failed"
        return f"{told}: {kinds}." if kinds else f"{told}."
