"""Finds the node of a request, after a due poll, and makes an open that got ESTALE succeed at its second try.

After ESTALE for an open, the kernel looks the whole path up again and opens what it finds, once. That file may be
replaced again before the open. So it counts as open from the second lookup on: it stays, unlinked, with its bytes, and
the open succeeds as if it had come before the replacement.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from procorefs.kernel.bridge.notifications import Notifier
from procorefs.kernel.errno_table import NameTooLong, NoEntry, Stale
from procorefs.locks.lock_files import FIRST_LOCK_FILE
from procorefs.procore.api.brief_wait import NoAnswerYet
from procorefs.project import Project, Projects
from procorefs.tree.naming.name_rules import MAX_COMPONENT_BYTES
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.vfs.view import find_child

SECOND_TRY_S = 1.0
"""The kernel tries again immediately, unless the program was killed meanwhile."""


@dataclass(slots=True)
class SecondTry:
    """The request that a thread is expected to repeat."""

    at_s: float
    opens: bool
    """Whether it opens a file: any other request needs no handle."""
    found: Inode | None = None
    """The file of the second lookup, which counts as open."""


class StaleOpens:
    """Threads whose request got ESTALE and will be repeated, by thread id."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects
        self._expected: dict[int, SecondTry] = {}

    @property
    def is_any_expected(self) -> bool:
        """Whether a request may be a repeated one."""
        return bool(self._expected)

    def expect(self, tid: int, *, opens: bool) -> None:
        """Note that a request of this thread gets ESTALE."""
        self._forget_old()
        self._expected[tid] = SecondTry(trio.current_time(), opens)

    def found(self, tid: int, inode: Inode) -> None:
        """A lookup of this thread has found a file. Raises StagedIncomplete, OSError."""
        if not self._expected:
            return
        self._forget_old()
        second_try = self._expected.get(tid)
        if second_try is None or not second_try.opens or second_try.found == inode:
            return
        project = self._projects.of(inode)
        change = project.view.change(inode)
        project.changes.dirty_files.find(inode, change.shown if change is not None else None)
        project.changes.dirty_files.enter(inode, writes=False)
        before, second_try.found = second_try.found, inode
        self._leave(before)

    @contextmanager
    def second_try(self, tid: int) -> Iterator[SecondTry | None]:
        """For the block of a `with` that answers a request: the second try, or None if it is no repeated request."""
        if self._expected:
            self._forget_old()
        second_try = self._expected.pop(tid, None)
        try:
            yield second_try
        finally:
            if second_try is not None:
                self._leave(second_try.found)

    def _leave(self, inode: Inode | None) -> None:
        if inode is not None:
            changes = self._projects.of(inode).changes
            changes.dirty_files.leave(inode, writes=False)
            changes.drop_if_closed(inode)

    def _forget_old(self) -> None:
        """Drop expected requests that did not come in time."""
        oldest_s = trio.current_time() - SECOND_TRY_S
        for tid in [tid for tid, second_try in self._expected.items() if second_try.at_s < oldest_s]:
            self._leave(self._expected.pop(tid).found)


