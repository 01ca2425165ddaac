"""Decides what it means when a copy tool sets or removes both names of one value, one after the other.

A copy tool sets all attributes of its source in any order, and rsync then removes those that only the target has. So
the last step of a thread at one name decides what its next step at the other name means: `user.procore.*` takes
precedence, and a name that the source lacks removes nothing. If a program reads the value between two steps, each
step counts by itself.
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
    """The last step at a pair of names."""

    name: str
    is_set: bool


class CopyAliases:
    """Keeps the last step of each thread for a short time."""

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
        """Whether the name that takes precedence was just set: a value for this name is ignored."""
        last = self._other(thread, inode, name)
        return last is not None and last.is_set and last.name.startswith(PROCORE)

    def is_removed_with_alias(self, thread: int, inode: Inode, name: str) -> bool:
        """Whether the other name, and so the value, was just removed."""
        last = self._other(thread, inode, name)
        return last is not None and not last.is_set

    def is_lacking_in_source(self, thread: int, inode: Inode, name: str) -> bool:
        """Whether the other name was just set: the source has only that one, and the value stays."""
        last = self._other(thread, inode, name)
        return last is not None and last.is_set

    def _other(self, thread: int, inode: Inode, name: str) -> Step | None:
        """The last step, if it was at the other name."""
        if name not in ALIASES:
            return None
        last = self._last.get((thread, inode, _pair(name)))
        return last if last is not None and last.name != name else None


def _pair(name: str) -> str:
    return name if name.startswith(PROCORE) else ALIASES[name]
