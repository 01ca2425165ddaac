"""What an answer tells of the budget, and what is learnt from it: limits, pauses, calls of other programs. Pure.

Three headers tell of one window, the one that would run out first, and Retry-After of a pause. The server counted the
answer's own call; calls that were under way at the same time may be in its count or not. So an answer gives a range,
and our count is moved into that range and no further.
"""

import math
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import msgspec

from procorefs.limiter.budget_state import Permit, Sent, State
from procorefs.limiter.policy import are_others, sent_in_hour
from procorefs.limiter.tuning import TUNING

SAME_RESET_S = 1.5
"""Resets that differ by less are the same one."""
ROLLS = 3
"""So many times in a row a short window that rolls may seem not to."""
ROUNDED_S = 1.2
"""A Reset may be rounded up by so much, our idea of the server's clock included."""
CLOCK_S = 0.1
"""By so much our idea of the server's clock may be wrong."""
TELLING_S = 2.0
"""A Reset later than the short window's length and this speaks of the hour."""
LARGEST = 10**9
"""A larger count is the same as this."""
STALE_S = -2.0
"""A Reset further back speaks of a window that is over."""
LONGEST_S = 3700.0
"""Nothing the server names makes us wait longer than a window."""


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


def observe(state: State, owner: str, report: Report, now_s: float, jitter: Callable[[], float]) -> None:
    """Learn from one answer to a call of `owner`; `jitter` gives a number in [0, 1). The state is settled."""
    permit = _take_back(state, owner)
    overlap = len(state.permits) + (0 if permit is None else state.answered - permit.answered)
    state.answered += 1
    state.recent.append(now_s)
    state.noted.append(now_s)
    if report.status == 0:
        return
    reading = report.reading
    if reading is not None:
        if _is_hour(state, reading):
            _learn_hour(state, reading, overlap, now_s)
        else:
            _learn_spike(state, reading, now_s if permit is None else permit.taken_s, now_s)
        _raise_limit(state, now_s)
        state.heard_s = now_s
    state.limits_told = state.limits_told or reading is not None or report.status == 429
    state.unlimited = not state.limits_told and (state.unlimited or 200 <= report.status < 300)
    if report.status == 429:
        _pause_for_429(state, report, now_s, jitter)
        return
    state.sure = -1
    state.throttled_in_a_row = 0
    if report.status == 503:
        _pause(state, report.retry_after_s, now_s, jitter)


def _take_back(state: State, owner: str) -> Permit | None:
    for index, permit in enumerate(state.permits):
        if permit.owner == owner:
            return state.permits.pop(index)
    return None  # given up already


def _is_hour(state: State, reading: Reading) -> bool:
    """Headers do not name the window: the time left tells, and where it does not, the limit."""
    if reading.reset_in_s > state.spike_s + TELLING_S:
        return True
    if (reading.limit == state.limit) != (reading.limit == state.spike_limit):
        return reading.limit == state.limit
    to_hour = abs(math.log(reading.limit / state.limit))
    to_spike = abs(math.log(reading.limit / state.spike_limit))
    return to_hour < to_spike


def _learn_hour(state: State, reading: Reading, overlap: int, now_s: float) -> None:
    """What is told is the truth: the limit, and how many calls of ours and of others are in the window."""
    if reading.reset_in_s <= 0:
        return  # a late word about a window that is over
    counted_s, before_s = state.told_s, state.reset_s
    state.limit, state.told, state.told_s, state.told_last = reading.limit, True, now_s, True
    state.over_minutes = 0
    state.reset_s = now_s + reading.reset_in_s + TUNING.margin_s
    used = reading.limit - reading.remaining
    elapsed_s = state.hour_s - reading.reset_in_s
    if used > state.spike_limit * (elapsed_s / state.spike_s + 2):
        # so many calls cannot have gone since the window began: it rolls, and Reset is when all have left it
        state.reset_s = _next_leaves_s(state, now_s)
    _learn_kind(state, before_s, counted_s, now_s)
    state.hour_ends_s = state.reset_s - TUNING.margin_s
    _correct_count(state, used, overlap, counted_s, now_s)
    if not state.spike_told:
        head = min(
            TUNING.headroom, reading.remaining, int(state.spike_limit * reading.remaining / reading.limit)
        )
        state.spike_limit = max(state.spike_limit, len(state.permits) + len(state.recent) + head)


