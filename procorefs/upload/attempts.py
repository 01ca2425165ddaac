"""What is known of the tries of each change: which runs, which succeeded, why the last failed, when the next begins.

It holds the numbers that the scheduler writes and that commands and states read, and wakes tasks that wait for news.
"""

import random
from collections import deque
from dataclasses import dataclass

import trio

from procorefs.journal.change import Change
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode
from procorefs.upload.outcomes import retry_pause_s

LONGEST_PAUSE_S = 30.0
"""While nothing gets through, one try is made at least this often."""

MEASURED = 50
"""The pace is measured by this number of tries that succeeded last."""

NEWS_WITHIN_S = 1.0
"""A task that waits for news of an inode looks again after this time, told or not."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes that are being sent; newer ones may replace them."""

    change: Change
    number: int | None
    """Of the generation; None: they are fetched from another document first."""
    scope: trio.CancelScope


class Attempts:
    """Tries by inode. Times are those of clocks.unix_s, as in changes."""

    def __init__(self) -> None:
        self.begun = 0
        """Tries that were begun, of all changes together."""
        self.transfers: dict[Inode, Transfer] = {}
        """The running tries that have bytes."""
        self.missed: set[Inode] = set()
        """Changes that were touched while a try of them was running."""
        self.warning = ""
        """Why nothing gets through at present, as Item.reason."""
        self.paused_until_s = 0.0
        """By trio's clock: no try begins before."""
        self._troubles = 0  # in a row
        self._succeeded_s: deque[float] = deque(maxlen=MEASURED)  # by trio's clock
        self._done: dict[Inode, int] = {}
        self._errors: dict[Inode, Exception] = {}
        self._not_before_s: dict[Inode, float] = {}
        self._hurried: dict[Inode, float] = {}
        self._waiters: dict[Inode, list[trio.Event]] = {}

    def begin(self) -> int:
        """The number of a try that begins."""
        self.begun += 1
        return self.begun

    def succeeded(self, inode: Inode, number: int | None) -> None:
        """A try has succeeded: earlier failures delay neither the change nor others.

        `number`: it has sent what was wanted; None: it was a step on the way to that.
        """
        if number is not None:
            self._done[inode] = number
        self._not_before_s.pop(inode, None)
        self._troubles, self.paused_until_s, self.warning = 0, 0.0, ""
        self._succeeded_s.append(trio.current_time())

    def last_done(self, inode: Inode) -> int:
        """The number of the last try that sent what was wanted; 0: none has."""
        return self._done.get(inode, 0)

    def pace_s(self) -> float | None:
        """Seconds that a change has taken lately; None: not known."""
        times = self._succeeded_s
        return (trio.current_time() - times[0]) / len(times) if len(times) > 1 else None

    # Failures

    def failed(self, inode: Inode, error: Exception) -> None:
        """Remember why the last try failed."""
        self._errors[inode] = error

    def error_of(self, inode: Inode) -> Exception | None:
        """Why the last try failed."""
        return self._errors.get(inode)

    def delay(self, inode: Inode, wait_s: float) -> None:
        """The next try begins after that many seconds."""
        self._not_before_s[inode] = clocks.unix_s() + wait_s

    def not_before_s(self, inode: Inode) -> float:
        """When the next try may begin; 0: at any time."""
        return self._not_before_s.get(inode, 0.0)

    def pause(self, error: Exception) -> None:
        """The failure is not about one change: no other one would get through either."""
        self.warning = str(error)
        if trio.current_time() < self.paused_until_s:
            return  # it was under way already when the others found that out
        self._troubles += 1
        wait_s = min(retry_pause_s(self._troubles, random.random()), LONGEST_PAUSE_S)
        self.paused_until_s = trio.current_time() + wait_s

    # Hurry

    def hurry(self, inode: Inode, change: Change | None) -> None:
        """The change as it is now waits neither for its time nor for its next try; a later one does."""
        if change is not None:
            self._hurried[inode] = change.touched_at_s
        self._not_before_s.pop(inode, None)
        self._errors.pop(inode, None)  # a document may have been checked in meanwhile

    def skip_wait(self, change: Change) -> None:
        """The change does not wait for its time, but still for its next try."""
        self._hurried[change.inode] = change.touched_at_s

    def is_hurried(self, change: Change) -> bool:
        """Whether the change as it is now was hurried."""
        return self._hurried.get(change.inode, -1.0) >= change.touched_at_s

    def was_hurried(self, inode: Inode) -> bool:
        """Whether the change, or an earlier state of it, was hurried and nothing delays it."""
        return inode in self._hurried and inode not in self._not_before_s

    # News

    async def news_of(self, inode: Inode) -> None:
        """Wait until something of the change is new, or a second."""
        event = trio.Event()
        self._waiters.setdefault(inode, []).append(event)
        with trio.move_on_after(NEWS_WITHIN_S):
            await event.wait()

    def tell(self, inode: Inode) -> None:
        """Something of the change is new."""
        for event in self._waiters.pop(inode, ()):
            event.set()

    def forget(self, inode: Inode) -> None:
        """There is no change any more."""
        self._hurried.pop(inode, None)
        self._done.pop(inode, None)
        self._not_before_s.pop(inode, None)
        self.tell(inode)
