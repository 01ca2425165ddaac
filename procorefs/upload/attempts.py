"""Records the tries of each change: which runs, which succeeded, why the last failed, when the next begins.

The scheduler writes it; commands and item states read it. It wakes tasks that wait for news of a change.
"""

import random
from collections import deque
from dataclasses import dataclass, field

import trio

from procorefs.journal.change import Change
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode
from procorefs.upload.outcomes import retry_pause_s

LONGEST_PAUSE_S = 30.0
"""While Procore cannot be reached, one try is made at least this often."""

MEASURED = 50
"""The pace is the mean of this number of successful tries."""

NEWS_WITHIN_S = 1.0
"""A task that waits for news of an inode checks again after this time in any case."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The bytes of a running try; newer bytes may replace them."""

    change: Change
    number: int | None
    """The number of the generation; None if its bytes must be fetched from another document first."""
    scope: trio.CancelScope
    began_s: float = field(default_factory=trio.current_time)
    """Trio's clock."""


class Attempts:
    """The tries by inode. Times are those of clocks.unix_s, as in changes."""

    def __init__(self) -> None:
        self.begun = 0
        """How many tries were begun, of all changes."""
        self.transfers: dict[Inode, Transfer] = {}
        """The running tries that send bytes."""
        self.missed: set[Inode] = set()
        """The changes that were touched while a try of them was running."""
        self.warning = ""
        """Why Procore cannot be reached at present, as Item.reason."""
        self.paused_until_s = 0.0
        """No try begins before this time of trio's clock."""
        self._troubles = 0  # in a row
        self._succeeded_s: deque[float] = deque(maxlen=MEASURED)  # by trio's clock
        self._done: dict[Inode, int] = {}
        self._errors: dict[Inode, Exception] = {}
        self._not_before_s: dict[Inode, float] = {}
        self._hurried: dict[Inode, float] = {}
        self._waiters: dict[Inode, list[trio.Event]] = {}

    def begin(self) -> int:
        """Record the begin of a try and return its number."""
        self.begun += 1
        return self.begun

    def succeeded(self, inode: Inode, number: int | None) -> None:
        """Record a success: earlier failures no longer delay this change or others.

        `number`: the try that sent all that was wanted; None if it was only a step towards that.
        """
        if number is not None:
            self._done[inode] = number
        self._not_before_s.pop(inode, None)
        self._troubles, self.paused_until_s, self.warning = 0, 0.0, ""
        self._succeeded_s.append(trio.current_time())

    def last_done(self, inode: Inode) -> int:
        """The number of the last try that sent all that was wanted; 0 if there is none."""
        return self._done.get(inode, 0)

    def pace_s(self) -> float | None:
        """Seconds that a change has taken lately; None if unknown."""
        times = self._succeeded_s
        return (trio.current_time() - times[0]) / len(times) if len(times) > 1 else None

    # Failures

    def failed(self, inode: Inode, error: Exception) -> None:
        """Record why the last try failed."""
        self._errors[inode] = error

    def error_of(self, inode: Inode) -> Exception | None:
        """Why the last try failed."""
        return self._errors.get(inode)

    def delay(self, inode: Inode, wait_s: float) -> None:
        """Let the next try begin after that many seconds."""
        self._not_before_s[inode] = clocks.unix_s() + wait_s

    def not_before_s(self, inode: Inode) -> float:
        """When the next try may begin; 0 means at any time."""
        return self._not_before_s.get(inode, 0.0)

    def pause(self, error: Exception) -> None:
        """Delay all tries, because the failure would affect every change."""
        self.warning = str(error)
        if trio.current_time() < self.paused_until_s:
            return  # this try had begun before the pause
        self._troubles += 1
        wait_s = min(retry_pause_s(self._troubles, random.random()), LONGEST_PAUSE_S)
        self.paused_until_s = trio.current_time() + wait_s

    # Hurry

    def hurry(self, inode: Inode, change: Change | None) -> None:
        """Send the change as it is now without its delay and without a pause after failures; later states wait
        again."""
        if change is not None:
            self._hurried[inode] = change.touched_at_s
        self._not_before_s.pop(inode, None)
        self._errors.pop(inode, None)  # the document may have been checked in meanwhile

    def skip_wait(self, change: Change) -> None:
        """Send the change without its delay, but not before its next try is due."""
        self._hurried[change.inode] = change.touched_at_s

    def is_hurried(self, change: Change) -> bool:
        """Whether the present state of the change was hurried."""
        return self._hurried.get(change.inode, -1.0) >= change.touched_at_s

    def was_hurried(self, inode: Inode) -> bool:
        """Whether the change or an earlier state of it was hurried, and no pause delays it."""
        return inode in self._hurried and inode not in self._not_before_s

    # News

    async def news_of(self, inode: Inode) -> None:
        """Wait until there is news of the change, at most a second."""
        event = trio.Event()
        self._waiters.setdefault(inode, []).append(event)
        with trio.move_on_after(NEWS_WITHIN_S):
            await event.wait()

    def tell(self, inode: Inode) -> None:
        """Wake the tasks that wait for news of the change."""
        for event in self._waiters.pop(inode, ()):
            event.set()

    def forget(self, inode: Inode) -> None:
        """Forget a change that has ended."""
        self._hurried.pop(inode, None)
        self._done.pop(inode, None)
        self._not_before_s.pop(inode, None)
        self.tell(inode)
