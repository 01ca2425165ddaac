"""The two rate windows of a client id, fixed or rolling. (procore-api.md, Rate limits)"""

import math
from collections import deque
from typing import Literal, Protocol

import msgspec

HOUR_S = 3600
SPIKE_S = 10
_BOUNDLESS = 10_000_000


class Reading(msgspec.Struct, frozen=True):
    """What the X-Rate-Limit headers say: calls allowed, calls left, Unix second of the reset."""

    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        return {
            "X-Rate-Limit-Limit": str(self.limit),
            "X-Rate-Limit-Remaining": str(self.remaining),
            "X-Rate-Limit-Reset": str(self.reset_s),
        }


class Window(Protocol):
    """Counts calls over a span of time."""

    def take(self, now: float, calls: int = 1) -> None: ...
    def read(self, now: float, limit: int) -> Reading: ...


class FixedWindow:
    """Starts with its first call, on a whole second, and forgets all at its end."""

    def __init__(self, length_s: int) -> None:
        self._length_s = length_s
        self._start_s = 0
        self._used = 0

    def take(self, now: float, calls: int = 1) -> None:
        self._renew(now)
        self._used += calls

    def read(self, now: float, limit: int) -> Reading:
        self._renew(now)
        return Reading(limit, max(limit - self._used, 0), self._start_s + self._length_s)

    def _renew(self, now: float) -> None:
        if now >= self._start_s + self._length_s:
            self._start_s, self._used = int(now), 0


class RollingWindow:
    """Holds the calls of the last `length_s` seconds; its reset is when the oldest of them falls out."""

    def __init__(self, length_s: int) -> None:
        self._length_s = length_s
        self._calls: deque[float] = deque()

    def take(self, now: float, calls: int = 1) -> None:
        self._calls.extend([now] * calls)

    def read(self, now: float, limit: int) -> Reading:
        while self._calls and self._calls[0] <= now - self._length_s:
            self._calls.popleft()
        oldest = self._calls[0] if self._calls else now
        return Reading(limit, max(limit - len(self._calls), 0), math.ceil(oldest + self._length_s))


class ClientBudget:
    """Both windows of one client id; a limit of 0 is none."""

    def __init__(self, kind: Literal["fixed", "rolling"], hour_s: int = HOUR_S) -> None:
        make = FixedWindow if kind == "fixed" else RollingWindow
        self._hourly: Window = make(hour_s)
        self._spike: Window = make(SPIKE_S)

    def take(self, now: float, hourly_calls: int, spike_calls: int) -> bool:
        """Count one call; False: a window is used up, and nothing is counted."""
        if self.first_to_run_out(now, hourly_calls, spike_calls).remaining == 0:
            return False
        self.use(now, 1)
        return True

    def use(self, now: float, calls: int) -> None:
        """Count calls without asking: other programs with the same client id."""
        self._hourly.take(now, calls)
        self._spike.take(now, calls)

    def first_to_run_out(self, now: float, hourly_calls: int, spike_calls: int) -> Reading:
        """The window with fewer calls left; of two empty ones that which stays empty longer."""
        readings = [
            window.read(now, limit)
            for window, limit in ((self._hourly, hourly_calls), (self._spike, spike_calls))
            if limit
        ]
        if not readings:
            return Reading(_BOUNDLESS, _BOUNDLESS, int(now) + HOUR_S)
        return min(readings, key=lambda reading: (reading.remaining, -reading.reset_s))


class RateLimits:
    """The budgets of all client ids, with limits that may change at any time."""

    def __init__(self, hourly_calls: int, spike_calls: int, hour_s: int = HOUR_S) -> None:
        self._hour_s = hour_s
        self.hourly_calls = hourly_calls
        self.spike_calls = spike_calls
        self._budgets: dict[tuple[str, str], ClientBudget] = {}

    def budget(self, client_id: str, kind: Literal["fixed", "rolling"]) -> ClientBudget:
        key = (client_id, kind)
        if key not in self._budgets:
            self._budgets[key] = ClientBudget(kind, self._hour_s)
        return self._budgets[key]

    def take(self, client_id: str, kind: Literal["fixed", "rolling"], now: float) -> tuple[bool, Reading]:
        """(may the call go on, what the headers say after it)."""
        budget = self.budget(client_id, kind)
        granted = budget.take(now, self.hourly_calls, self.spike_calls)
        return granted, budget.first_to_run_out(now, self.hourly_calls, self.spike_calls)

    def forget(self) -> None:
        """Begin all windows anew."""
        self._budgets.clear()
