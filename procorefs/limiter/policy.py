"""The arithmetic of the budget: when may the next call be sent, and what does a taken call change? Pure.

Every function takes the state, which it changes, and the time on the store's clock; nothing here reads a clock or
waits. Facts come from the answers (`learning`); the constants say how carefully what is left is spent.

Both windows are counted down by the calls that are sent. While it is not certain that the spike window forgets all
its calls at once, no stretch of its length ever sees more calls than the limit. The hour's calls go out quickly while
more than half of them is left and are then spread evenly, so that all are used and none is missing at the end. Of an
hour that slides it is known when our own calls will fall out: what is left is spread so that it bridges the gaps.
"""

import bisect
import math

from procorefs.limiter.budget import Priority
from procorefs.limiter.budget_state import FIXED, SLIDES, UNKNOWN, Permit, Sent, State, Window

KEPT_OF_SPIKE = 2  # calls of a spike window that only INTERACTIVE may take
MOST_KEPT_OF_SPIKE = 0.3  # the same, as a share of the window, where the hour is what will run out,
FEWER_KEPT_OF_SPIKE = 0.12  # and as long as nothing told when it ends: then hurrying finds that out
HURRY = 1.3  # but other calls may go so many times as fast as the hour allows
TOLD_FOR = 1.25  # the end of a window is known for so many of its lengths after an answer told it
KEPT_OF_HOUR = 0.1  # share of the hour that only INTERACTIVE may take, shrinking to nothing towards Reset
KEPT_OF_SLIDING_HOUR = (
    0.01  # the same where calls fall out one by one and there is no Reset to shrink towards
)
KEPT_SPIKES = 0.6  # but at most this share of a spike window: an hour with more calls left may never be told
SENT_SHARE = 0.005  # of an hour's calls are remembered together: they fall out with the last of them
KEPT_TO_THE_END = 0.018  # share of the hour that is kept for them besides: by so much our count may be wrong
TO_THE_END = 1 / 30  # of the hour before Reset: then that goes, too, by and by
BURST_SHARE = 0.5  # up to this share of a window goes at once, what follows is spread over it
EARLY_SHARE = (
    0.03  # the even spread aims at this much before the hour's end: only a window near its end is told
)
RESET_MARGIN_S = 1.0  # Reset has whole seconds and may be rounded down
SLIDING_PACE = 0.8  # where many fall out at once, of the even gap at least so much lies between two calls
LOOKING_AHEAD = 1 / 6  # of an hour, for times in which few calls will fall out
SLIDING_STEP_S = 1.0  # a sliding hour frees a call about as often
SLIDING_LOOK_S = 10.0  # while nothing is left of a sliding hour, how often some calls are taken to be free
LOOK_S = 10.0  # what is kept for others changes: look again after so long
LEASE_S = 30.0  # a call without an answer for so long has been counted, or never will be
PROBE_S = 10.0  # how long the others wait for the answer that proves a new window
LONGEST_RECENT = 256
MOST_SENT = 256  # more only where there are more calls than the limit that is known
MOST_PERMITS = 200
STARVED_S = 30.0  # a class that waited so long, and got nothing for so long, gets one call before the others
FEW_STRANGERS = 0.1
LONG_LOOKED_S = 300.0  # until others were looked for so long, there may be some:
PERHAPS_PER_S = 2.0  # so many calls of theirs, since an answer told,
PERHAPS = 0.12  # up to this share of a spike window


def settle(state: State, now_s: float) -> None:
    """Bring the state to this moment: windows end, calls age. First step of every change."""
    if now_s < state.clock_s:
        state.shift(now_s - state.clock_s)
    state.clock_s = now_s
    fallen_out = _take_fallen_out(state, now_s)
    if state.hourly.kind == SLIDES:
        _free(state.hourly, fallen_out)
    while state.permits and state.permits[0].taken_s <= now_s - LEASE_S:
        _bury(state, 0, state.permits[0].taken_s + LEASE_S)
    horizon_s = now_s - state.spike.length_s
    gone = 0
    for answered_s in state.recent:
        if answered_s > horizon_s:
            break
        gone += 1
    del state.recent[: max(gone, len(state.recent) - LONGEST_RECENT)]
    _roll(state.spike, state, now_s)
    _roll(state.hourly, state, now_s)


