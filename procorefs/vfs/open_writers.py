"""Files that stay open for writing: told from those that were closed, and sent now and then as they are.

    flushed, and not released within two seconds ─▶ its program is at work still: not sent after a crash
    not written for a minute ─▶ a snapshot goes to Procore, every quarter of an hour at most

A log is never closed, and would never go to Procore. A snapshot is what `sync` sends of such a file: its bytes at a
moment at which nobody writes. What is added before its upload begins goes with it; what is written over takes it
back; and whoever writes during the upload gets a copy.
"""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

import trio

from procorefs.journal.change import Change, Stage
from procorefs.tree.nodes import Inode
from procorefs.vfs.dirty_files import DirtyFile, DirtyFiles
from procorefs.vfs.view import View
from procorefs.vfs.write_sessions import WriteSessions

log = logging.getLogger(__name__)

LOOK_S = 1.0
STAYS_OPEN_S = 2.0
"""The kernel sends RELEASE right after the last FLUSH, but waits for no answer of either."""

QUIET_S = 60.0
SNAPSHOT_EVERY_S = 900.0


@dataclass(slots=True)
class _Seen:
    """A file as it was when it was last written to, as far as was looked."""

    changed: int
    number: int
    since_s: float
    snapshot_at_s: float = float("-inf")


class OpenWriters:
    """Looks at what is open for writing; `run` must run. `send` lets a change go without waiting its time."""

    def __init__(
        self,
        view: View,
        drafts: DirtyFiles,
        sessions: WriteSessions,
        *,
        is_sendable: Callable[[Change], bool],
        send: Callable[[Inode], None],
    ) -> None:
        self._view = view
        self._drafts = drafts
        self._sessions = sessions
        self._is_sendable = is_sendable
        self._send = send
        self._seen: dict[Inode, _Seen] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await trio.sleep(LOOK_S)
            self.look(trio.current_time())

    def look(self, now_s: float) -> None:
        """At all of them, at that time of trio's."""
        drafts = [self._drafts.get(inode) for inode in self._drafts.written]
        seen: dict[Inode, _Seen] = {}
        for draft in drafts:
            if draft is not None:
                seen[draft.inode] = self._look_at(draft, now_s)
        self._seen = seen

    def _look_at(self, draft: DirtyFile, now_s: float) -> _Seen:
        seen = self._seen.get(draft.inode) or _Seen(-1, -1, now_s)
        if (seen.changed, seen.number) != (draft.file.changed, draft.file.number) or draft.file.is_changing:
            seen.changed, seen.number, seen.since_s = draft.file.changed, draft.file.number, now_s
        try:
            self._act_on(draft, seen, now_s)
        except (OSError, sqlite3.Error) as error:  # a full disk: the next look tries again, or the next close
            log.info("%s: %s", self._view.path(draft.inode), error)
        return seen

    def _act_on(self, draft: DirtyFile, seen: _Seen, now_s: float) -> None:
        if draft.flushed_at_s is not None and now_s - draft.flushed_at_s >= STAYS_OPEN_S:
            self._sessions.stays_open(draft.inode)
        is_due = now_s - seen.since_s >= QUIET_S and now_s - seen.snapshot_at_s >= SNAPSHOT_EVERY_S
        if is_due and self._has_news(draft):
            self._sessions.promise(draft.inode)
            self._send(draft.inode)
            seen.snapshot_at_s = now_s

    def _has_news(self, draft: DirtyFile) -> bool:
        """Whether there are bytes that Procore lacks, and that may go by themselves; an empty file says nothing yet."""
        change = self._view.change(draft.inode)
        if change is None or not draft.file.size_bytes or not self._is_sendable(change):
            return False
        if change.stage is Stage.INCOMPLETE:
            return False  # that waits for somebody to say what to do
        return draft.is_changed or (change.staged is not None and change.stage is not Stage.FAILED)
