"""Plays histories from seeds or from a file; what fails is made as short as may be and printed."""

import argparse
import logging
import sys
from pathlib import Path

from tests.simulation.clock import real_s
from tests.simulation.generator import FEATURES, Generator
from tests.simulation.shrink import shrink
from tests.simulation.soak import soak
from tests.simulation.steps import History, Setting, read_history, write_history
from tests.simulation.world import play


def main() -> None:
    """Exits with 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; 1, or with --soak a new one")
    parser.add_argument("--count", type=int, help="how many histories; 1, or with --soak no end")
    parser.add_argument("--soak", action="store_true", help="play new seeds on all cores until stopped")
    parser.add_argument(
        "--without", default="", help=f"features to leave out, with commas: {', '.join(FEATURES)}; or all"
    )
    parser.add_argument("--replay", type=Path, help="play the history in this file")
    parser.add_argument("--save", type=Path, help="write the shrunk history of a failure there")
    parser.add_argument("--no-shrink", action="store_true", help="print failures as they are")
    parser.add_argument(
        "--coverage",
        action="store_true",
        help="say which lines of vfs, journal, upload and tree were not reached",
    )
    parser.add_argument("--verbose", action="store_true", help="print the steps with their times")
    arguments = parser.parse_args()
    if arguments.verbose or arguments.replay:
        logging.getLogger("procorefs").setLevel(logging.INFO)
        logging.basicConfig(format="                log: %(message)s", stream=sys.stdout)
    if arguments.replay is not None:
        wrong = play(read_history(arguments.replay), print)
        print(wrong or "Nothing is wrong.")
        sys.exit(1 if wrong else 0)
    if arguments.soak:
        sys.exit(1 if soak(arguments.seed, arguments.count, [f"--without={arguments.without}"]) else 0)
    sys.exit(1 if _play_seeds(arguments) else 0)


def _play_seeds(arguments: argparse.Namespace) -> int:
    left_out = set(FEATURES if arguments.without == "all" else arguments.without.split(","))
    features = [name for name in FEATURES if name not in left_out]
    began_s, failed = real_s(), 0
    first, count = arguments.seed or 1, arguments.count or 1
    for seed in range(first, first + count):
        history = Generator(seed, features).history()
        wrong = play(history, print if arguments.verbose else _silent)
        if wrong:
            failed += 1
            _tell(history, wrong, arguments)
    print(f"{count} histories, {failed} failed, {real_s() - began_s:.1f} s.")
    return failed


def _tell(history: History, wrong: str, arguments: argparse.Namespace) -> None:
    print(f"Seed {history.seed}, {len(history.steps)} steps: {wrong}", flush=True)
    if arguments.no_shrink:
        return
    shorter, wrong = shrink(history, wrong, play)
    print(f"Shrunk to {len(shorter.steps)} steps: {wrong}")
    if shorter.setting != Setting():
        print(f"  {shorter.setting}")
    for step in shorter.steps:
        print(f"  {step}", flush=True)
    if arguments.save is not None:
        write_history(arguments.save, shorter)


def _silent(_line: str) -> None:
    """Nobody wants to read it."""
