"""When may the next call be sent: our count of both windows, the forecast for people, and the pace of the rest. Pure.

Every function takes the state, which it changes, and the time on the store's clock; none reads a clock or waits.

Both windows are counted as if each call left them by itself: that is right where they roll, and never too much where
they begin at a moment that nobody knows. What answers tell (`answers`) corrects the count. People's calls are stopped
only by what an answer told. All others go at an even pace of all calls, people's included: at no moment ahead are more
used than the limit less a reserve for people.
"""

import bisect
import math

from procorefs.limiter.budget import Priority
from procorefs.limiter.budget_state import Permit, Sent, State
from procorefs.limiter.tuning import TUNING

SOON_S = 0.05
"""What is due at this moment is looked at again after so long."""


def settle(state: State, now_s: float) -> None:
    """Bring the state to this moment: calls leave the windows. First step of every change."""
    if now_s < state.clock_s:
        state.shift(now_s - state.clock_s)
    state.clock_s = now_s
    oldest_s = now_s - state.hour_s - TUNING.sent_s
    gone = bisect.bisect_right(state.sent, oldest_s, key=_first_s)
    del state.sent[:gone]
    while state.permits and state.permits[0].taken_s <= now_s - TUNING.lease_s:
        _drop_permit(state, 0, state.permits[0].taken_s + TUNING.lease_s)
    gone = bisect.bisect_right(state.recent, now_s - state.spike_s)
    del state.recent[: max(gone, len(state.recent) - TUNING.most_recent)]
    gone = bisect.bisect_right(state.noted, now_s - state.spike_s - TUNING.doubt_s)
    del state.noted[: max(gone, len(state.noted) - TUNING.most_recent)]


def drop_owner(state: State, owner: str, now_s: float) -> None:
    """A process has ended: its calls count as sent, and it does not wait any more."""
    for index in reversed(range(len(state.permits))):
        if state.permits[index].owner == owner:
            _drop_permit(state, index, now_s)
    state.waiters = [waiter for waiter in state.waiters if waiter.owner != owner]


def _drop_permit(state: State, index: int, at_s: float) -> None:
    """Give up a call whose answer nobody will report; it counts as sent."""
    del state.permits[index]
    bisect.insort(state.recent, at_s)
    bisect.insort(state.noted, at_s)


def take(state: State, owner: str, priority: Priority, now_s: float) -> None:
    """Count a call that is being sent. Only after `wait_s` was 0 at the same moment."""
    state.permits.append(Permit(owner, now_s, state.answered))
    if not state.sent:
        state.began_s = now_s
        state.over_minutes = 0
    if not state.sent or now_s >= state.sent[-1].first_s + TUNING.sent_s:
        state.sent.append(Sent(now_s, 0, 0))
    state.sent[-1].calls += 1
    state.told_left -= 1
    if state.sure > 0:
        state.sure -= 1
    state.served_s[priority] = now_s
    if state.hour_rolls is False and 0 < state.hour_ends_s <= now_s:
        state.hour_ends_s = now_s + state.hour_s  # the hour begins with its first call
    if priority is Priority.INTERACTIVE:
        state.sent[-1].people += 1
        state.since_paced = min(state.since_paced + 1, TUNING.most_since_paced)
    else:
        state.last_paced_s = now_s
        state.since_paced = 0


def hour_limit(state: State, configured: int = 0) -> int:
    """Calls per hour: what is configured, unless an answer told less; else what was told or is assumed."""
    if configured and state.told:
        return min(configured, state.limit)
    return configured or state.limit


def sent_in_hour(state: State, now_s: float) -> tuple[float, float]:
    """Calls of the last hour, ours and those of others; of a group that is leaving it a part."""
    ours = sum([sent.calls for sent in state.sent])
    others = sum([sent.others for sent in state.sent])
    for sent in state.sent:
        age_s = now_s - state.hour_s - sent.first_s
        if age_s <= 0:
            break
        left = min(age_s / TUNING.sent_s, 1.0)
        ours -= sent.calls * left
        others -= sent.others * left
    return ours, others


def left_of_hour(state: State, now_s: float, configured: int = 0) -> float:
    """Calls of the hour that may still be sent: by our count, and until the told Reset by what was told."""
    left = hour_limit(state, configured) * state.share - sum(sent_in_hour(state, now_s))
    if state.told_s <= state.began_s:  # others may have sent as many before we began, as they have since
        left -= state.others_per_s * max(state.began_s + state.hour_s - now_s, 0.0)
    return min(left, state.told_left) if state.told_last and now_s < state.reset_s else left


