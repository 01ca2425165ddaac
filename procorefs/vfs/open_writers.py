"""Decides when a file that stays open for writing is sent as it is, and that its bytes are not complete yet.

    flushed, and not released within two seconds ─▶ the program goes on writing: not sent after a crash
    not written for a minute ─▶ a snapshot is sent, at most every 15 minutes

A log file is never closed, and would never be sent. A snapshot is what `sync` sends of such a file: its bytes at a
moment without a write under way. Bytes that are added before its upload begins are sent with it; overwritten bytes take
it back; a write during the upload goes to a copy.
"""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

import trio

from procorefs.journal.change import Change
from procorefs.journal.states import ChangeState
from procorefs.tree.nodes import Inode
from procorefs.vfs.dirty_files import DirtyFile, DirtyFiles
from procorefs.vfs.view import View
from procorefs.vfs.write_sessions import WriteSessions

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Interval of the check of files that are open for writing, in seconds. Without such a file there is no check."""

STAYS_OPEN_S = 2.0
"""The kernel sends RELEASE right after the last FLUSH without waiting for its answer; this much time may lie between.
"""

QUIET_S = 60.0
SNAPSHOT_EVERY_S = 900.0


@dataclass(slots=True)
class _Seen:
    """A file as the first check after its last write found it."""

    changed: int
    number: int
    since_s: float
    snapshot_at_s: float = float("-inf")


class OpenWriters:
    """Checks the files that are open for writing; `run` must run."""

    def __init__(
        self,
        view: View,
        dirty_files: DirtyFiles,
        sessions: WriteSessions,
        *,
        is_sendable: Callable[[Change], bool],
        send: Callable[[Inode], None],
    ) -> None:
        """`send` sends a change without its usual delay."""
        self._view = view
        self._dirty_files = dirty_files
        self._sessions = sessions
        self._is_sendable = is_sendable
        self._send = send
        self._seen: dict[Inode, _Seen] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            if not self._dirty_files.written:
                self._seen = {}
                await self._dirty_files.opened_for_writing()
            await trio.sleep(LOOK_S)
            self.look(trio.current_time())

    def look(self, now_s: float) -> None:
        """Check all of them; `now_s` is trio's time."""
        dirty_files = [self._dirty_files.get(inode) for inode in self._dirty_files.written]
        seen: dict[Inode, _Seen] = {}
        for dirty_file in dirty_files:
            if dirty_file is not None:
                seen[dirty_file.inode] = self._look_at(dirty_file, now_s)
        self._seen = seen

    def _look_at(self, dirty_file: DirtyFile, now_s: float) -> _Seen:
        seen = self._seen.get(dirty_file.inode) or _Seen(-1, -1, now_s)
        if (seen.changed, seen.number) != (
            dirty_file.file.changed,
            dirty_file.file.number,
        ) or dirty_file.file.is_changing:
            seen.changed, seen.number, seen.since_s = dirty_file.file.changed, dirty_file.file.number, now_s
        try:
            self._act_on(dirty_file, seen, now_s)
        except (OSError, sqlite3.Error) as error:  # a full disk: the next check or close tries again
            log.info("%s: %s", self._view.path(dirty_file.inode), error)
        return seen

    def _act_on(self, dirty_file: DirtyFile, seen: _Seen, now_s: float) -> None:
        if dirty_file.flushed_at_s is not None and now_s - dirty_file.flushed_at_s >= STAYS_OPEN_S:
            self._sessions.stays_open(dirty_file.inode)
        is_due = now_s - seen.since_s >= QUIET_S and now_s - seen.snapshot_at_s >= SNAPSHOT_EVERY_S
        if is_due and self._has_news(dirty_file):
            self._sessions.promise(dirty_file.inode)
            self._send(dirty_file.inode)
            seen.snapshot_at_s = now_s

    def _has_news(self, dirty_file: DirtyFile) -> bool:
        """Whether the file has bytes that Procore lacks and that may be sent; an empty file has none."""
        change = self._view.change(dirty_file.inode)
        if change is None or not dirty_file.file.size_bytes or not self._is_sendable(change):
            return False
        if change.state is ChangeState.INCOMPLETE:
            return False  # it waits for `retry` or `discard`
        return dirty_file.is_changed or (change.staged is not None and change.state is not ChangeState.FAILED)
