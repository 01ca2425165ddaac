"""However the tests are started, the programs that they start have the default dispositions of signals."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def ignored() -> set[int]:
    """Signals that a program ignores when a test starts it; the C library keeps those above 31 to itself."""
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return {number for number in range(1, 32) if int(mask, 16) >> (number - 1) & 1}


def test_a_program_ignores_no_signal() -> None:
    assert ignored() == set()


def test_nor_when_the_tests_were_started_with_signals_ignored() -> None:
    here = f"{Path(__file__).relative_to(ROOT)}::{test_a_program_ignores_no_signal.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", here]
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT QUIT HUP TERM; exec "$@"', "sh", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
