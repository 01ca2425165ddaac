"""When a failed request is worth another try, and how long to wait before it. Pure; times are passed in."""

from collections.abc import Callable

from procorefs.procore.errors import ProcoreError, RateLimited, Silent, Unanswered

TRIES = 5
FIRST_PAUSE_S = 0.3
LONGEST_PAUSE_S = 8.0


class RetryPolicy:
    """The tries of one request that may be repeated: at most `TRIES`, and none after `patience_s`.

    Waiting at the limiter does not count: it ends when the server said it would. A silent server has used up the
    time already, so silence is not tried again; nor is a change that may have been done. `jitter` gives a number
    in [0, 1).
    """

    def __init__(self, patience_s: float, now_s: float, jitter: Callable[[], float]) -> None:
        self._ends_s = now_s + patience_s
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

    def extend(self, seconds: float) -> None:
        """Time that was spent waiting for leave to send."""
        self._ends_s += seconds
