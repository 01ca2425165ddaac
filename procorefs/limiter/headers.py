"""What an answer says of the budget, as numbers that do not depend on anybody's clock.

procore-api.md, Rate limits: three headers for the window that would run out first, and Retry-After.
"""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

LARGEST = 10**9  # a larger count is the same as this
STALE_S = -2.0  # a Reset further back speaks of a window that is over
LONGEST_S = 3700.0  # nothing the server names makes us wait longer than a window


class Reading(msgspec.Struct, frozen=True):
    """One window as an answer told it."""

    limit: int
    remaining: int
    reset_in_s: float


class Report(msgspec.Struct, frozen=True):
    """One answer; status 0: none came, and Procore may have counted the call."""

    status: int
    reading: Reading | None = None
    retry_after_s: float | None = None

    def aged(self, seconds: float) -> "Report":
        """The same, told so much later."""
        if seconds <= 0:
            return self
        reading, retry_after_s = self.reading, self.retry_after_s
        if reading is not None:
            reading = msgspec.structs.replace(reading, reset_in_s=reading.reset_in_s - seconds)
        if retry_after_s is not None:
            retry_after_s = max(0.0, retry_after_s - seconds)
        return Report(self.status, reading, retry_after_s)


class ServerClock:
    """The server's Unix time, from the Date of its answers.

    A Date has whole seconds and was written between sending and answer: each bounds the difference of the
    clocks, and all together name it closer than one.
    """

    def __init__(self) -> None:
        self._ahead_s: float | None = None  # of our own clock, whatever its zero is

    def unix_s(self, date: str | None, sent_s: float, now_s: float, own_unix_s: float) -> float:
        """The server's time now, by its Date or else by our own Unix time."""
        written_s = _date_s(date)
        if written_s is None:
            return own_unix_s if self._ahead_s is None else now_s + self._ahead_s
        ahead_s = own_unix_s - now_s if self._ahead_s is None else self._ahead_s
        self._ahead_s = min(max(ahead_s, written_s - now_s), written_s + 1 - sent_s)
        return now_s + self._ahead_s


def read_report(status: int, headers: Mapping[str, str], server_unix_s: float) -> Report:
    """The headers as a report; what makes no sense is left out. Header names are lower case."""
    return Report(status, _reading(headers, server_unix_s), _retry_after_s(headers, server_unix_s))


def _reading(headers: Mapping[str, str], server_unix_s: float) -> Reading | None:
    limit = _whole(headers.get("x-rate-limit-limit"))
    remaining = _whole(headers.get("x-rate-limit-remaining"))
    reset = _number(headers.get("x-rate-limit-reset"))
    if limit is None or remaining is None or reset is None or limit < 1:
        return None
    reset_in_s = reset - server_unix_s
    if reset_in_s < STALE_S:
        return None
    return Reading(limit, min(remaining, limit), min(reset_in_s, LONGEST_S))


def _retry_after_s(headers: Mapping[str, str], server_unix_s: float) -> float | None:
    """Retry-After, in seconds or as a date."""
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is None:
        until_s = _date_s(value)
        seconds = None if until_s is None else until_s - server_unix_s
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_S)


def _date_s(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: str | None) -> int | None:
    number = _number(value)
    return min(int(number), LARGEST) if number is not None and number >= 0 else None
