"""The constants of the budget. `scripts/limiter_simulation.py --grid` fixes them: change one, and run it again."""

import msgspec


class Tuning(msgspec.Struct, frozen=True):
    """All constants that the pace and the estimates depend on."""

    first_limit: int = 600
    """Calls per hour that are assumed at first: what new apps get."""
    older_limit: int = 3600
    """What older apps get: an unknown limit above the first one is looked for at this pace."""
    first_spike_limit: int = 25
    first_calls: int = 3
    """Calls under way before the first answer ever."""

    sent_s: float = 30.0
    """Our calls are remembered in groups of so many seconds."""
    least_for_people: float = 0.1
    """Share of the limit that is forecast for people at least."""
    lately_s: float = 1800.0
    """The forecast looks back so far,"""
    lately_least_s: float = 300.0
    """and counts no shorter time than this."""
    spread: float = 1.8
    """Standard deviations that are added to the forecast, and kept in reserve."""
    person_burst: float = 4.0
    """Calls that are kept for people at any moment: one action of theirs,"""
    at_once_s: float = 100.0
    """and the spread of so many seconds: after that calls that left the hour have taken their place."""
    most_since_paced: int = 20
    """For no more calls of people than this does the even pace pause."""
    ahead_s: float = 300.0
    """The pace is even for so long, or until calls begin to leave the hour,"""
    kept_ahead_s: float = 900.0
    """and looks so much further for times at which few leave it and people need some."""
    burst: float = 0.2
    """Share of the limit that goes without pacing after a pause."""
    beyond: float = 0.03
    """An unknown limit is exceeded by so much, to find out: answers tell of the hour before it ends."""
    told_for_s: float = 86_400.0
    """A limit that no answer told for so long is unknown again."""
    still_over: float = 0.98
    """A count counts as above the limit with this share of it,"""
    over_s: float = 60.0
    """for so long."""
    margin_s: float = 1.0
    """Reset has whole seconds and may be rounded down."""
    serial: float = 3.0
    """With fewer calls left by our count, calls go one after the other."""

    spike_for_people: int = 2
    """Calls of the short window that only people may use, or"""
    spike_least_for_people: float = 0.16
    """this share of it, whichever is more: of 25 it is what one action needs,"""
    spike_share_for_people: float = 0.3
    """and up to this share of it where the hour runs out first,"""
    hurry: float = 1.3
    """but other calls may go so many times as fast as the hour allows."""
    spike_at_once: float = 0.5
    """Share of the short window that goes at once; what follows is spread over it."""
    headroom: int = 8
    """Calls beyond those made that a short window which no answer told is trusted to hold."""

    watch_s: float = 300.0
    """Until others were looked for so long, there may be some:"""
    perhaps_per_s: float = 2.0
    """so many calls of theirs, since an answer told,"""
    perhaps: float = 0.12
    """up to this share of the short window."""
    others_span_s: float = 1800.0
    """The calls of others are averaged over this time."""
    others_burst_s: float = 3600.0
    """After this time a burst of theirs is forgotten,"""
    most_burst: float = 5.0
    """and room is kept for no more than this."""
    unseen: float = 0.5
    """Share of their calls that is counted for time in which none could be seen, where calls leave the hour one by one:
    too few are corrected when an answer tells, too many are not."""
    unsure_s: float = 60.0
    """By so much we may be wrong about when the next call leaves the hour."""
    others_at_once: float = 2.0
    """As many of their calls come at once,"""
    others_spread: float = 3.0
    """and so many standard deviations of what they may have used since an answer told are left alone."""
    few_others_per_hour: float = 1.0
    """Fewer calls of others are none."""

    lease_s: float = 30.0
    """A call without an answer for so long has been counted, or never will be."""
    probe_s: float = 10.0
    """How long the others wait for the answer to a call that goes alone."""
    starved_s: float = 30.0
    """A class that waited so long, and got nothing for so long, gets one call before the others."""
    doubt_s: float = 2.0
    """A call that was answered so long before the short window's begin may still be in it."""
    most_permits: int = 200
    most_recent: int = 256
    first_backoff_s: float = 1.0
    longest_backoff_s: float = 60.0


TUNING = Tuning()
