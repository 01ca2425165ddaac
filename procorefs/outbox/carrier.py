"""Carries out one change: compares what is wanted with what Procore has, and makes the calls for the difference.

    change ─▶ gone? ─▶ DELETE            ─▶ answer ─▶ the tree, under the change's inode ─▶ nothing left to want?
           ─▶ folder? ─▶ POST or PATCH
           ─▶ file: bytes to the storage ─▶ POST or PATCH, place and fields along with it

Programs go on changing the same change meanwhile: after every await it is looked at again, an answer settles only what
was sent, and what differs still is sent next. A call whose answer was lost is looked into before anything is repeated.
"""

from procorefs.outbox.change import GONE, Place, Wishes
from procorefs.outbox.file_calls import FileCalls
from procorefs.outbox.folder_calls import FolderCalls
from procorefs.outbox.keeper import is_trace
from procorefs.outbox.verdicts import Blocked
from procorefs.procore.changes import FileChange, FolderChange
from procorefs.tree.names import marked
from procorefs.tree.nodes import Inode


class Carrier(FolderCalls, FileCalls):
    """One change at a time and call; `carry_out` may run for several inodes at once."""

    async def carry_out(self, inode: Inode) -> None:
        """Take the change a call further. Raises Blocked, Refused, Superseded, ProcoreError, the staging's errors."""
        change = self._view.change(inode)
        if change is None:
            return
        known = self._known(change)
        if is_trace(change):
            await self._strays.find(change)
        elif change.place is GONE:
            await self._remover.remove(change, known)
        elif change.is_folder:
            await self._folder(change, known)
        else:
            await self._file(change, known)

    def blocker(self, inode: Inode) -> Inode | None:
        """The inode whose change must be carried out first; None: this one may go."""
        change = self._view.change(inode)
        if change is None:
            return None
        try:
            if is_trace(change):
                self._strays.check(change)
            elif change.place is GONE:
                self._remover.check(change, self._known(change))
            else:
                self._check_way(change, self._target(change, self._known(change)))
        except Blocked as blocked:
            return blocked.by
        return None

    async def step_aside(self, inode: Inode) -> None:
        """Give a document another name for a moment: two that swap names would wait for each other for ever."""
        change = self._view.change(inode)
        known = self._known(change) if change is not None else None
        if change is None or known is None or change.document is None or known.node.parent is None:
            return
        name = marked(known.name, str(change.document)).decode("utf-8", "replace")
        parent = known.node.parent
        document_id = change.document
        self._check_way(change, None)
        with self._own.call(document_id) as request:
            with self._flights.of(inode, document_id, Place(parent, name)):
                if change.is_folder:
                    document = await self._changes.update_folder(
                        document_id, FolderChange(name=name), on_sent=request.sent
                    )
                else:
                    document = await self._changes.update_file(
                        document_id, FileChange(name=name), on_sent=request.sent
                    )
            self._settling.arrived(change, document, parent, wishes=Wishes())
