"""Reads the clocks, each for one purpose; no other module reads a clock.

| clock    | moves                                        | for                                                    |
|----------|----------------------------------------------|--------------------------------------------------------|
| `boot_s` | evenly, also while the machine is suspended  | intervals within a run; trio's clock in the daemon     |
| `unix_s` | as `boot_s`, from the wall time at the start | times that the journal and the tree keep over restarts |
| `wall_s` | also backwards: people and NTP set it        | what people and other programs see                     |
| `file_ns`| as `wall_s`                                  | mtime, ctime and atime of files, set by us or by touch |

So a step of the wall clock changes no interval within a run. After a restart a stored time may be in the future:
`past_s` moves it to the present, so that nothing waits longer than from now on. Procore's clock is separate
(`Limiter.server_unix_s`, from the `Date` header of its answers).

The simulation replaces `time` in this module.
"""

import time

import trio

_TRIO_OFFSET_S = 1e6
"""Makes trio's times large: 0 means long ago, also in a daemon that starts with the machine."""


def boot_s() -> float:
    """Seconds since the machine booted, suspended time included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_s() -> float:
    """Unix time by the wall clock."""
    return time.time()


def file_ns() -> int:
    """The present time for a file. The bridge uses the same clock for UTIME_NOW: the kernel's file clock is coarser."""
    return time.time_ns()


_ahead_s = wall_s() - boot_s()
"""Wall time minus `boot_s` at the start of the run."""


def begin_run() -> None:
    """Start the run at the present wall time."""
    global _ahead_s
    _ahead_s = wall_s() - boot_s()


def unix_s() -> float:
    """Unix time of this run; a step of the wall clock does not change differences between two of these times."""
    return boot_s() + _ahead_s


def age_s(at_s: float) -> float:
    """Seconds since a time of `unix_s`; never negative."""
    return max(unix_s() - at_s, 0.0)


def past_s(at_s: float) -> float:
    """A time of `unix_s` that an earlier run stored, moved to the present if it is in the future."""
    return min(at_s, unix_s())


def shown_s(at_s: float) -> float:
    """A time of `unix_s` for people, by the present wall clock."""
    return at_s + (wall_s() - unix_s())


class BootClock(trio.abc.Clock):
    """Trio's clock in the daemon; unlike trio's own clock it counts while the machine is suspended.

    After a suspend a sleeping task may wake up to the rest of its wait too late, and never too early.
    """

    def start_clock(self) -> None:
        """The clock always runs."""

    def current_time(self) -> float:
        return boot_s() + _TRIO_OFFSET_S

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()
