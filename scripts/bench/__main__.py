"""Measures what the project promises and prints it as a table; `make bench` runs it.

Everything is made in one temporary directory, sandboxes, mounts and rclone's mount among it, and taken away at the end,
after Ctrl-C too.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from scripts.bench import budget, busy, calls, migrating, scale, speed, writing
from scripts.bench.embedded import BenchFailed
from scripts.bench.machine import machine_facts
from scripts.bench.place import QUICK, Place, Sizes
from scripts.bench.results import Figure, as_json, missed_goals, show
from scripts.bench.work import Incomplete

BENCHMARKS: dict[str, Callable[[Place], Iterator[Figure]]] = {
    "busy": busy.busy,
    "calls": calls.calls,
    "memory": scale.memory,
    "million": scale.million,
    "walk": speed.walk,
    "open": speed.open_files,
    "read": speed.read_cached,
    "uncached": speed.read_uncached,
    "write": writing.write,
    "migrate": migrating.migrate,
    "upload": migrating.upload,
    "check": migrating.check,
    "waiting": migrating.waiting,
    "budget": budget.budget,
}


def main() -> int:
    """0 also when goals were missed, which it says; 2 when something could not be measured, 130 after Ctrl-C."""
    arguments = parse_arguments()
    figures: list[Figure] = []
    status = 0
    with ended_by_signals():
        facts = machine_facts()
        try:
            measure(arguments.only or list(BENCHMARKS), QUICK if arguments.quick else Sizes(), figures)
        except KeyboardInterrupt:
            say("interrupted; what was measured before:")
            status = 130
        except (BenchFailed, Incomplete, OSError, subprocess.SubprocessError) as error:
            say(f"cannot go on: {error}")
            status = 2
    show(facts, figures)
    if arguments.json is not None:
        arguments.json.write_text(as_json(facts, figures))
    say(missed_goals(figures))
    return status


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure ProcoreFS, and rclone mount beside it.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON too")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="only this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything works")
    return parser.parse_args()


def measure(names: list[str], sizes: Sizes, figures: list[Figure]) -> None:
    """Adds to `figures` as it goes, so that those measured before a failure are shown."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(say, "cleaning up")
        place = Place(sizes, stack)
        for name in names:
            say(f"{time.monotonic() - began:4.0f} s  {name}")
            for figure in BENCHMARKS[name](place):
                figures.append(figure)
                say("        " + "  ".join(cell for cell in figure.cells() if cell))


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """A kill or a closed terminal cleans up like Ctrl-C; a second one does not stop the cleaning."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
