"""Programs that a test starts, and their environment."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

COMMAND_TIMEOUT_S = 120.0 * float(os.environ.get("TEST_PATIENCE", "1"))

_OF_THE_LOADER = ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PYTHONMALLOC")
"""An extension that is built for AddressSanitizer cannot be loaded without them (scripts/asan)."""


def bare_environment() -> dict[str, str]:
    """PATH, and what the native extension needs to be loaded."""
    return {name: os.environ[name] for name in ("PATH", *_OF_THE_LOADER) if name in os.environ}


def environment_of_others() -> dict[str, str]:
    """For programs of others: with AddressSanitizer they would end at errors of their own, and be slow."""
    return {name: text for name, text in os.environ.items() if name not in _OF_THE_LOADER}


def run(
    *command: str | Path, status: int = 0, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """A program of others that must end with that status; returns what it printed."""
    answer = subprocess.run(
        [os.fspath(word) for word in command],
        cwd=cwd,
        env=environment_of_others() | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert answer.returncode == status, (
        f"{command[0]}: {answer.returncode}\n{answer.stderr}{answer.stdout[-1000:]}"
    )
    return answer.stdout