def _learn_kind(state: State, before_s: float, told_s: float, now_s: float) -> None:
    """Does the hour roll? Then Reset moves on with the oldest call; else it stays until it has passed."""
    moved_s = state.reset_s - before_s
    is_one_hour = moved_s > state.hour_s - TUNING.unsure_s and now_s - told_s < TUNING.unsure_s
    if told_s and SAME_RESET_S < moved_s < state.hour_s / 2 and now_s - told_s < state.hour_s / 2:
        state.hour_rolls = True
    elif is_one_hour or state.reset_s > _next_leaves_s(state, now_s) + TUNING.unsure_s:
        state.hour_rolls = False


def _next_leaves_s(state: State, now_s: float) -> float:
    """When the oldest of our calls leaves a rolling hour."""
    oldest_s = state.sent[0].first_s + state.hour_s if state.sent else now_s
    return max(oldest_s, now_s) + TUNING.margin_s


def _correct_count(state: State, used: int, overlap: int, since_s: float, now_s: float) -> None:
    """The server counts `used` calls, or more by as many as were under way at the same time.

    The count was right when an answer last spoke of the hour: what it lacks came since then.
    """
    ours, others = sent_in_hour(state, now_s)
    if ours > used + overlap:  # the oldest have left its window
        _drop_oldest(state, ours - used - overlap)
        ours, others = sent_in_hour(state, now_s)
        state.heard_s = 0.0  # calls of others that left with them tell nothing of their rate
    most, least = max(used + overlap - ours, 0.0), max(used - ours, 0.0)
    found = min(max(others, least), most) - others
    _spread_others(state, found, since_s)
    if state.heard_s:
        _average_others(state, found, now_s - state.heard_s)
    if since_s == state.heard_s:
        _note_others(state, found, now_s)
    state.told_left = state.limit - ours - others - found


def _drop_oldest(state: State, calls: float) -> None:
    while state.sent and calls > 0:
        oldest = state.sent[0]
        if oldest.calls > calls:
            oldest.others *= 1 - calls / oldest.calls
            oldest.calls -= calls
            return
        calls -= oldest.calls
        del state.sent[0]


def _learn_spike(state: State, reading: Reading, taken_s: float, now_s: float) -> None:
    """The short window: what neither we nor known calls of others explain are new ones of others.

    What is in doubt at the window's begin counts as explained: it is seen for sure in one of the next answers.
    """
    reset_s = now_s + reading.reset_in_s
    moved_s = reset_s - state.spike_ends_s
    if SAME_RESET_S < moved_s < state.spike_s - SAME_RESET_S:
        state.spike_rolls = ROLLS
    elif (
        state.spike_rolls
        and now_s - state.spike_s + TUNING.doubt_s < state.spike_told_s < reset_s - state.spike_s - ROUNDED_S
    ):
        state.spike_rolls -= 1  # were it rolling, our call of the last answer would be in it still
    # A Reset that is rounded up lies too far ahead: this call is in the window in any case.
    fixed_s = min(reset_s - state.spike_s - CLOCK_S, taken_s)
    begun_s = now_s - state.spike_s if state.spike_rolls else fixed_s
    used = reading.limit - reading.remaining
    earlier = sum(permit.taken_s <= taken_s for permit in state.permits)  # later ones were not counted yet
    others = max(0.0, used - earlier - sum(answered_s >= begun_s for answered_s in state.recent))
    if not state.spike_told:
        _add_others(state, others, now_s)
    elif reading.limit == state.spike_limit:
        begun_s = taken_s - state.spike_s if state.spike_rolls else begun_s
        known = len(state.permits) + sum(noted_s >= begun_s for noted_s in state.noted)
        found = max(0, used - known)
        _note_others(state, found, now_s)
        unseen_s = (begun_s if state.spike_rolls else min(state.spike_ends_s, begun_s)) - state.heard_s
        unseen_s = min(max(unseen_s, 0.0), state.hour_s)
        state.others_burst = max(state.others_burst, min(float(found), TUNING.most_burst))
        is_partial = state.told and state.hour_rolls is not False
        hidden = state.others_per_s * unseen_s * (TUNING.unseen if is_partial else 1.0)
        _add_others(state, found + hidden, now_s)
        _average_others(state, found, now_s - state.heard_s - unseen_s)
    state.spike_limit, state.spike_told, state.told_last = reading.limit, True, False
    state.spike_told_s, state.spike_others, state.spike_ends_s = now_s, others, reset_s
    if reading.remaining == 0:
        state.spike_reset_s = reset_s + TUNING.margin_s


