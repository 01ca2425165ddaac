"""Virtual time for this process: one monotonic clock, and a wall clock over it that can step.

Import this module before any module of the product: functions such as `time.time` are taken as default arguments
there, so they must be replaced first. Processes that simulate do nothing else.
"""

import random
import secrets
import sys
import time

import trio
import trio.testing

EPOCH_S = 1_800_000_000.0
"""Wall time at the begin of each history: far from 0, and a whole second."""


def _nothing_s() -> float:
    return 0.0


BEGIN_S = 1e6
"""What the monotonic clocks say then: as in the daemon, never small."""


class Time:
    """The clocks of one history."""

    def __init__(self) -> None:
        self.clock = trio.testing.MockClock()
        self.clock._real_clock = _nothing_s  # it would ask a real one, at each look
        self.clock.autojump_threshold = 0
        self.clock._virtual_base = BEGIN_S
        clock = self.clock
        clock.current_time = lambda: clock._virtual_base  # type: ignore[method-assign]
        self.step_s = 0.0
        """By so much the computer's wall clock is off; Procore's own never is."""

    def now_s(self) -> float:
        """Monotonic, since the begin of the history."""
        return self.clock._virtual_base - BEGIN_S

    def true_wall_s(self) -> float:
        """Unix seconds on a clock that is never set: Procore's."""
        return EPOCH_S + self.now_s()

    def wall_s(self) -> float:
        """Unix seconds as the computer has them."""
        return self.true_wall_s() + self.step_s


_now: Time | None = None
_randomness = random.Random(0)


def begin(now: Time, seed: int) -> None:
    """Let this process live in these clocks, with random numbers that follow from the seed."""
    global _now
    _now = now
    random.seed(seed)
    _randomness.seed(seed)


def _wall_s() -> float:
    return _now.wall_s() if _now is not None else EPOCH_S


def _wall_ns() -> int:
    return round(_wall_s() * 1e6) * 1000


def _monotonic_s() -> float:
    return BEGIN_S + (_now.now_s() if _now is not None else 0.0)


def _clock_gettime(_clock: int) -> float:
    return _monotonic_s()


def _token_hex(count: int | None = None) -> str:
    return _randomness.randbytes(count or 32).hex()


def _token_bytes(count: int | None = None) -> bytes:
    return _randomness.randbytes(count or 32)


_strftime, _gmtime = time.strftime, time.gmtime


def _broken_down(at_s: float | None = None) -> time.struct_time:
    """For gmtime and localtime: this computer is in Greenwich."""
    return _gmtime(_wall_s() if at_s is None else at_s)


def _text_of(form: str, moment: time.struct_time | None = None) -> str:
    return _strftime(form, _broken_down() if moment is None else moment)


real_s = time.perf_counter
"""The real clock, for measuring the simulation itself."""


def _install() -> None:
    early = sorted(name for name in sys.modules if name.split(".")[0] == "procorefs")
    if early:
        raise ImportError(
            f"{early[0]} was imported before tests.simulation.clock: it has the real clock already"
        )
    time.time = _wall_s
    time.time_ns = _wall_ns
    time.monotonic = _monotonic_s
    time.gmtime = time.localtime = _broken_down  # type: ignore[assignment]
    time.strftime = _text_of  # type: ignore[assignment]
    time.clock_gettime = _clock_gettime
    time.perf_counter = _monotonic_s
    secrets.token_hex = _token_hex  # type: ignore[assignment]
    secrets.token_bytes = _token_bytes  # type: ignore[assignment]


_install()
