"""What every test shares: async tests run on trio, and the fixtures of the sandbox and of mounts."""

import os
import signal

from hypothesis import HealthCheck, settings

from tests.support.illegal_steps import raise_illegal_steps

pytest_plugins = [
    "tests.support.connections",
    "tests.support.sandbox",
    "tests.support.mounting",
    "tests.support.writing",
]

IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
"""subprocess gives these back to the programs that it starts."""


def _start_programs_with_default_signals() -> None:
    """Ignored signals stay ignored over exec (nohup, `make test &`), caught ones do not: so catch them and do nothing.

    The programs that tests start then end by Ctrl-C as everywhere, and the test run itself goes on ignoring it.
    """
    for number in signal.valid_signals() - IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)


_start_programs_with_default_signals()
raise_illegal_steps()

# How fast a machine is at the moment is no property of an example.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI the same examples each time: what a person's run finds anew becomes a named test, not a surprise for others.
settings.register_profile("ci", settings.get_profile("any"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "any")
