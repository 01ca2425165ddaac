"""Which handles of a file go past the kernel's pages: those of who only writes, and all that come meanwhile.

The kernel keeps what goes through a mount in pages of its own, beside those of the staged file or the cache. For who
only writes that is a copy for nothing, and the dearest part of a large write. But pages and writes past them do not
agree while both happen: so a file has handles with pages, or handles that write past them, and never both. Pages that
somebody left behind are dropped by such a write since Linux 6.6; an older kernel would go on reading them, so there
every handle has pages. (fuse_direct_io in fs/fuse/file.c)
"""

import os
import re
from collections import Counter

from procorefs.tree.nodes import Inode

_DROPS_PAGES = (6, 6)


def writes_drop_pages(release: str) -> bool:
    """Whether a kernel of that release (uname -r) drops the pages that a write past them makes stale."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _DROPS_PAGES


class DirectIo:
    """Counts the handles of each inode; whoever opens is told whether to go past the pages."""

    def __init__(self, release: str | None = None) -> None:
        self._may_go_past = writes_drop_pages(os.uname().release if release is None else release)
        self._with_pages: Counter[Inode] = Counter()
        self._writing_past: Counter[Inode] = Counter()

    def enter(self, inode: Inode, *, reads: bool, writes: bool) -> bool:
        """One handle more; True: it goes past the pages."""
        only_writes = writes and not reads and self._may_go_past
        goes_past = inode in self._writing_past or (only_writes and inode not in self._with_pages)
        if not goes_past:
            self._with_pages[inode] += 1
        elif writes:
            self._writing_past[inode] += 1
        return goes_past

    def leave(self, inode: Inode, *, goes_past: bool, writes: bool) -> None:
        """One handle less."""
        if not goes_past:
            _less(self._with_pages, inode)
        elif writes:
            _less(self._writing_past, inode)


def _less(counter: Counter[Inode], inode: Inode) -> None:
    counter[inode] -= 1
    if not counter[inode]:
        del counter[inode]
