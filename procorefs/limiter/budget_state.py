"""The record of one budget: plain values that every process and host of it reads and writes together.

Times are seconds on the clock of the store that holds the record; 0.0 means "none". Only `policy`, `answers` and
`process_queue` change it.
"""

import msgspec

from procorefs.limiter.budget import Priority
from procorefs.limiter.tuning import TUNING
from procorefs.storage.failures import UNDECODABLE

HOUR_S = 3600.0
"""Procore's longest window; no record has a longer one."""
LARGEST = 1e12
"""No count and no time, in seconds, is larger; Unix times are some 2e9."""


class Permit(msgspec.Struct, array_like=True):
    """A call under way."""

    owner: str
    taken_s: float
    answered: int
    """`State.answered` at that moment."""


class Sent(msgspec.Struct, array_like=True):
    """The calls of some seconds."""

    first_s: float
    calls: float
    """Ours."""
    people: int
    """How many of them a person waited for."""
    others: float = 0.0
    """Calls of other programs, as answers revealed them."""


class Waiter(msgspec.Struct, array_like=True):
    """The first in the queue of one process."""

    owner: str
    priority: int
    arrived_s: float
    wakes_at_s: float
    """When it will ask again; one that is late is stopped or dead and delays nobody."""
    waiting: tuple[int, int, int]
    """How many wait in that process, by class."""


class State(msgspec.Struct, array_like=True, tag=4):
    """One budget. The tag is the format of the record: another one is not understood."""

    limit: int = TUNING.first_limit
    """Calls per hour: what an answer told, else what is assumed."""
    told: bool = False
    """An answer told the limit."""
    told_s: float = 0.0
    """When an answer last spoke of the hour."""
    told_last: bool = False
    """The last answer with headers spoke of the hour: it is what runs out first."""
    reset_s: float = 0.0
    """When calls of the hour are free again by the last answer that spoke of it."""
    sent: list[Sent] = []
    """The calls of the last hour, oldest first."""
    began_s: float = 0.0
    """The first call after an hour without any."""
    over_minutes: int = 0
    """Minutes of the hour, as bits, at which more calls than the limit had been counted in the hour before."""
    others_per_s: float = 0.0
    """Calls of other programs with our client id, smoothed."""
    others_burst: float = 0.0
    """The most of them that one answer lately revealed; decreases."""
    watched_s: float = 0.0
    """Over how many seconds they were looked for, as far as that matters."""
    heard_s: float = 0.0
    """When an answer last had headers."""
    spike_limit: int = TUNING.first_spike_limit
    spike_told: bool = False
    spike_told_s: float = 0.0
    spike_others: float = 0.0
    """Calls of others in the short window at that moment."""
    spike_ends_s: float = 0.0
    """Its Reset, as told then."""
    spike_rolls: int = 3
    """Each call leaves the short window by itself; 0: all leave it at Reset."""
    spike_reset_s: float = 0.0
    """No call before this: an answer said that the short window is used up."""
    recent: list[float] = []
    """When the calls of the last ten seconds were answered, oldest first."""
    clock_s: float = 0.0
    """The moment of the last change; a clock that shows less has been set back."""
    permits: list[Permit] = []
    answered: int = 0
    """Answers so far."""
    sure: int = TUNING.first_calls
    """Calls that may be under way before an answer proves more; negative: proved."""
    paused_until_s: float = 0.0
    throttled_in_a_row: int = 0
    limits_told: bool = False
    """Some answer named a limit, or 429 proved that there is one."""
    unlimited: bool = False
    """Answers come without limits: only pauses hold."""
    last_paced_s: float = 0.0
    """The last call of the classes that are paced."""
    served_s: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0, 0.0])
    """The last call of each class."""
    waiters: list[Waiter] = []
    hosts: dict[str, float] = {}
    """Host → when it last asked."""
    share: float = 1.0
    """The part of the limits that is ours while we cannot ask those who share it."""
    hour_s: float = HOUR_S
    spike_s: float = 10.0
    """The lengths of the windows; tests shorten them."""
    hour_rolls: bool | None = None
    """Each call leaves the hour by itself; False: all leave it at Reset. None: no told Reset has shown it."""
    told_left: float = 0.0
    """Calls that were left of the hour when an answer last spoke of it, less those sent since."""
    noted: list[float] = []
    """When calls that the short window may still hold were answered, or were found if they are of others."""

    hour_ends_s: float = 0.0
    """Where the hour does not roll, its end: as told, or an hour after the first call since then."""
    since_paced: int = 0
    """Calls of people since the last call of the classes that are paced."""

    def shift(self, seconds: float) -> None:
        """Move every time: the clock was changed by so much."""
        for name in _TIMES:
            setattr(self, name, _moved(getattr(self, name), seconds))
        self.served_s = [_moved(time_s, seconds) for time_s in self.served_s]
        self.recent = [time_s + seconds for time_s in self.recent]
        self.noted = [time_s + seconds for time_s in self.noted]
        for sent in self.sent:
            sent.first_s += seconds
        self.hosts = {host: time_s + seconds for host, time_s in self.hosts.items()}
        for permit in self.permits:
            permit.taken_s += seconds
        for waiter in self.waiters:
            waiter.arrived_s += seconds
            waiter.wakes_at_s += seconds


