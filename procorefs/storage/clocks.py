"""The clocks, each for one purpose; no other module reads a clock.

| clock    | moves                                        | for                                                    |
|----------|----------------------------------------------|--------------------------------------------------------|
| `boot_s` | evenly, also while the machine is suspended  | intervals within a run; trio's clock in the daemon     |
| `unix_s` | as `boot_s`, from the wall time at the start | times that the journal and the tree keep over restarts |
| `wall_s` | also backwards: people and NTP set it        | what people and other programs see                     |
| `file_ns`| as `wall_s`                                  | mtime, ctime and atime of files, set by us or by touch |

A step of the wall clock therefore changes no interval within a run. After a restart a kept time may lie in the future:
`past_s` moves it to the present, so that nothing waits longer than it would from now on. Procore's own clock is another
one: its answers tell it (`Limiter.server_unix_s`).

A simulation replaces `time` in this module.
"""

import time

import trio

_TRIO_OFFSET_S = 1e6
"""Trio's times are never small: 0 is long ago, also in a daemon that starts with the machine."""


def boot_s() -> float:
    """Seconds since the machine booted, suspended time included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_s() -> float:
    """Unix time as the machine has it now."""
    return time.time()


def file_ns() -> int:
    """The time that a file gets now. The bridge takes the same clock for UTIME_NOW: the kernel's own one is coarser."""
    return time.time_ns()


_ahead_s = wall_s() - boot_s()  # of `boot_s`, since the run began


def begin_run() -> None:
    """Take the wall time of this moment for the beginning of the run."""
    global _ahead_s
    _ahead_s = wall_s() - boot_s()


def unix_s() -> float:
    """Unix time of this run: intervals between two of them are right, whatever the wall clock did meanwhile."""
    return boot_s() + _ahead_s


def age_s(at_s: float) -> float:
    """Seconds since a time of `unix_s`; never negative."""
    return max(unix_s() - at_s, 0.0)


def past_s(at_s: float) -> float:
    """A time of `unix_s` that an earlier run kept, as this run takes it: not in the future."""
    return min(at_s, unix_s())


def shown_s(at_s: float) -> float:
    """A time of `unix_s` for people: by the wall clock as it is set now."""
    return at_s + (wall_s() - unix_s())


class BootClock(trio.abc.Clock):
    """Trio's clock in the daemon. Trio's own one stands while the machine is suspended.

    A sleeper may wake late by what was left of its wait when the machine was suspended, never early.
    """

    def start_clock(self) -> None:
        """It runs always."""

    def current_time(self) -> float:
        return boot_s() + _TRIO_OFFSET_S

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()
