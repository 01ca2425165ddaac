"""Whether the loop's thread waits for a disk: then it does not hang, however long that takes.

Small writes to staged files are made on the loop: handing each to a thread costs 15 times as much as the write itself
(31 µs beside 2 µs on ext4), and neither ext4 nor tmpfs take a buffered write with RWF_NOWAIT. A disk that stands still
in such a write must not end the mount (kernel/bridge/connection.py).
"""

from time import perf_counter

LONGEST_S = 600.0
"""A disk that takes longer is gone: the mount is ended then, for its programs could not even be killed."""


class DiskWait:
    """Marks one write after the other, made on one thread."""

    __slots__ = ("_since_s",)

    def __init__(self) -> None:
        self._since_s = 0.0

    def begins(self, now_s: float) -> None:
        """At this time of `perf_counter`."""
        self._since_s = now_s

    def ends(self) -> None:
        self._since_s = 0.0

    def goes_on(self) -> bool:
        """Whether one is under way. Asked on another thread."""
        since_s = self._since_s
        return since_s > 0 and perf_counter() - since_s < LONGEST_S


loop_waits = DiskWait()
"""Of the daemon's loop."""
