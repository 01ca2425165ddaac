"""The queue of changes: each by the time at which it may be sent, and by the change that it waits for.

    touched ─▶ fresh ─▶ (due.py: when may it go?) ─▶ heap ─▶ due ─▶ sending ─▶ touched again

It knows inodes and times, and nothing of what is sent.
"""

import heapq
from dataclasses import dataclass, field

import trio

from procorefs.storage.events import EventSource
from procorefs.tree.nodes import Inode
from procorefs.upload.planning.plan import Goal


@dataclass(slots=True)
class Waiting:
    """What a blocked change waits for."""

    by: Inode
    why: str


@dataclass(slots=True)
class Queue:
    """All times are trio's."""

    fresh: set[Inode] = field(default_factory=set)
    """Touched since the scheduler last looked."""
    sending: set[Inode] = field(default_factory=set)
    """A worker is busy with them."""
    blocked: dict[Inode, Waiting] = field(default_factory=dict)
    """What each of them waits for."""
    fetching: set[Inode] = field(default_factory=set)
    """Only what is missing of their bytes is fetched next: the document that has them waits for that."""
    stepping_aside: set[Inode] = field(default_factory=set)
    """They wait for each other: their document gets another name for a moment."""
    changed: EventSource[Inode] = field(default_factory=EventSource)
    """Emits each inode whose change was touched or blocked: its item state or its document may be another now."""
    gather_s: float = 0.0
    """Changes that need not be looked at soon are gathered for this time."""
    _heap: list[tuple[float, int, Inode]] = field(default_factory=list)
    _due: dict[Inode, tuple[float, int]] = field(default_factory=dict)
    """The valid entry of each in the heap."""
    _behind: dict[Inode, set[Inode]] = field(default_factory=dict)
    """The changes that each inode blocks."""
    _count: int = 0
    _wake: trio.Event = field(default_factory=trio.Event)
    _asleep: trio.CancelScope | None = None
    """The sleep until something new; None: it ends early enough."""

    def touched(self, inode: Inode, *, soon: bool = True) -> None:
        """Something about the change is new, or it is gone: look at it, and at what waited for it.

        Not `soon`: it has to wait in any case, so it is looked at together with the next ones. A program
        that copies touches thousands of files a second, each of them three times.
        """
        self.fresh.add(inode)
        self.changed.emit(inode)
        if self._behind:
            for other in self._behind.pop(inode, ()):
                self.blocked.pop(other, None)
                self.fresh.add(other)
        if soon:
            self._wake.set()
        elif self._asleep is not None:
            self._asleep.deadline = min(self._asleep.deadline, trio.current_time() + self.gather_s)
            self._asleep = None

    def look_at(self, inode: Inode) -> None:
        """Look at the change soon; nothing about it is new to the changes that wait for it."""
        self.fresh.add(inode)
        self._wake.set()

    def take_goal(self, inode: Inode) -> Goal:
        """What the next try of the change is for."""
        if inode in self.stepping_aside:
            self.stepping_aside.discard(inode)
            return Goal.STEP_ASIDE
        if inode in self.fetching:
            self.fetching.discard(inode)
            return Goal.FETCH
        return Goal.SEND

    def wake(self) -> None:
        self._wake.set()

    def take_fresh(self, most: int) -> set[Inode]:
        """At most so many of them, in no order."""
        if len(self.fresh) > most:
            return {self.fresh.pop() for _ in range(most)}
        fresh, self.fresh = self.fresh, set()
        return fresh

    def put(self, inode: Inode, due_s: float | None) -> None:
        """Set when it may be sent; None: not as things stand."""
        self.unblock(inode)
        if due_s is None:
            self._due.pop(inode, None)
            return
        self._count += 1
        self._due[inode] = (due_s, self._count)
        heapq.heappush(self._heap, (due_s, self._count, inode))

    def is_due(self, inode: Inode) -> bool:
        """Whether there is a time at which it goes, or is looked at."""
        return inode in self._due

    def take_due(self, now_s: float) -> Inode | None:
        """The next one that may go now."""
        while self._heap and self._heap[0][0] <= now_s:
            due_s, count, inode = heapq.heappop(self._heap)
            if self._due.get(inode) == (due_s, count):
                del self._due[inode]
                return inode
        return None

    def next_due_s(self) -> float:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def block(self, inode: Inode, by: Inode, why: str) -> None:
        """It waits until the other one is touched."""
        self.blocked[inode] = Waiting(by, why)
        self._behind.setdefault(by, set()).add(inode)
        self.changed.emit(inode)

    def unblock(self, inode: Inode) -> None:
        waiting = self.blocked.pop(inode, None)
        if waiting is not None:
            behind = self._behind.get(waiting.by)
            if behind is not None:
                behind.discard(inode)

    def circle(self, inode: Inode) -> list[Inode]:
        """The changes that wait for each other in a circle with this one; empty: there is no circle."""
        members = [inode]
        while (waiting := self.blocked.get(members[-1])) is not None:
            if waiting.by == inode:
                return members
            if waiting.by in members:
                break
            members.append(waiting.by)
        return []

    async def something_new(self, until_s: float) -> None:
        """Return when something was touched, or at that time."""
        with trio.move_on_at(until_s) as self._asleep:
            await self._wake.wait()
        self._asleep = None
        self._wake = trio.Event()
