"""Carries out one change: compares what is wanted with what Procore has, and makes the calls for the difference.

    change ─▶ gone? ─▶ DELETE            ─▶ answer ─▶ the tree, under the change's inode ─▶ nothing left to want?
           ─▶ folder? ─▶ POST or PATCH
           ─▶ file: bytes to the storage ─▶ POST or PATCH, place and fields along with it

Programs go on changing the same change meanwhile: after every await it is looked at again, an answer settles only what
was sent, and what differs still is sent next. A call whose answer was lost is looked into before anything is repeated.
"""

from procorefs.journal.change import GONE, Location, MetadataPatch
from procorefs.journal.in_flight_calls import Sending
from procorefs.procore.api.changes import FileChange, FolderChange
from procorefs.procore.errors import NotFound
from procorefs.procore.wire.models import DocumentId
from procorefs.tree.naming.name_rules import MAX_PATH_CHARACTERS
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.rows import Known
from procorefs.upload.outcomes import Blocked
from procorefs.upload.sending.file_calls import FileCalls
from procorefs.upload.sending.folder_calls import FolderCalls


class ChangeSender(FolderCalls, FileCalls):
    """One change at a time and call; `carry_out` may run for several inodes at once."""

    async def carry_out(self, inode: Inode) -> None:
        """Take the change a call further. Raises Blocked, Refused, Superseded, ProcoreError, the staging's errors."""
        change = self._view.change(inode)
        if change is None:
            return
        call = self._confirmer.next_of(change)
        if call is not None:
            await self._confirmer.confirm(change, call)
            return  # the change is looked at again
        known = self._known(change)
        if change.place is GONE:
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
        if self._calls.given_up(inode, change.document):
            return None  # what became of them is found out first
        try:
            if change.place is GONE:
                self._remover.check(change, self._known(change))
            else:
                self._check_way(change, self._target(change, self._known(change)))
        except Blocked as blocked:
            return blocked.by
        return None

    async def fetch(self, inode: Inode) -> None:
        """Only bring here what is missing of its bytes: the document that has them is to go."""
        change = self._view.change(inode)
        if change is not None and change.needs_version:
            await self._settling.fetch_missing(change)

    async def step_aside(self, inode: Inode) -> None:
        """Give a document another name for a moment: some that swap names would wait for each other for ever."""
        change = self._view.change(inode)
        known = self._known(change) if change is not None else None
        if change is None or known is None or change.document is None or known.node.parent is None:
            return
        if self._calls.unconfirmed(inode, change.document):
            await self.carry_out(inode)
            return
        document_id, before = change.document, Location(known.node.parent, known.name)
        place = self._aside(known, document_id)
        self._check_way(change, None)
        parent_id, name = self._moved(known, place)
        with (
            self._own.call(document_id) as request,
            self._calls.sending(inode, change.kind, document_id, place) as sending,
        ):
            await self._bring_to_disk(sending)
            try:
                if change.is_folder:
                    document = await self._changes.update_folder(
                        document_id, FolderChange(parent_id=parent_id, name=name), on_sent=request.sent
                    )
                else:
                    document = await self._changes.update_file(
                        document_id, FileChange(parent_id=parent_id, name=name), on_sent=request.sent
                    )
            except NotFound:
                sending.refused()
                if await self._look(known) is None:
                    self._settling.removed_in_procore(known.node)
                    return
                raise
            sending.answered()
            change.aside_from = change.aside_from or before
            self._settling.arrived(change, document, place.folder, wishes=MetadataPatch())

    async def _bring_to_disk(self, sending: Sending) -> None:
        """Have the disk know of a call before it is sent: nobody wants its name, were it forgotten by a power cut."""
        try:
            await self._durability.reached()
        except BaseException:
            sending.refused()
            raise

    def _aside(self, known: Known, document_id: DocumentId) -> Location:
        """A free name beside the document's own, no longer than that if Procore would refuse a longer path."""
        folder = known.node.parent or ROOT
        name = f"~{document_id}"
        longest = self._store.longest_below(known.node.inode) if known.node.is_folder else 0
        above = len(self._store.path(folder))
        if above + 1 + len(name) + (1 + longest if longest else 0) > MAX_PATH_CHARACTERS:
            folder = ROOT
        return Location(folder, name)
