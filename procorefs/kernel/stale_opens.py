"""Opens that were answered with Stale: the kernel looks the whole path up again and opens what it finds, once.

What that second lookup finds may be replaced again before the open that follows. So it counts as open from the lookup
on: it lives on, unlinked, with its bytes, and the open succeeds as if it had come before the one that replaced it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from procorefs.tree.nodes import Inode
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View

SECOND_TRY_S = 1.0
"""The kernel tries again at once; a program that was killed meanwhile does not."""


@dataclass(slots=True)
class Retry:
    """A thread that was sent back."""

    at_s: float
    opens: bool
    """A file is being opened: whatever is asked for otherwise needs no handle."""
    found: Inode | None = None
    """The file that the second lookup found; it counts as open."""


class Retries:
    """Threads that are about to try again, by their ids; `nobody_inside` is called when a file is left."""

    def __init__(self, view: View, drafts: DirtyFiles, nobody_inside: Callable[[Inode], None]) -> None:
        self._view = view
        self._drafts = drafts
        self._nobody_inside = nobody_inside
        self._expected: dict[int, Retry] = {}

    def send_back(self, tid: int, *, opens: bool) -> None:
        """It is answered with Stale."""
        self._forget_old()
        self._expected[tid] = Retry(trio.current_time(), opens)

    def found(self, tid: int, inode: Inode) -> None:
        """A lookup has found a file. Raises StagedIncomplete, OSError."""
        if not self._expected:
            return
        self._forget_old()
        retry = self._expected.get(tid)
        if retry is None or not retry.opens or retry.found == inode:
            return
        change = self._view.change(inode)
        self._drafts.find(inode, change.shown if change is not None else None)
        self._drafts.enter(inode, writes=False)
        before, retry.found = retry.found, inode
        self._leave(before)

    @contextmanager
    def coming(self, tid: int) -> Iterator[Retry | None]:
        """While a request is answered: the second try that it is; None: it is a first one."""
        if self._expected:
            self._forget_old()
        retry = self._expected.pop(tid, None)
        try:
            yield retry
        finally:
            if retry is not None:
                self._leave(retry.found)

    def _leave(self, inode: Inode | None) -> None:
        if inode is None:
            return
        self._drafts.leave(inode, writes=False)
        if not self._drafts.is_open(inode):
            self._nobody_inside(inode)

    def _forget_old(self) -> None:
        """Those that never came."""
        oldest_s = trio.current_time() - SECOND_TRY_S
        for tid in [tid for tid, retry in self._expected.items() if retry.at_s < oldest_s]:
            self._leave(self._expected.pop(tid).found)
