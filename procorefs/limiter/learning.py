"""What an answer teaches: windows, pauses and the calls of other programs. Pure, as `policy`.

An answer tells what was left when the server handled it. Own calls that were under way at that time may be in its
count or not, so it gives a range: what is counted here is moved into that range and no further. Less than counted in
the same window means that another program spends calls, too.

Only the window that would run out first is told - by calls left or by the share of them left, implementations may
differ - so each answer also gives a lower bound for the other one.
"""

import math
from collections.abc import Callable

from procorefs.limiter.budget_state import FIXED, SLIDES, UNKNOWN, Permit, State, Window
from procorefs.limiter.headers import LONGEST_S, Reading, Report
from procorefs.limiter.policy import LEASE_S, RESET_MARGIN_S

SAME_RESET_S = 1.5  # Resets that differ by less are the same one
TELLING_S = 2.0  # of a Reset this close the time left does not tell which window is meant
HEADROOM = 8  # calls beyond those made that an unknown spike limit is trusted to take
FIRST_SPAN_S = 300.0
STRANGERS_SPAN_S = 1800.0  # over which the calls of other programs are averaged
UNSEEN = 1.08  # calls of others before our first in a spike window are not seen: about so many more there are
BURST_SPAN_S = 3600.0  # over which the most of them at once is forgotten
MOST_BURST = 5  # calls of others at once that room is kept for
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
LATE_S = LEASE_S  # so much later than it was sent a call may have been counted
SLACK = 3  # calls by which two counts may differ without meaning anything


def observe(state: State, owner: str, report: Report, now_s: float, jitter: Callable[[], float]) -> None:
    """Learn from one answer to a call of `owner`; `jitter` gives a number in [0, 1). The state is settled."""
    permit = _take_back(state, owner)
    overlap = len(state.permits) + (0 if permit is None else state.answered - permit.answered)
    state.answered += 1
    counted = report.status not in (0, 429)
    if not counted:
        state.doubtful_until_s = now_s + state.spike.length_s
    if report.status == 0:
        state.recent.append(now_s)
        return
    window = None
    if report.reading is not None:
        window = _learn(state, report.reading, permit, overlap, now_s)
    state.recent.append(now_s)
    state.limits_told = state.limits_told or window is not None or report.status == 429
    state.unlimited = not state.limits_told and (state.unlimited or 200 <= report.status < 300)
    if report.status == 429:
        _pause_for_429(state, report, window, now_s, jitter)
        return
    state.hourly.sure = _proved(state, report.reading, window, overlap)
    state.throttled_in_a_row = 0
    if report.status == 503:
        _pause(state, report.retry_after_s, now_s, jitter)


def _take_back(state: State, owner: str) -> Permit | None:
    for index, permit in enumerate(state.permits):
        if permit.owner == owner:
            return state.permits.pop(index)
    return None  # given up already


def _learn(
    state: State, reading: Reading, permit: Permit | None, overlap: int, now_s: float
) -> Window | None:
    window = _window_meant(state, reading, now_s)
    reset_s = now_s + reading.reset_in_s
    taken_s = now_s if permit is None else permit.taken_s
    if window.told_reset_s - reset_s > SAME_RESET_S and taken_s < window.told_reset_s - window.length_s:
        return None  # a late word about the window before
    _learn_kind(state, window, reading, reset_s, taken_s, now_s)
    found, seen_s = _clamp(window, reading, reset_s, overlap, now_s)
    if window is state.spike:
        if window.kind == SLIDES:
            found, seen_s = _strangers_in_sliding_spike(state, reading, now_s)
        else:
            found *= UNSEEN
        if state.hourly.kind != SLIDES:  # there as many of theirs fall out
            state.hourly.remaining -= found
    elif window.kind == SLIDES:
        _leave_fallen_out(state, reset_s, now_s)
    _count_strangers(state, found, seen_s)
    window.told, window.told_reset_s, window.told_at_s = True, reset_s, now_s
    window.reset_at_s = reset_s + RESET_MARGIN_S
    _learn_other(state, window, reading, overlap, now_s)
    return window


