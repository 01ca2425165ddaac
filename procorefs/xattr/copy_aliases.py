"""Two names of one value in one copy: `user.procore.*` wins, and the one that the source lacks takes nothing away.

A copy tool sets all that its source has, one after the other in whatever order, and rsync then removes what the target
has beyond that. So what one thread did to one name a moment ago says what its next step at the other one means. Who
looks at the value between the two steps means each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cachetools
import trio

from procorefs.tree.nodes import Inode
from procorefs.xattr.attribute_names import PROCORE, TWINS

ONE_COPY_S = 10.0
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Step:
    """The last thing that was done to a pair of names."""

    name: str
    is_set: bool


class CopyAliases:
    """Remembers for a moment who did what; `thread` is the caller's."""

    def __init__(self, time_s: Callable[[], float] = trio.current_time) -> None:
        self._last: cachetools.TTLCache[tuple[int, Inode, str], Step] = cachetools.TTLCache(
            REMEMBERED, ONE_COPY_S, timer=time_s
        )

    def looked(self, thread: int, inode: Inode, name: str) -> None:
        if name in TWINS:
            self._last.pop((thread, inode, _pair(name)), None)

    def did(self, thread: int, inode: Inode, name: str, *, is_set: bool) -> None:
        if name in TWINS:
            self._last[thread, inode, _pair(name)] = Step(name, is_set)

    def is_superseded(self, thread: int, inode: Inode, name: str) -> bool:
        """Whether a value for that name came after the one that wins."""
        last = self._other(thread, inode, name)
        return last is not None and last.is_set and last.name.startswith(PROCORE)

    def is_removed_with_its_twin(self, thread: int, inode: Inode, name: str) -> bool:
        last = self._other(thread, inode, name)
        return last is not None and not last.is_set

    def is_only_beyond_the_source(self, thread: int, inode: Inode, name: str) -> bool:
        """Whether its removal means just that the source has the other name only."""
        last = self._other(thread, inode, name)
        return last is not None and last.is_set

    def _other(self, thread: int, inode: Inode, name: str) -> Step | None:
        """The last step, if it was about the other name."""
        if name not in TWINS:
            return None
        last = self._last.get((thread, inode, _pair(name)))
        return last if last is not None and last.name != name else None


def _pair(name: str) -> str:
    return name if name.startswith(PROCORE) else TWINS[name]