def are_others(state: State) -> bool:
    """Does another program use the client id?"""
    return state.others_per_s * state.hour_s >= TUNING.few_others_per_hour


def wait_s(
    state: State, priority: Priority, now_s: float, waited_s: float = 0.0, configured: int = 0
) -> float:
    """Seconds until a call of this class may be sent: 0 means now. The state is settled.

    Infinite while only an answer to a call under way can help.
    """
    pause_s = max(0.0, state.paused_until_s - now_s)
    if state.unlimited and not configured:
        return pause_s
    if len(state.permits) >= TUNING.most_permits:
        return math.inf
    person = priority is Priority.INTERACTIVE
    spike_wait_s = _spike_wait_s(
        state, now_s, configured, person=person or is_starved(state, priority, now_s, waited_s)
    )
    left = left_of_hour(state, now_s, configured)
    wait = max(pause_s, spike_wait_s, _hour_wait_s(state, left, now_s, configured))
    if not person and wait <= 0:
        gap_s = pace_gap_s(state, left, now_s, configured)
        due_s = state.last_paced_s + gap_s * (1 + state.since_paced)
        wait = 1.0 if math.isinf(gap_s) else max(wait, due_s - now_s)
    return wait


def is_starved(state: State, priority: Priority, now_s: float, waited_s: float) -> bool:
    """Has this class waited, and got nothing, for so long that its turn has come?"""
    return waited_s >= TUNING.starved_s and now_s - state.served_s[priority] >= TUNING.starved_s


# The short window


def _spike_wait_s(state: State, now_s: float, configured: int, *, person: bool) -> float:
    limit = max(1, int(state.spike_limit * state.share))
    kept = min(_kept_of_spike(state, now_s, limit, configured, person=person), limit - 1)
    used = len(state.permits) + len(state.recent)
    wait = max(0.0, state.spike_reset_s - now_s)
    if used >= limit - kept:
        excess = used - (limit - kept)  # as many of the recent calls and one more must have aged
        aged_s = state.recent[excess] + state.spike_s - now_s if excess < len(state.recent) else math.inf
        if state.spike_others:  # at Reset at least one call leaves: one goes, and its answer tells more
            first_s = state.spike_ends_s + TUNING.margin_s
            if now_s >= first_s and not state.permits and used < limit:
                return wait
            if now_s < state.spike_told_s + state.spike_s:
                aged_s = min(aged_s, first_s - now_s) if now_s < first_s else math.inf
        return max(wait, aged_s, 0.0) or SOON_S
    if not person and wait <= 0 and state.spike_told and used >= limit * TUNING.spike_at_once:
        left = max(limit - kept - used, 1)
        ages_in_s = (answered_s + state.spike_s - now_s for answered_s in state.recent)
        # never more have gone than are left now and have aged till then
        gap_s = max((in_s / (left + aged) for aged, in_s in enumerate(ages_in_s)), default=0.0)
        wait = max(wait, state.last_paced_s + gap_s - now_s)
    return wait


def _kept_of_spike(state: State, now_s: float, limit: int, configured: int, *, person: bool) -> int:
    """Calls left alone: those of others, as many as they may make until our call arrives, and some for people."""
    kept = 0.0
    if state.spike_told:
        since_s = min(now_s - state.spike_told_s, state.spike_s)
        kept = state.spike_others if since_s < state.spike_s else 0.0
        if are_others(state):
            kept += math.ceil(state.others_burst + state.others_per_s * since_s)
        elif state.watched_s < TUNING.watch_s:
            kept = max(kept, min(limit * TUNING.perhaps, since_s * TUNING.perhaps_per_s))
    if person:
        return int(kept)
    needed = TUNING.hurry * hour_limit(state, configured) * state.spike_s / state.hour_s
    room = min(limit - needed - kept, limit * TUNING.spike_share_for_people)
    share = int(limit * TUNING.spike_least_for_people) if state.spike_told else 0
    least = max(TUNING.spike_for_people, share)
    return int(kept + max(least, int(room)))


# The hour


def _hour_wait_s(state: State, left: float, now_s: float, configured: int) -> float:
    """For all classes: what answers told, and one call at a time where nothing proves that there are more."""
    alone = state.sure == 0
    if state.told_last:
        margin = 0
        if are_others(state):
            expected = state.others_per_s * (now_s - state.told_s)
            margin = int(1 + expected + TUNING.others_spread * math.sqrt(TUNING.others_at_once * expected))
        if state.told_left - margin < 1:  # at Reset one call may go; what its answer tells is the truth
            if now_s < state.reset_s:
                return state.reset_s - now_s
            alone = True
        left = state.told_left - margin
    alone = alone or left < TUNING.serial
    if configured and configured < state.limit and left < 1:
        return 1.0
    if not alone or not state.permits:
        return 0.0
    return 0.0 if now_s >= state.permits[-1].taken_s + TUNING.probe_s else math.inf


