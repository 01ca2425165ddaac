"""All that is known of one budget: plain values that every process and host of it reads and writes as one record.

Times are seconds on the clock of the store that holds the record; 0.0 means "none". Only `policy` and `queue`
change it.
"""

import msgspec

HOURLY_LIMIT = 3600
HOURLY_S = 3600.0
SPIKE_LIMIT = 25
SPIKE_S = 10.0
CAREFUL_START = 3  # calls under way before the first answer ever

UNKNOWN, SLIDES, FIXED = range(3)  # how a window ends: its calls fall out one by one, or all at Reset


class Window(msgspec.Struct, array_like=True):
    """One of the two windows."""

    limit: int
    length_s: float
    remaining: float
    """Calls that may still be sent; those under way are taken off already. Fractions: estimates of others' calls."""
    reset_at_s: float = 0.0
    """When it ends by our reckoning; 0: no call has been counted in it."""
    told_reset_s: float = 0.0
    """The last Reset that an answer named, without margin; 0: none yet."""
    told_at_s: float = 0.0
    """When an answer last spoke of this window."""
    kind: int = UNKNOWN
    told: bool = False
    """The limit comes from an answer."""
    sure: int = -1
    """Calls that may go before an answer proves that the window began anew, or how many calls are left of an hour
    whose limit nobody has told; negative: proved, or told."""
    unsure: float = 0.0
    """So many fewer may be left: calls that fell out by our count since an answer told, or were under way when it
    did."""


class Permit(msgspec.Struct, array_like=True):
    """A call under way."""

    owner: str
    taken_s: float
    answered: int
    """`State.answered` at that moment."""


class Sent(msgspec.Struct, array_like=True):
    """Some calls that were sent one after the other."""

    first_s: float
    last_s: float
    calls: float


class Waiter(msgspec.Struct, array_like=True):
    """The first in the queue of one process."""

    owner: str
    priority: int
    arrived_s: float
    wakes_at_s: float
    """When it will ask again; one that is late is stopped or dead and holds nobody up."""
    waiting: tuple[int, int, int]
    """How many wait in that process, by class."""


class State(msgspec.Struct, array_like=True, tag=2):
    """One budget. The tag is the form of the record: another one is not understood."""

    hourly: Window
    spike: Window
    clock_s: float = 0.0
    """The moment of the last change; a clock that shows less has been set back."""
    permits: list[Permit] = []
    answered: int = 0
    """Answers so far."""
    recent: list[float] = []
    """When the calls of the last spike length were answered, oldest first."""
    doubtful_until_s: float = 0.0
    """Until then answers may not have been counted by the server."""
    paused_until_s: float = 0.0
    throttled_in_a_row: int = 0
    limits_told: bool = False
    """Some answer named a limit, or 429 proved that there is one."""
    unlimited: bool = False
    """Answers come without limits: only pauses hold."""
    last_spread_s: float = 0.0
    """The last call of the classes that are spread."""
    served_s: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0, 0.0])
    """The last call of each class."""
    strangers_per_s: float = 0.0
    """Calls of other programs with our client id, a second, smoothed."""
    strangers_seen_s: float = 0.0
    """Over how many seconds they were looked for, as far as that matters."""
    strangers_burst: float = 0.0
    """The most of them that one answer lately revealed, fading."""
    waiters: list[Waiter] = []
    hosts: dict[str, float] = {}
    """Host → when it last asked."""
    sent: list[Sent] = []
    """Our calls of the last hour, oldest first."""
    share: float = 1.0
    """The part of the limits that is ours while we cannot ask those who share it."""

    def shift(self, seconds: float) -> None:
        """Move every time: the clock was changed by so much."""
        for window in (self.hourly, self.spike):
            window.reset_at_s = _moved(window.reset_at_s, seconds)
            window.told_reset_s = _moved(window.told_reset_s, seconds)
            window.told_at_s = _moved(window.told_at_s, seconds)
        for name in ("clock_s", "doubtful_until_s", "paused_until_s", "last_spread_s"):
            setattr(self, name, _moved(getattr(self, name), seconds))
        self.served_s = [_moved(time_s, seconds) for time_s in self.served_s]
        self.recent = [time_s + seconds for time_s in self.recent]
        for sent in self.sent:
            sent.first_s += seconds
            sent.last_s += seconds
        self.hosts = {host: time_s + seconds for host, time_s in self.hosts.items()}
        for permit in self.permits:
            permit.taken_s += seconds
        for waiter in self.waiters:
            waiter.arrived_s += seconds
            waiter.wakes_at_s += seconds


def _moved(time_s: float, seconds: float) -> float:
    # a time before 0 would read as "none": it is long past anyway
    return max(time_s + seconds, 1e-9) if time_s else 0.0


def fresh(hourly_s: float = HOURLY_S, spike_s: float = SPIKE_S) -> State:
    """A budget of which nothing is known: the published limits, and a careful start."""
    return State(
        hourly=Window(HOURLY_LIMIT, hourly_s, HOURLY_LIMIT, sure=CAREFUL_START),
        spike=Window(SPIKE_LIMIT, spike_s, SPIKE_LIMIT),
    )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def encode(state: State) -> bytes:
    """The record."""
    return _encoder.encode(state)


def decode(record: bytes) -> State | None:
    """What the record holds; None when it cannot be understood (damage, another release)."""
    try:
        return _decoder.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