def _window_meant(state: State, reading: Reading, now_s: float) -> Window:
    """Headers do not name the window: the time left tells, and near the hour's end the limit."""
    hourly, spike = state.hourly, state.spike
    if reading.reset_in_s > spike.length_s + TELLING_S:
        return hourly
    if (reading.limit == hourly.limit) != (reading.limit == spike.limit):
        return hourly if reading.limit == hourly.limit else spike
    if hourly.told and abs(now_s + reading.reset_in_s - hourly.told_reset_s) < SAME_RESET_S:
        return hourly
    to_hourly = abs(math.log(reading.limit / hourly.limit))
    to_spike = abs(math.log(reading.limit / spike.limit))
    return hourly if hourly.reset_at_s and to_hourly < to_spike else spike


def _learn_kind(
    state: State, window: Window, reading: Reading, reset_s: float, taken_s: float, now_s: float
) -> None:
    """A Reset that moves on by less than a window: it slides. More left than could be if it slid: it does not.

    Nor does it when Reset, the time at which the oldest call falls out, is later than that of one of ours would be.
    """
    if window.told_reset_s and SAME_RESET_S < reset_s - window.told_reset_s < window.length_s - SAME_RESET_S:
        window.kind = SLIDES
    elif reading.limit != window.limit or now_s < state.doubtful_until_s or window.kind == FIXED:
        return
    elif window is state.hourly and _would_fall_out(state, reset_s, now_s) > SLACK:
        window.kind = FIXED
    elif window is state.hourly and window.kind == UNKNOWN:
        surely_in = sum(sent.calls for sent in state.sent[1:]) - len(state.permits) - 1
        if reading.remaining > window.limit - surely_in + SLACK:
            window.kind = FIXED
    elif window is state.spike and window.kind == UNKNOWN:
        horizon_s = now_s - window.length_s + SAME_RESET_S
        surely_in = sum(horizon_s < answered_s <= taken_s for answered_s in state.recent)
        if reading.remaining > window.limit - 1 - surely_in + SLACK:
            window.kind = FIXED


def _would_fall_out(state: State, reset_s: float, now_s: float) -> float:
    """Of our calls, how many would fall out of a sliding hour before Reset."""
    from_s, to_s = now_s - state.hourly.length_s, reset_s - state.hourly.length_s - LATE_S
    if to_s <= from_s:
        return 0.0
    return sum(sent.calls for sent in state.sent if from_s < sent.first_s and sent.last_s < to_s)


def _clamp(
    window: Window, reading: Reading, reset_s: float, overlap: int, now_s: float
) -> tuple[float, float]:
    """Move our count into what the answer allows; returns calls of others that it revealed, and of how many seconds.

    It reveals none of them where the window has another Reset than the answer before: it began anew, or calls fell
    out of it; nor where the answer comes so late that by our count the window has begun anew.
    """
    begun_anew = not 0 < window.reset_at_s <= window.told_reset_s + RESET_MARGIN_S
    same = window.told and (window.kind == SLIDES or not begun_anew)
    same = same and abs(reset_s - window.told_reset_s) < SAME_RESET_S
    if reading.limit != window.limit:
        window.remaining += reading.limit - window.limit
        window.limit, same = reading.limit, False
    found = max(0.0, window.remaining - window.unsure - reading.remaining)
    window.remaining = min(window.remaining, float(reading.remaining))
    window.remaining = max(window.remaining, float(reading.remaining - overlap))
    unsure = window.remaining - (reading.remaining - overlap)
    window.unsure = min(unsure, window.unsure) if same else unsure
    return (found, now_s - window.told_at_s) if same else (0.0, 0.0)


def _leave_fallen_out(state: State, reset_s: float, now_s: float) -> None:
    """What fell out of the sliding hour is in the answer's count: it must not be added once more.

    Reset is when the oldest call falls out, so none that was sent before is in the window any more.
    """
    horizon_s = max(now_s, reset_s - SAME_RESET_S) - state.hourly.length_s
    while state.sent and state.sent[0].last_s <= horizon_s:
        del state.sent[0]
    if state.sent and state.sent[0].first_s < horizon_s:
        oldest = state.sent[0]
        oldest.calls *= (oldest.last_s - horizon_s) / (oldest.last_s - oldest.first_s)
        oldest.first_s = horizon_s


