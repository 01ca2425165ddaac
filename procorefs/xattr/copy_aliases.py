"""Decides what a copy tool means that sets or removes both names of one value, one after the other.

A copy tool sets all attributes that its source has, in any order, and rsync then removes what only the target has. So
what a thread did to one name a moment ago says what its next step at the other name means: `user.procore.*` wins, and a
name that the source lacks removes nothing. A program that reads the value between two steps means each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cachetools
import trio

from procorefs.tree.nodes import Inode
from procorefs.xattr.attribute_names import ALIASES, PROCORE

ONE_COPY_S = 10.0
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Step:
    """The last thing that was done to a pair of names."""

    name: str
    is_set: bool


class CopyAliases:
    """Remembers the last step of each thread for a moment."""

    def __init__(self, time_s: Callable[[], float] = trio.current_time) -> None:
        self._last: cachetools.TTLCache[tuple[int, Inode, str], Step] = cachetools.TTLCache(
            REMEMBERED, ONE_COPY_S, timer=time_s
        )

    def looked(self, thread: int, inode: Inode, name: str) -> None:
        if name in ALIASES:
            self._last.pop((thread, inode, _pair(name)), None)

    def did(self, thread: int, inode: Inode, name: str, *, is_set: bool) -> None:
        if name in ALIASES:
            self._last[thread, inode, _pair(name)] = Step(name, is_set)

    def is_superseded(self, thread: int, inode: Inode, name: str) -> bool:
        """Whether the name that wins was set before: a value for this one is ignored."""
        last = self._other(thread, inode, name)
        return last is not None and last.is_set and last.name.startswith(PROCORE)

    def is_removed_with_alias(self, thread: int, inode: Inode, name: str) -> bool:
        """Whether the other name was removed before, and the value with it."""
        last = self._other(thread, inode, name)
        return last is not None and not last.is_set

    def is_lacking_in_source(self, thread: int, inode: Inode, name: str) -> bool:
        """Whether the other name was set before: the source has only that one, and the value stays."""
        last = self._other(thread, inode, name)
        return last is not None and last.is_set

    def _other(self, thread: int, inode: Inode, name: str) -> Step | None:
        """The last step, if it was about the other name."""
        if name not in ALIASES:
            return None
        last = self._last.get((thread, inode, _pair(name)))
        return last if last is not None and last.name != name else None


def _pair(name: str) -> str:
    return name if name.startswith(PROCORE) else ALIASES[name]
