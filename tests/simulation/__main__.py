"""Plays histories: `python -m tests.simulation [--seed N] [--count N]`."""

import os
import sys

if os.environ.get("PYTHONHASHSEED") != "0":
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])

import tests.simulation.clock
import tests.simulation.scheduler  # noqa: F401 - the same
from tests.simulation.command import main

main()
