"""Decides whether a failed request is tried again, and how long to wait before that. Pure; times are passed in."""

from collections.abc import Callable

from procorefs.procore.errors import ProcoreError, RateLimited, Silent, Unanswered

TRIES = 5
FIRST_PAUSE_S = 0.3
LONGEST_PAUSE_S = 8.0
"""Pauses double from the first to the longest: five tries take some five seconds, within a request's half minute."""

LEAST_SILENCE_S = 5.0
"""A try that begins late gets this much for its answer."""


class RetryPolicy:
    """The tries of one request that may be repeated: at most `TRIES`, and none after `retry_for_s`.

    Waiting for the limiter does not count: it ends when the server said so. A silent server has used up the time
    already, so silence is not tried again; nor is a change that may have been done. `jitter` returns a number in
    [0, 1).
    """

    def __init__(self, retry_for_s: float, now_s: float, jitter: Callable[[], float]) -> None:
        self._ends_s = now_s + retry_for_s
        self._jitter = jitter
        self._failures = 0

    def pause_s(self, error: ProcoreError, now_s: float) -> float | None:
        """Seconds to wait before the next try; None: give up and raise the error."""
        self._failures += 1
        if not error.passing or isinstance(error, Silent | Unanswered) or self._failures >= TRIES:
            return None
        if isinstance(error, RateLimited):
            return 0.0  # the limiter knows until when
        pause_s = min(FIRST_PAUSE_S * 2 ** (self._failures - 1), LONGEST_PAUSE_S) * (0.5 + self._jitter())
        return pause_s if now_s + pause_s < self._ends_s else None

    def silence_s(self, most_s: float, now_s: float) -> float:
        """How long the next try of a read that somebody waits for may be silent: the tries share the time."""
        return most_s if not self._failures else min(most_s, max(self._ends_s - now_s, LEAST_SILENCE_S))

    def extend(self, seconds: float) -> None:
        """Do not count time that was spent waiting for the limiter."""
        self._ends_s += seconds