class NodeLookup:
    """Nodes by number, by name, and for an open."""

    def __init__(self, projects: Projects, notifier: Notifier) -> None:
        self._projects = projects
        self._notifier = notifier
        self.stale_opens = StaleOpens(projects)

    def node(self, inode: Inode) -> Node:
        """The node of an inode that is in the tree or open. Raises Stale."""
        project = self._projects.of(inode)
        node = project.view.by_inode(inode) or project.locks.lock_files.node(inode)
        if node is None:
            raise Stale
        return node

    def entry_now(self, folder: Inode, name: bytes, tid: int) -> Node | None:
        """An entry of a folder, for lookup; None: its name is unknown, and `entry` waits for Procore.

        Raises NameTooLong, NoEntry, Stale.
        """
        if len(name) > MAX_COMPONENT_BYTES:
            raise NameTooLong
        if name in (b".", b".."):
            return self._dot(folder, name)
        project = self._projects.of(folder)
        node = project.view.entry(folder, name)
        if node is None:
            if not project.follower.is_listed(folder) or project.follower.poll_is_due():
                return None
            node = self._lock_file(project, folder, name)
            if node is None:
                raise NoEntry
        return self._found(node, tid)

    async def entry(self, folder: Inode, name: bytes, tid: int) -> Node:
        """The same after the folder's listing or a due poll. Raises NoAnswerYet if the folder's entries are unknown."""
        return self._found(await self._find(folder, name), tid)

    def _found(self, node: Node, tid: int) -> Node:
        if not node.is_folder:
            self.stale_opens.found(tid, node.inode)
        return node

    @staticmethod
    def _lock_file(project: Project, folder: Inode, name: bytes) -> Node | None:
        return project.locks.lock_files.find(folder, project.view.names.to_procore(folder, name))

    def _dot(self, inode: Inode, name: bytes) -> Node:
        """The node of an inode, or its folder: file servers find documents by inode number across restarts."""
        project, node = self._projects.of(inode), self.node(inode)
        if inode >= FIRST_LOCK_FILE:
            return node
        if not project.view.reachable(inode) and not project.changes.dirty_files.is_open(inode):
            raise Stale
        if name == b".":
            return node
        above = project.view.parent(inode)
        return self.node(above[0] if above is not None else ROOT)

    async def _find(self, folder: Inode, name: bytes) -> Node:
        project = self._projects.of(folder)
        late: NoAnswerYet | None = None
        try:
            node = await project.brief_wait.of(
                partial(find_child, project.view, project.follower, folder, name)
            )
        except NoAnswerYet as error:
            node, late = project.view.entry(folder, name), error
        node = node or self._lock_file(project, folder, name)
        if node is None and late is not None and not project.follower.is_listed(folder):
            raise late
        if node is None:
            raise NoEntry
        return node

    async def poll_if_due(self, inode: Inode, tid: int) -> None:
        """Wait for a due poll; a repeated request needs none. Raises Stale as `_poll` does."""
        with self.stale_opens.second_try(tid) as second_try:
            if second_try is None:
                await self._poll(inode, tid, opens=False)

    async def _poll(self, inode: Inode, tid: int, *, opens: bool) -> None:
        """Wait for a due poll. Raises Stale if the poll moved or removed the inode.

        The kernel has used a cached name: after ESTALE it looks the whole path up again, once.
        """
        project = self._projects.of(inode)
        if project.follower.poll_is_due():
            before = project.view.place(inode)
            await project.follower.poll_if_due()
            if project.view.place(inode) != before:
                self.stale_opens.expect(tid, opens=opens)
                raise Stale

    def to_open_now(self, inode: Inode) -> Node | None:
        """What `to_open` would return for a first try if it need not wait, as for most opens; else None."""
        project = self._projects.of(inode)
        if (
            self.stale_opens.is_any_expected
            or self._notifier.drops_entries
            or not self._notifier.is_settled(inode)
            or project.follower.poll_is_due()
            or not project.view.reachable(inode)
        ):
            return None
        return project.view.by_inode(inode)

    async def to_open(self, inode: Inode, tid: int, second_try: SecondTry | None) -> Node:
        """The node of a file for an open; no await between its return and the handle.

        Waits for a due poll, then for notifications about the inode. Raises Stale for a replaced file, and while
        entries are being dropped, because the name may be another file's by now: the kernel looks
        the name up and opens what it finds, once. The second try may get the version that was the newest just before.
        """
        if second_try is None:
            may_be_another = self._notifier.drops_entries
            await self._poll(inode, tid, opens=True)
            if may_be_another:
                self.stale_opens.expect(tid, opens=True)
                raise Stale
        await self._notifier.settled(inode)
        # No await from here on: the version must not be replaced before the inode counts as open.
        project = self._projects.of(inode)
        node = project.view.by_inode(inode)
        if node is not None and self._may_open(project, inode, second_try):
            return node
        if second_try is not None:
            raise NoEntry
        self.stale_opens.expect(tid, opens=True)
        raise Stale

    @staticmethod
    def _may_open(project: Project, inode: Inode, second_try: SecondTry | None) -> bool:
        return project.view.reachable(inode) or (second_try is not None and second_try.found == inode)
