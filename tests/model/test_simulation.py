"""A fixed set of histories, played in a process of their own: real clocks and real threads are replaced there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_S = 300
HISTORIES = Path(__file__).parent / "histories"
"""Shrunk ones that failed once, named by what was wrong in them."""


def test_a_fixed_set_of_histories() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "1", "--count", "120", "--no-shrink"]
    played = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=MOST_S, check=False)
    assert played.returncode == 0, played.stdout + played.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in HISTORIES.iterdir()))
def test_a_history_that_failed_once(name: str) -> None:
    command = [sys.executable, "-m", "tests.simulation", "--replay", str(HISTORIES / f"{name}.jsonl")]
    played = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=MOST_S, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
