"""Plays histories: `python -m tests.simulation [--seed N] [--count N]`; more with `--help`.

Everything here happens in one order: the hash seed, measuring of coverage, the clocks, and only then the product.
"""

import os
import sys
from contextlib import nullcontext

if os.environ.get("PYTHONHASHSEED") != "0":
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])

from tests.simulation.covered import measured

with measured() if "--coverage" in sys.argv else nullcontext():
    import tests.simulation.clock
    import tests.simulation.scheduler  # noqa: F401 - before the product as well
    from tests.simulation.command import main

    main()
