"""Keeps the mtime of folders whose entries changed: shown at once, stored a moment later, many at once."""

import logging
import sqlite3
from collections.abc import Callable, Mapping

import trio

from procorefs.storage import clocks
from procorefs.tree.nodes import Inode

log = logging.getLogger(__name__)

GATHER_S = 2.0
"""Changed times are stored after this time, because creating a thousand files in a folder changes its mtime a
thousand times."""


class FolderTimes:
    """The changed mtimes of folders that are not stored yet."""

    def __init__(self) -> None:
        self._changed_ns: dict[Inode, int] = {}
        self._wake = trio.Event()

    def changed(self, folder: Inode) -> None:
        """Note that an entry was added to the folder, removed from it or renamed in it."""
        self._changed_ns[folder] = clocks.file_ns()
        self._wake.set()

    def of(self, folder: Inode) -> int | None:
        return self._changed_ns.get(folder)

    def forget(self, folder: Inode) -> None:
        """Forget a folder whose times were set or stored."""
        self._changed_ns.pop(folder, None)

    async def run(
        self,
        keep: Callable[[Mapping[Inode, int]], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Pass the times to `keep` until cancelled, and once more at the end."""
        task_status.started()
        try:
            while True:
                await self._wake.wait()
                await trio.sleep(GATHER_S)
                self._keep(keep)
        finally:
            self._keep(keep)

    def _keep(self, keep: Callable[[Mapping[Inode, int]], None]) -> None:
        self._wake = trio.Event()
        try:
            keep(dict(self._changed_ns))
        except sqlite3.Error as error:
            log.warning("The times of folders could not be written down: %s", error)