def _bury(state: State, index: int, at_s: float) -> None:
    """Give up a call whose answer nobody will report; it counts as sent."""
    del state.permits[index]
    bisect.insort(state.recent, at_s)
    state.doubtful_until_s = max(state.doubtful_until_s, at_s + state.spike.length_s)


def bury_owner(state: State, owner: str, now_s: float) -> None:
    """A process is gone: its calls count as sent, and it does not wait any more."""
    for index in reversed(range(len(state.permits))):
        if state.permits[index].owner == owner:
            _bury(state, index, now_s)
    state.waiters = [waiter for waiter in state.waiters if waiter.owner != owner]


def wait_s(state: State, priority: Priority, now_s: float, waited_s: float = 0.0) -> float:
    """Seconds until a call of this class may be sent: 0 means now. The state is settled.

    Infinite while only an answer to a call under way can help.
    """
    pause_s = max(0.0, state.paused_until_s - now_s)
    if state.unlimited:
        return pause_s
    if len(state.permits) >= MOST_PERMITS:
        return math.inf
    person = priority is Priority.INTERACTIVE or is_starved(state, priority, now_s, waited_s)
    return max(
        pause_s,
        _spike_wait_s(state, person, now_s),
        _proof_wait_s(state, now_s),
        _hourly_wait_s(state, priority, now_s),
    )


def is_starved(state: State, priority: Priority, now_s: float, waited_s: float) -> bool:
    """Has this class waited, and got nothing, for so long that its turn has come?"""
    return waited_s >= STARVED_S and now_s - state.served_s[priority] >= STARVED_S


def take(state: State, owner: str, priority: Priority, now_s: float) -> None:
    """Count a call that is being sent. Only after `wait_s` was 0 at the same moment."""
    state.permits.append(Permit(owner, now_s, state.answered))
    for window in (state.hourly, state.spike):
        if not window.reset_at_s:
            window.reset_at_s = now_s + window.length_s + RESET_MARGIN_S
        window.remaining -= 1
        if window.sure > 0:
            window.sure -= 1
    _note_sent(state, now_s)
    state.served_s[priority] = now_s
    if priority is not Priority.INTERACTIVE:
        state.last_spread_s = now_s


def strangers_since(state: State, told_s: float, most_s: float, now_s: float) -> int:
    """How many calls other programs may have made since an answer told; 0 where there are none.

    The most of them at once is what chance adds to the average in a spike window, and grows as chance does: with the
    root of the time.
    """
    since_s = now_s - told_s
    if state.strangers_burst < FEW_STRANGERS:
        return 0
    chance = max(1.0, math.sqrt(min(since_s, state.hourly.length_s) / state.spike.length_s))
    return math.ceil(state.strangers_burst * chance + state.strangers_per_s * min(since_s, most_s))


def _note_sent(state: State, now_s: float) -> None:
    newest = state.sent[-1] if state.sent else None
    if newest is not None and newest.calls < int(state.hourly.limit * SENT_SHARE):
        newest.last_s = now_s
        newest.calls += 1
    else:
        state.sent.append(Sent(now_s, now_s, 1))
    if len(state.sent) > MOST_SENT:
        state.sent = [_together(state.sent[at : at + 2]) for at in range(0, len(state.sent), 2)]


def _together(sent: list[Sent]) -> Sent:
    return Sent(sent[0].first_s, sent[-1].last_s, sum(some.calls for some in sent))


def _take_fallen_out(state: State, now_s: float) -> float:
    """Forget the calls that are an hour old now; returns how many."""
    fallen, gone = 0.0, 0
    for sent in state.sent:
        if sent.last_s > now_s - state.hourly.length_s:
            break
        fallen += sent.calls
        gone += 1
    del state.sent[:gone]
    return fallen


def _free(window: Window, calls: float) -> None:
    window.remaining += calls
    window.unsure += calls


