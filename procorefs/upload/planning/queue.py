"""Orders changes by the time at which they may be sent, and records which change waits for which.

    touched ─▶ fresh ─▶ (due.py decides the time) ─▶ heap ─▶ due ─▶ sending ─▶ touched again

It knows inodes and times, and not what is sent.
"""

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field

import trio

from procorefs.storage.events import EventSource
from procorefs.tree.nodes import Inode
from procorefs.upload.planning.plan import Goal, Wait


@dataclass(slots=True)
class Queue:
    """The queue; all its times are trio's."""

    fresh: set[Inode] = field(default_factory=set)
    """The inodes that were touched since the scheduler's last round."""
    sending: set[Inode] = field(default_factory=set)
    """The inodes that a worker is sending."""
    blocked: dict[Inode, Wait] = field(default_factory=dict)
    """For each blocked inode, what it waits for."""
    fetching: set[Inode] = field(default_factory=set)
    """The inodes whose next try only fetches missing bytes."""
    stepping_aside: set[Inode] = field(default_factory=set)
    """The inodes whose next try gives their document a temporary name, to break a cycle."""
    changed: EventSource[Inode] = field(default_factory=EventSource)
    """Emits each inode whose change was touched or blocked: its item state or document may have changed."""
    gather_s: float = 0.0
    """Changes that are not urgent are gathered for this time."""
    _heap: list[tuple[float, int, Inode]] = field(default_factory=list)
    _due: dict[Inode, tuple[float, int]] = field(default_factory=dict)
    """The valid heap entry of each inode."""
    _behind: dict[Inode, set[Inode]] = field(default_factory=dict)
    """The inodes that each inode blocks."""
    _count: int = 0
    _wake: trio.Event = field(default_factory=trio.Event)
    _asleep: trio.CancelScope | None = None
    """The scope of the present sleep; None if it ends early enough."""

    def touched(self, inode: Inode, *, soon: bool = True) -> None:
        """Note that the change is new, altered or gone: it and those that waited for it are checked again.

        Without `soon` they are checked together with later ones, because the change is delayed in any case: a
        program that copies touches thousands of files a second, each three times.
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

    def all_touched(self, inodes: Collection[Inode]) -> None:
        """Note the changes of an earlier run, which wait for nothing yet."""
        self.fresh.update(inodes)
        for inode in inodes:
            self.changed.emit(inode)
        self._wake.set()

    def look_at(self, inode: Inode) -> None:
        """Check the change soon, without waking the changes that wait for it."""
        self.fresh.add(inode)
        self._wake.set()

    def take_goal(self, inode: Inode) -> Goal:
        """The purpose of the change's next try."""
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
        """At most that many fresh inodes, in no order."""
        if len(self.fresh) > most:
            return {self.fresh.pop() for _ in range(most)}
        fresh, self.fresh = self.fresh, set()
        return fresh

    def put(self, inode: Inode, due_s: float | None) -> None:
        """Set when the change may be sent; None if it may not as things are."""
        self.unblock(inode)
        if due_s is None:
            self._due.pop(inode, None)
            return
        self._count += 1
        self._due[inode] = (due_s, self._count)
        heapq.heappush(self._heap, (due_s, self._count, inode))

    def is_due(self, inode: Inode) -> bool:
        """Whether the change has a time at which it is sent or checked."""
        return inode in self._due

    def take_due(self, now_s: float) -> Inode | None:
        """The next change that may be sent now."""
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

    def block(self, inode: Inode, wait: Wait) -> None:
        """Block a change until the other one is touched."""
        self.blocked[inode] = wait
        self._behind.setdefault(wait.by, set()).add(inode)
        self.changed.emit(inode)

    def unblock(self, inode: Inode) -> None:
        waiting = self.blocked.pop(inode, None)
        if waiting is not None:
            behind = self._behind.get(waiting.by)
            if behind is not None:
                behind.discard(inode)

    def circle(self, inode: Inode) -> list[Inode]:
        """The changes in a cycle of waits with this one; empty if there is none."""
        members = [inode]
        while (waiting := self.blocked.get(members[-1])) is not None:
            if waiting.by == inode:
                return members
            if waiting.by in members:
                break
            members.append(waiting.by)
        return []

    async def something_new(self, until_s: float) -> None:
        """Wait until something is touched, or until that time."""
        with trio.move_on_at(until_s) as self._asleep:
            await self._wake.wait()
        self._asleep = None
        self._wake = trio.Event()
