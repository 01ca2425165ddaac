"""The arithmetic of the two windows: when may the next call be sent? Pure: every time is passed in.

Facts come from the headers of the answers (procore-api.md, Rate limits); the constants are only what is
assumed before the first. Times are seconds on the caller's monotonic clock; Unix times are converted on the
way in.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from procorefs.limiter.budget import Priority

HOURLY_LIMIT = 3600
HOURLY_S = 3600.0
SPIKE_LIMIT = 25
SPIKE_S = 10.0
KEPT_OF_SPIKE = 2  # calls of a spike window that only INTERACTIVE may take
KEPT_OF_HOUR = 0.1  # share of the hour that only INTERACTIVE may take, shrinking to nothing towards Reset
BURST_SHARE = 0.5  # up to this share of the spike limit goes at once, what follows is spread over the window
RESET_MARGIN_S = 1.0  # Reset has whole seconds and may be rounded down
HEADROOM = 8  # calls beyond those answered that an unknown spike limit is trusted to take
CLOCK_TOLERANCE_S = 2.0  # a server's Date that differs by less is taken as the same clock
LONGEST_PAUSE_S = 3700.0  # nothing the server names makes us wait longer than a window
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0


class Window:
    """What is known about one window.

    `remaining` is what the server last said, less what was sent since; it is refilled when `reset_at_s` has
    passed. `reset_at_s` is None while no call has been counted in a new window.
    """

    def __init__(self, limit: int, length_s: float) -> None:
        self.limit = limit
        self.length_s = length_s
        self.remaining = limit
        self.reset_at_s: float | None = None

    def roll(self, now_s: float) -> None:
        """Start anew when Reset has passed."""
        if self.reset_at_s is not None and now_s >= self.reset_at_s:
            self.remaining = self.limit
            self.reset_at_s = None

    def take(self, now_s: float) -> None:
        if self.reset_at_s is None:
            self.reset_at_s = now_s + self.length_s
        self.remaining -= 1

    def learn(self, limit: int, remaining: int, reset_at_s: float, in_flight: int) -> None:
        """Believe an answer; calls in flight may not be in its count yet, so they are taken off again.

        Answers overtake each other: while others are under way, only a lower count is news.
        """
        known = remaining - in_flight
        same = self.reset_at_s is not None and abs(reset_at_s - self.reset_at_s) < 1.5
        if same and in_flight and limit == self.limit:
            known = min(known, self.remaining)
        self.limit, self.remaining, self.reset_at_s = limit, known, reset_at_s


class Policy:
    """Both windows and the pause, for one budget. `jitter` gives a number in [0, 1)."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.hourly = Window(HOURLY_LIMIT, HOURLY_S)
        self.spike = Window(SPIKE_LIMIT, SPIKE_S)
        self.paused_until_s = 0.0
        self._jitter = jitter
        self._in_flight = 0
        # When the calls of the last SPIKE_S were answered: keeps to the limit also where windows slide.
        self._recent: deque[float] = deque()
        self._last_spread_s = -math.inf
        self._throttled_in_a_row = 0
        self._limits_told = False  # some answer named a limit, or 429 proved that there is one
        self._hourly_told = False
        self._spike_told = False
        self._unlimited = False  # answers come without limits: only pauses hold

    def wait_s(self, priority: Priority, now_s: float) -> float:
        """Seconds until a call of this class may be sent: 0 means now.

        While calls are in flight this can be infinite: their answers decide, ask again when one came.
        """
        self._forget(now_s)
        pause_s = self.paused_until_s - now_s
        if self._unlimited:
            return max(0.0, pause_s)
        return max(0.0, pause_s, self._spike_wait_s(priority, now_s), self._hourly_wait_s(priority, now_s))

    def take(self, priority: Priority, now_s: float) -> None:
        """Count a call that is being sent. Only after `wait_s` was 0 at the same moment."""
        self._in_flight += 1
        self.hourly.take(now_s)
        self.spike.take(now_s)
        if priority is not Priority.INTERACTIVE:
            self._last_spread_s = now_s

    def observe(self, status: int, headers: Mapping[str, str], now_s: float, unix_now_s: float) -> None:
        """Learn from one answer; status 0 means that none came (Procore may have counted the call)."""
        self._in_flight = max(0, self._in_flight - 1)
        self._recent.append(now_s)
        if status == 0:
            return
        server_ahead_s = _server_ahead_s(headers, unix_now_s)
        to_monotonic_s = now_s - unix_now_s - server_ahead_s
        reported = self._learn_window(headers, now_s, to_monotonic_s)
        self._limits_told = self._limits_told or reported is not None or status == 429
        self._unlimited = not self._limits_told and (self._unlimited or 200 <= status < 300)
        if status == 429:
            self._pause_for_429(headers, reported, now_s, unix_now_s)
            return
        self._throttled_in_a_row = 0
        if status == 503:
            self._pause(_retry_after_s(headers, unix_now_s), now_s)

    def _forget(self, now_s: float) -> None:
        self.hourly.roll(now_s)
        self.spike.roll(now_s)
        while self._recent and self._recent[0] <= now_s - SPIKE_S:
            self._recent.popleft()

    def _spike_wait_s(self, priority: Priority, now_s: float) -> float:
        limit = self.spike.limit
        kept = 0 if priority is Priority.INTERACTIVE else min(KEPT_OF_SPIKE, limit - 1)
        used = self._in_flight + len(self._recent)
        wait_s = 0.0
        if used >= limit - kept:
            excess = used - (limit - kept)  # as many of the recent calls and one more must have aged
            wait_s = self._recent[excess] + SPIKE_S - now_s if excess < len(self._recent) else math.inf
        if self.spike.remaining <= kept:
            wait_s = max(wait_s, (self.spike.reset_at_s or now_s) - now_s)
        spread = self._spike_told and priority is not Priority.INTERACTIVE
        if spread and used >= limit * BURST_SHARE:
            wait_s = max(wait_s, self._last_spread_s + SPIKE_S / limit - now_s)
        return wait_s

    def _hourly_wait_s(self, priority: Priority, now_s: float) -> float:
        window = self.hourly
        if window.reset_at_s is None:
            return 0.0
        left_s = window.reset_at_s - now_s
        if window.remaining <= 0:
            return left_s
        if priority is Priority.INTERACTIVE:
            return 0.0
        # Kept now: limit * KEPT_OF_HOUR * left_s / HOURLY_S. Wait until that has shrunk below what remains.
        free_when_left_s = window.remaining * HOURLY_S / (window.limit * KEPT_OF_HOUR)
        return left_s - free_when_left_s

    def _learn_window(self, headers: Mapping[str, str], now_s: float, to_monotonic_s: float) -> Window | None:
        limit = _whole(headers.get("x-rate-limit-limit"))
        remaining = _whole(headers.get("x-rate-limit-remaining"))
        reset = _number(headers.get("x-rate-limit-reset"))
        if limit is None or remaining is None or reset is None or limit < 1:
            return None
        left_s = min(max(reset + to_monotonic_s - now_s, 0.0), LONGEST_PAUSE_S)
        window = self._window_meant(limit, left_s, now_s)
        window.learn(limit, min(remaining, limit), now_s + left_s + RESET_MARGIN_S, self._in_flight)
        self._learn_other(window)
        return window

    def _learn_other(self, window: Window) -> None:
        """The window that was not reported would run out later: it has room, too."""
        if window is self.spike:
            self._spike_told = True
            self.hourly.remaining = max(self.hourly.remaining, window.remaining)
        elif not self._spike_told:
            used = self._in_flight + len(self._recent)
            self.spike.limit = max(self.spike.limit, used + HEADROOM)
            self.spike.remaining = max(self.spike.remaining, HEADROOM)

    def _window_meant(self, limit: int, left_s: float, now_s: float) -> Window:
        """Headers do not name the window: the time left tells, and near the hour's end its limit and Reset."""
        hour = self.hourly
        if left_s > SPIKE_S + CLOCK_TOLERANCE_S:
            self._hourly_told = True
            return hour
        if not self._hourly_told:
            return hour if limit == hour.limit else self.spike
        known_left_s = (hour.reset_at_s or math.inf) - RESET_MARGIN_S - now_s
        hour_ends = limit == hour.limit and abs(known_left_s - left_s) < CLOCK_TOLERANCE_S
        return hour if hour_ends else self.spike

    def _pause_for_429(
        self, headers: Mapping[str, str], reported: Window | None, now_s: float, unix_now_s: float
    ) -> None:
        backoff_s = min(FIRST_BACKOFF_S * 2**self._throttled_in_a_row, LONGEST_BACKOFF_S)
        self._throttled_in_a_row = min(self._throttled_in_a_row + 1, 16)
        named_s = _retry_after_s(headers, unix_now_s)
        if named_s is None and reported is not None and reported.reset_at_s is not None:
            named_s = reported.reset_at_s - now_s
        self._pause(max(named_s or 0.0, backoff_s), now_s)

    def _pause(self, pause_s: float | None, now_s: float) -> None:
        if pause_s is None:
            return
        jitter_s = self._jitter() * min(1.0 + pause_s / 10, 5.0)
        self.paused_until_s = max(self.paused_until_s, now_s + min(pause_s, LONGEST_PAUSE_S) + jitter_s)


def _server_ahead_s(headers: Mapping[str, str], unix_now_s: float) -> float:
    """How far the server's clock is ahead of ours, by its Date; 0 when they agree or it does not say."""
    try:
        ahead_s = parsedate_to_datetime(headers["date"]).timestamp() - unix_now_s
    except (KeyError, ValueError, TypeError, OverflowError):
        return 0.0
    return ahead_s if abs(ahead_s) > CLOCK_TOLERANCE_S else 0.0


def _retry_after_s(headers: Mapping[str, str], unix_now_s: float) -> float | None:
    """Retry-After, in seconds or as a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return max(seconds, 0.0)
    try:
        until_s = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(until_s - unix_now_s - _server_ahead_s(headers, unix_now_s), 0.0)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: str | None) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number >= 0 else None