def _roll(window: Window, state: State, now_s: float) -> None:
    """Begin anew when Reset has passed."""
    if not window.reset_at_s or now_s < window.reset_at_s:
        return
    if window is state.spike:
        if window.kind == SLIDES and now_s - window.told_at_s < window.length_s:
            _free(window, 1)  # the oldest call has fallen out; the next answer tells of others
            window.reset_at_s = now_s + RESET_MARGIN_S
            return
        window.remaining = window.limit - len(state.permits)
        window.reset_at_s = 0.0
        return
    if window.kind == UNKNOWN and state.spike.kind == SLIDES:
        window.kind = SLIDES  # most likely, and no call is too many if it does not
    if window.kind == SLIDES:
        window.sure = 1  # at least the oldest call has fallen out; the answer tells how many
        if window.told and now_s - window.told_at_s < window.length_s:
            window.remaining = max(window.remaining, 0.0)
            _free(window, 1)
        else:  # what was told has all fallen out
            ours = sum(sent.calls for sent in state.sent)
            others = state.strangers_per_s * window.length_s
            window.remaining = window.limit - ours - others
        window.reset_at_s = now_s + SLIDING_LOOK_S
        return
    margin = strangers_since(state, state.spike.told_at_s, window.length_s, now_s)
    window.sure = max(1, int(window.remaining) - margin)  # this many there are even if the window slides
    window.remaining = window.limit - len(state.permits)
    window.reset_at_s = 0.0


def _spike_wait_s(state: State, person: bool, now_s: float) -> float:
    spike = state.spike
    limit = spike.limit if state.share == 1 else max(1, int(spike.limit * state.share))
    kept = _kept_of_spike(state, person, limit, now_s)
    used = len(state.permits) + len(state.recent)
    known = spike.kind == FIXED and _is_known(spike, now_s) and state.share == 1
    wait_s = 0.0
    if used >= limit - kept and not known:
        excess = used - (limit - kept)  # as many of the recent calls and one more must have aged
        recent = state.recent
        wait_s = recent[excess] + spike.length_s - now_s if excess < len(recent) else math.inf
    if spike.remaining - kept < 1:
        wait_s = max(wait_s, (spike.reset_at_s or now_s) - now_s)
    if not person and wait_s <= 0 and spike.told and used >= limit * BURST_SHARE:
        if known:
            gap_s = (spike.reset_at_s - now_s) / max(spike.remaining - kept, 1)
        else:
            gap_s = _even_spike_gap_s(state, max(limit - kept - used, 1), now_s)
        wait_s = max(wait_s, state.last_spread_s + gap_s - now_s)
    return wait_s


def _is_known(window: Window, now_s: float) -> bool:
    """Did an answer tell its end, or that of the one before?"""
    return window.told and now_s - window.told_at_s < TOLD_FOR * window.length_s


def _even_spike_gap_s(state: State, left: int, now_s: float) -> float:
    """Between two calls, so that never more have gone than are left now and have aged till then."""
    ages_in_s = (answered_s + state.spike.length_s - now_s for answered_s in state.recent)
    return max((in_s / (left + aged) for aged, in_s in enumerate(ages_in_s)), default=0.0)


def _kept_of_spike(state: State, person: bool, limit: int, now_s: float) -> int:
    """Calls left alone: what others may have used since the last answer, and some for people.

    Where the hour is what runs out, hurrying gains nothing: then there is room for several calls of a person at once.
    """
    spike = state.spike
    if not spike.told:
        return 0 if person else min(KEPT_OF_SPIKE, limit - 1)
    told_s = max(spike.told_at_s, now_s - 2 * spike.length_s)
    kept = strangers_since(state, told_s, spike.length_s, now_s)
    if state.strangers_seen_s < LONG_LOOKED_S:
        kept = max(kept, int(min((now_s - told_s) * PERHAPS_PER_S, limit * PERHAPS)))
    if not person:
        hourly = state.hourly
        needed = HURRY * hourly.limit * spike.length_s / hourly.length_s
        most = MOST_KEPT_OF_SPIKE if _is_known(hourly, now_s) else FEWER_KEPT_OF_SPIKE
        kept += max(KEPT_OF_SPIKE, min(int(limit - needed - kept), int(limit * most)))
    return min(kept, limit - 1)


def _proof_wait_s(state: State, now_s: float) -> float:
    """At the start, when the hour began anew by our reckoning, and while its limit is not told.

    Then so many calls go as are surely left, until the next answer proves more.
    """
    hourly = state.hourly
    if hourly.sure != 0 or not state.permits:
        return 0.0
    probe_until_s = state.permits[-1].taken_s + PROBE_S
    return 0.0 if now_s >= probe_until_s else math.inf