def _note_others(state: State, found: float, now_s: float) -> None:
    """Note calls of others; an answer may name any number, and `settle` keeps no more than this many."""
    state.noted += [now_s] * round(min(found, TUNING.most_recent))


def _average_others(state: State, found: float, seen_s: float) -> None:
    """So many calls of others were found in so many seconds; time in which none could be seen proves nothing."""
    seen_s = min(seen_s, TUNING.others_span_s)
    state.watched_s = min(state.watched_s + seen_s, TUNING.others_span_s)
    span_s = max(state.watched_s, TUNING.watch_s)
    state.others_per_s = max(0.0, state.others_per_s + (found - state.others_per_s * seen_s) / span_s)
    state.others_burst *= math.exp(-seen_s / TUNING.others_burst_s)


def _spread_others(state: State, calls: float, since_s: float) -> None:
    """Count them evenly since that moment; fewer than were counted are taken from all."""
    if not state.sent:
        state.sent.append(Sent(since_s, 0, 0))
    groups = [sent for sent in state.sent if sent.first_s >= since_s] or state.sent[-1:]
    counted = sum(sent.others for sent in groups)
    if counted + calls < 0:
        groups, counted = state.sent, sum(sent.others for sent in state.sent)
    for sent in groups:
        if calls >= 0:
            sent.others += calls / len(groups)
        elif counted > 0:
            sent.others *= max(0.0, 1 + calls / counted)


def _add_others(state: State, calls: float, now_s: float) -> None:
    """Count them with our newest calls; fewer than were counted are taken from the newest, too."""
    if not state.sent:
        state.sent.append(Sent(now_s, 0, 0))
    for sent in reversed(state.sent):
        sent.others += calls
        if sent.others >= 0:
            return
        calls, sent.others = sent.others, 0.0


def _raise_limit(state: State, now_s: float) -> None:
    """More calls than the limit were counted and answers speak of the short window only: the limit is larger.

    An hour that began with the call of another program may have ended at any minute of ours. Then the count proves
    something only when it was above the limit in each of them: with one of them a whole window ended.
    """
    count = sum(sent_in_hour(state, now_s))
    if state.told_last or count < state.limit * TUNING.still_over:
        return
    minutes = max(1, round(state.hour_s / TUNING.over_s))
    minute, before = int(now_s // TUNING.over_s), int(state.heard_s // TUNING.over_s)
    was_over = state.over_minutes >> before % minutes & 1
    for over in range(max(before, minute - minutes) if was_over else minute, minute + 1):
        state.over_minutes |= 1 << over % minutes
    if count <= state.limit:
        return
    is_one_window = not are_others(state) and now_s < state.began_s + state.hour_s
    is_sought = not state.told and TUNING.first_limit < state.limit < TUNING.older_limit
    if is_one_window or is_sought or state.over_minutes.bit_count() == minutes:
        is_below = state.limit < TUNING.older_limit
        state.limit = min(state.limit * 2, TUNING.older_limit) if is_below else state.limit * 2
        state.told, state.over_minutes = False, 0


def _pause_for_429(state: State, report: Report, now_s: float, jitter: Callable[[], float]) -> None:
    backoff_s = min(TUNING.first_backoff_s * 2**state.throttled_in_a_row, TUNING.longest_backoff_s)
    state.throttled_in_a_row = min(state.throttled_in_a_row + 1, 16)
    named_s = report.retry_after_s
    if named_s is None and report.reading is not None:
        named_s = max(report.reading.reset_in_s, 0.0) + TUNING.margin_s
    _pause(state, max(named_s or 0.0, backoff_s), now_s, jitter)
    state.sure = 1  # carefully again


def _pause(state: State, pause_s: float | None, now_s: float, jitter: Callable[[], float]) -> None:
    if pause_s is None:
        return
    jitter_s = jitter() * min(1.0 + pause_s / 10, 5.0)
    state.paused_until_s = max(state.paused_until_s, now_s + min(pause_s, LONGEST_S) + jitter_s)