def pace_gap_s(state: State, left: float, now_s: float, configured: int) -> float:
    """Between two calls of any class: the one pacing rule. Infinite: nothing is left for those whom nobody waits for.

    What is left beyond a reserve goes evenly, the calls of people included: after theirs the others pause. It is the
    slowest pace that suits each moment from now until calls begin to leave the hour, and at least `ahead_s`.
    """
    known = hour_limit(state, configured) * state.share
    limit, used = known, known - left
    is_tried_out = _is_tried_out(state, now_s, configured)
    if is_tried_out:  # what an older app gets is looked for at that pace
        is_larger = not state.told and TUNING.first_limit < limit < TUNING.older_limit
        limit = (TUNING.older_limit if is_larger else limit) * (1 + TUNING.beyond)
    forecast = Forecast(state, limit, now_s, spread=0.0 if is_tried_out else TUNING.spread)
    left = limit - used + TUNING.person_burst * is_tried_out
    if used < known * TUNING.burst:
        return 0.0
    gap_s, spread_until_s, kept_until_s = 0.0, 0.0, 0.0
    ends_in_s = hour_ends_in_s(state, now_s)
    reset_in_s = max(state.reset_s - now_s, 0.0) if state.told_last else 0.0
    for sent in state.sent:
        leaves_in_s = sent.first_s + state.hour_s - now_s
        in_s = min(max(leaves_in_s + TUNING.sent_s / 2, reset_in_s, 0.0), ends_in_s)
        if not kept_until_s:
            spread_until_s = max(in_s, TUNING.ahead_s)
            kept_until_s = in_s + TUNING.kept_ahead_s
        elif in_s > kept_until_s:
            break
        # until an end that is near nothing need be kept for later
        if in_s == ends_in_s or ends_in_s > TUNING.ahead_s:
            then = left - state.others_per_s * in_s
            if then < 1 or then <= forecast.calls(in_s):
                return math.inf
            if in_s <= spread_until_s:
                then -= forecast.reserve(in_s)
                gap_s = max(gap_s, in_s / then) if then > 0 else math.inf
        if in_s == ends_in_s:
            break
        part = 1.0 if leaves_in_s >= 0 else max(0.0, 1.0 + leaves_in_s / TUNING.sent_s)
        left += (sent.calls + sent.others) * part
    return gap_s


def hour_ends_in_s(state: State, now_s: float) -> float:
    """When all calls leave the hour together; infinite where each leaves by itself, or nobody knows."""
    is_known = state.hour_rolls is False and state.hour_ends_s > now_s
    return state.hour_ends_s - now_s if is_known else math.inf


def _is_tried_out(state: State, now_s: float, configured: int) -> bool:
    """Is the limit unknown? Then more calls go, until an answer tells it or the count proves that it is larger."""
    is_told = state.told and now_s - (state.told_s or now_s) < TUNING.told_for_s
    return not (configured or is_told or (state.told_s and now_s - state.told_s < state.hour_s))


class Forecast:
    """How many calls people will need, from what they used lately and its spread."""

    def __init__(self, state: State, limit: float, now_s: float, spread: float = TUNING.spread) -> None:
        since_s = now_s - TUNING.lately_s
        over_s = min(max(now_s - state.began_s, TUNING.lately_least_s), TUNING.lately_s)
        used = squares = 0
        for sent in reversed(state.sent):
            if sent.first_s < since_s:
                break
            used += sent.people
            squares += sent.people * sent.people
        self._spread = spread
        self._least_per_s = TUNING.least_for_people * limit / state.hour_s
        self._used_per_s = used / over_s
        self._variance_per_s = squares / over_s + TUNING.others_at_once * state.others_per_s

    def reserve(self, seconds: float) -> float:
        """What is kept for people who need more than the even pace gives them, at a moment so far ahead."""
        seconds = min(seconds, TUNING.at_once_s)
        return TUNING.person_burst + self._spread * math.sqrt(self._variance_per_s * seconds)

    def calls(self, seconds: float) -> float:
        """So many in the next seconds at most, and what is kept for them at least."""
        spread = self._spread * math.sqrt(self._variance_per_s * seconds)
        return max(self._used_per_s * seconds + spread, self._least_per_s * seconds)


def _first_s(sent: Sent) -> float:
    return sent.first_s