def _hourly_wait_s(state: State, priority: Priority, now_s: float) -> float:
    hourly = state.hourly
    if not hourly.reset_at_s:
        return 0.0
    left_s = hourly.reset_at_s - now_s
    told = hourly.told_at_s > hourly.reset_at_s - hourly.length_s - RESET_MARGIN_S
    margin = 0
    if told:
        last_told_s = max(hourly.told_at_s, state.spike.told_at_s)
        # while it slides, as many of the others' calls fall out as they make
        most_s = 0.0 if hourly.kind == SLIDES else hourly.length_s
        margin = strangers_since(state, last_told_s, most_s, now_s)
    free = hourly.remaining - margin
    if priority is Priority.INTERACTIVE:
        # not told: other answers say that there are more calls than we count, and will tell before there are none
        return 0.0 if free >= 1 or not told else left_s
    if hourly.kind == SLIDES:
        kept = max(margin, min(hourly.limit * KEPT_OF_SLIDING_HOUR, state.spike.limit * KEPT_SPIKES))
        return _sliding_wait_s(state, hourly.remaining - kept, now_s)
    left_s = max(left_s, _may_slide_until_s(state) - now_s)
    free -= state.strangers_per_s * left_s + _kept_to_the_end(state, left_s, told=told)
    if free < 1:
        return left_s if state.strangers_per_s == 0 else min(left_s, LOOK_S)
    # Kept now: limit * KEPT_OF_HOUR * left_s / length_s. Wait until that has shrunk below what is free.
    free_when_left_s = (free - 1) * hourly.length_s / (hourly.limit * KEPT_OF_HOUR)
    wait_s = left_s - free_when_left_s
    # without a told end the hour may have begun long before our first call, if there are others: no burst then
    at_once = BURST_SHARE if told or state.strangers_burst == 0 else 0.0
    if hourly.remaining < hourly.limit * (1 - at_once):
        early_share = (
            0.0 if state.spike.kind == SLIDES else EARLY_SHARE
        )  # it tells nothing if the hour slides, too
        gap_s = _even_gap_s(hourly, left_s, free, early_share) / state.share
        wait_s = max(wait_s, state.last_spread_s + gap_s - now_s)
    return min(wait_s, left_s)


def _sliding_wait_s(state: State, free: float, now_s: float) -> float:
    """Spread so that what is free now bridges every gap of the next minutes in which few calls fall out."""
    hourly = state.hourly
    if free < 1:
        return SLIDING_STEP_S
    if hourly.remaining > hourly.limit * (1 - BURST_SHARE):
        return 0.0
    bridging_gap_s = _bridging_gap_s(state, free, now_s)
    if math.isinf(bridging_gap_s):
        return SLIDING_STEP_S
    gap_s = max(SLIDING_PACE * hourly.length_s / hourly.limit, bridging_gap_s)
    return max(0.0, state.last_spread_s + gap_s - now_s)


def _bridging_gap_s(state: State, free: float, now_s: float) -> float:
    """Between two calls, so that never more have gone than are free now and have fallen out till then.

    A part is for people; infinite where no more than that will be left.
    """
    length_s = state.hourly.length_s
    for_people_per_s = KEPT_OF_HOUR * state.hourly.limit / length_s
    left, gap_s, until_s = free, 0.0, math.inf
    for sent in state.sent:
        in_s = sent.first_s + length_s - now_s
        if in_s > 0:
            until_s = min(until_s, in_s + LOOKING_AHEAD * length_s)
            in_s = min(in_s, until_s)
            left_then = left - for_people_per_s * in_s
            if left_then <= 0:
                return math.inf
            gap_s = max(gap_s, in_s / left_then)
            if in_s == until_s:
                break
        left += sent.calls
    return gap_s


def _may_slide_until_s(state: State) -> float:
    """Of an hour that began with the calls of others, and may slide, none of ours is free before this."""
    hourly = state.hourly
    return state.sent[0].first_s + hourly.length_s if hourly.kind != FIXED and state.sent else 0.0


def _kept_to_the_end(state: State, left_s: float, *, told: bool) -> float:
    """For people till the end is near, when a count that is wrong comes to light.

    Where nobody told the limit and nobody else spends calls, so few that it does before.
    """
    hourly = state.hourly
    kept = hourly.limit * KEPT_TO_THE_END * min(1.0, left_s / (hourly.length_s * TO_THE_END))
    return kept if told or hourly.told or state.strangers_burst else min(kept, state.spike.limit / 4)


def _even_gap_s(hourly: Window, left_s: float, free: float, early_share: float) -> float:
    """Between two calls that are spread over what is left of the hour."""
    truly_left_s = max(left_s - RESET_MARGIN_S, 0.0)
    return max(truly_left_s - early_share * hourly.length_s, truly_left_s / 2) / free