_TIMES = (
    "told_s", "reset_s", "began_s", "heard_s", "spike_told_s", "spike_ends_s",
    "spike_reset_s", "clock_s", "paused_until_s", "last_paced_s", "hour_ends_s",
)  # fmt: skip


def _moved(time_s: float, seconds: float) -> float:
    # a time before 0 would read as "none": it is long past anyway
    return max(time_s + seconds, 1e-9) if time_s else 0.0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)
_any_decoder = msgspec.msgpack.Decoder()


def encode(state: State) -> bytes:
    """The record."""
    return _encoder.encode(state)


def decode(record: bytes) -> State | None:
    """What the record holds; None when it cannot be understood or used (damage, another release)."""
    try:
        state = _decoder.decode(record)
    except UNDECODABLE:
        return None
    return state if _is_usable(state) else None


def _is_usable(state: State) -> bool:
    """Whether the arithmetic can go on with the values; whoever uses the same Redis may have written them."""
    times = [getattr(state, name) for name in _TIMES]
    times += [*state.served_s, *state.recent, *state.noted, state.told_left, *state.hosts.values()]
    times += [permit.taken_s for permit in state.permits]
    times += [time_s for waiter in state.waiters for time_s in (waiter.arrived_s, waiter.wakes_at_s)]
    counts: list[float] = [state.others_per_s, state.others_burst, state.watched_s, state.spike_others]
    counts += [state.answered, state.throttled_in_a_row, state.spike_rolls]
    counts += [count for sent in state.sent for count in (sent.calls, sent.people, sent.others)]
    times += [sent.first_s for sent in state.sent]
    return (
        all(-LARGEST <= time_s <= LARGEST for time_s in times)
        and all(0 <= count <= LARGEST for count in counts)
        and all(0 <= waiter.priority < len(Priority) for waiter in state.waiters)
        and state.throttled_in_a_row < 1000
        and 0 <= state.over_minutes < 1 << 64
        and 1 <= state.limit <= LARGEST
        and 1 <= state.spike_limit <= LARGEST
        and 0 < state.spike_s <= state.hour_s <= HOUR_S
        and 0 <= state.share <= 1
        and len(state.served_s) == len(Priority)
    )


def begin_again(record: bytes) -> State:
    """A fresh state in place of a record that is not understood; one of the release before keeps the hour's limit."""
    try:
        release, limit, told, *_ = _any_decoder.decode(record)
    except (*UNDECODABLE, TypeError, ValueError):
        return State()
    if release == 3 and isinstance(limit, int) and 0 < limit <= LARGEST and isinstance(told, bool):
        return State(limit=limit, told=told)
    return State()
