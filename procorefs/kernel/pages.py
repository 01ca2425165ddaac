"""Which handles of a file go past the kernel's pages: those of who only writes, and all that come meanwhile.

The kernel keeps what goes through a mount in pages of its own, beside those of the staged file or the cache. For who
only writes that is a copy for nothing, and the dearest part of a large write. But pages and writes past them do not
agree while both happen: so a file has handles with pages, or handles that write past them, and never both.
"""

from collections import Counter

from procorefs.tree.nodes import Inode


class Pages:
    """Counts the handles of each inode; whoever opens is told whether to go past the pages."""

    def __init__(self) -> None:
        self._with_pages: Counter[Inode] = Counter()
        self._writing_past: Counter[Inode] = Counter()

    def enter(self, inode: Inode, *, reads: bool, writes: bool) -> bool:
        """One handle more; True: it goes past the pages."""
        goes_past = inode in self._writing_past or (writes and not reads and inode not in self._with_pages)
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