def _strangers_in_sliding_spike(state: State, reading: Reading, now_s: float) -> tuple[float, float]:
    """Calls of others since the answer before, and how long that is: as many as their rate in the window makes."""
    spike = state.spike
    own = len(state.permits) + len(state.recent) + 1
    strange = max(0.0, spike.limit - reading.remaining - own)
    since_s = min(now_s - spike.told_at_s, spike.length_s)
    return strange * since_s / spike.length_s, since_s


def _count_strangers(state: State, found: float, seen_s: float) -> None:
    """So many calls of others were found in so many seconds; time in which none could be seen proves nothing."""
    state.strangers_seen_s = min(state.strangers_seen_s + seen_s, STRANGERS_SPAN_S)
    span_s = max(state.strangers_seen_s, FIRST_SPAN_S)
    state.strangers_per_s += (found - state.strangers_per_s * min(seen_s, span_s)) / span_s
    state.strangers_burst *= math.exp(-seen_s / BURST_SPAN_S)
    state.strangers_burst = max(state.strangers_burst, min(found, MOST_BURST))


def _learn_other(state: State, told: Window, reading: Reading, overlap: int, now_s: float) -> None:
    """The window that was not told would run out later: it has at least as many calls or as great a share left."""
    if told is state.spike:
        _trust_hour(state, reading, overlap, now_s)
    elif not state.spike.told:
        spike = state.spike
        head = min(HEADROOM, reading.remaining, int(spike.limit * reading.remaining / reading.limit))
        spike.limit = max(spike.limit, len(state.permits) + len(state.recent) + 1 + head)
        spike.remaining = max(spike.remaining, float(head))


def _proved(state: State, reading: Reading | None, window: Window | None, overlap: int) -> int:
    """How many calls the hour has at least; -1 where our count of it holds, since an answer told its limit."""
    if state.hourly.told or reading is None or window is not state.spike:
        return -1
    return max(0, int(_least_of_hour(state, reading, overlap)))


def _least_of_hour(state: State, reading: Reading, overlap: int) -> float:
    """By an answer that told the spike window, because the hour has more calls or a greater share of them left."""
    return min(reading.remaining, state.hourly.limit * reading.remaining / reading.limit) - overlap


def _trust_hour(state: State, reading: Reading, overlap: int, now_s: float) -> None:
    hourly = state.hourly
    least = _least_of_hour(state, reading, overlap)
    if hourly.remaining >= least - SLACK:
        return
    # By our count the hour was so near its end that the answer would have told it: the count is wrong.
    if not hourly.told and state.strangers_burst == 0:
        hourly.remaining += hourly.limit / 4  # nobody told the limit: it is larger
        hourly.limit += hourly.limit // 4
    elif hourly.kind != SLIDES and now_s > hourly.told_reset_s:
        hourly.remaining = hourly.limit - 1.0  # its end was only reckoned: it began anew before
        hourly.reset_at_s = now_s + hourly.length_s + RESET_MARGIN_S
    hourly.remaining = max(hourly.remaining, float(least))


def _pause_for_429(
    state: State, report: Report, window: Window | None, now_s: float, jitter: Callable[[], float]
) -> None:
    backoff_s = min(FIRST_BACKOFF_S * 2**state.throttled_in_a_row, LONGEST_BACKOFF_S)
    state.throttled_in_a_row = min(state.throttled_in_a_row + 1, 16)
    named_s = report.retry_after_s
    if named_s is None and window is not None:
        named_s = window.reset_at_s - now_s
    _pause(state, max(named_s or 0.0, backoff_s), now_s, jitter)
    state.hourly.sure = 1  # carefully again


def _pause(state: State, pause_s: float | None, now_s: float, jitter: Callable[[], float]) -> None:
    if pause_s is None:
        return
    jitter_s = jitter() * min(1.0 + pause_s / 10, 5.0)
    state.paused_until_s = max(state.paused_until_s, now_s + min(pause_s, LONGEST_S) + jitter_s)
