"""Sends one change: makes the call of its next step (plan.py), and has the answer applied.

    change ─▶ plan: next step ─▶ open call? ─▶ confirm it
                              ─▶ gone? ─▶ DELETE              ─▶ answer ─▶ the tree, under the change's inode
                              ─▶ folder? ─▶ POST or PATCH        (apply_result.py) ─▶ nothing left to want?
                              ─▶ file: bytes to the storage ─▶ POST or PATCH, place and fields along with it

Programs go on changing the same change meanwhile: after every await it is looked at again, an answer settles only what
was sent, and what differs still is sent next.
"""

import msgspec

from procorefs.journal.change import Change, Location, MetadataPatch
from procorefs.procore.api.changes import FileChange, FolderChange
from procorefs.procore.errors import Forbidden, Invalid, NotFound
from procorefs.upload.outcomes import Blocked, NotYet, Refused, refused_metadata
from procorefs.upload.planning.plan import (
    Confirm,
    Create,
    Delete,
    Dismiss,
    Fetch,
    Goal,
    InPlace,
    Join,
    Nothing,
    Occupant,
    Recreate,
    Refuse,
    SetTags,
    StepAside,
    Update,
    Wait,
    WaitForLate,
    kind_refusal,
)
from procorefs.upload.planning.situation import Situations
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.byte_upload import ContentToSend
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.upload.sending.file_calls import FileCalls
from procorefs.upload.sending.folder_calls import FolderCalls
from procorefs.upload.sending.removal import DocumentRemover
from procorefs.upload.sending.unanswered import UnansweredCalls


class ChangeSender:
    """One change at a time and call; `send` may run for several inodes at once."""

    def __init__(
        self,
        documents: DocumentCalls,
        situations: Situations,
        content: ContentToSend,
        files: FileCalls,
        folders: FolderCalls,
        remover: DocumentRemover,
        unanswered: UnansweredCalls,
        results: ResultApplier,
    ) -> None:
        self._documents = documents
        self._situations = situations
        self._content = content
        self._files = files
        self._folders = folders
        self._remover = remover
        self._unanswered = unanswered
        self._results = results

    async def send(self, change: Change, goal: Goal) -> bool:
        """Send the next step of a change; True if all that is wanted of it now was sent.

        Raises Blocked, NotYet, Refused, Superseded, ProcoreError and the errors of staging.
        """
        match self._situations.step(change, goal):
            case Wait() as wait:
                raise Blocked(wait)
            case WaitForLate(left_s):
                raise NotYet(left_s)
            case Refuse(why):
                raise Refused(why)
            case Confirm(call):
                await self._unanswered.confirm(change, call)
            case Recreate():
                self._results.vanished(change)
            case Join(occupant):
                await self._join(change, occupant)
            case Fetch():
                await self._content.fetch_missing(change)
            case StepAside() as step:
                await self._step_aside(change, step)
            case Nothing():
                pass
            case Dismiss() | Delete() | SetTags() | Create() | Update() | InPlace() as step:
                return await self._send(change, step)
        return False

    async def _join(self, change: Change, occupant: Occupant) -> None:
        """Join a document that has the name, or raise Refused if it is of another kind; only if Procore still has it.

        After a power cut, or where deletions are not listed, the tree may have documents that are gone.
        """
        document_id = occupant.document
        assert document_id is not None
        known = self._situations.known(document_id)
        order = self._documents.own.order
        with order.reading() as request:
            request.sent()
            is_gone = await self._documents.now(document_id, occupant.kind) is None
            if is_gone and known is not None and order.admit(document_id, request):
                self._results.removed_in_procore(known.node)
        step = self._situations.step(change)
        is_same = isinstance(step, Join) and step.occupant.document == document_id
        if is_gone or not is_same or not self._results.is_current(change):
            return  # it is planned again
        if occupant.kind is not change.kind:
            raise Refused(kind_refusal(occupant.kind))
        self._results.join(change, occupant.inode, document_id)

    async def _send(
        self, change: Change, step: Dismiss | Delete | SetTags | Create | Update | InPlace
    ) -> bool:
        """Make the calls that give Procore what is wanted."""
        known = self._situations.known(change.document)
        if known is not None:
            self._results.drop_satisfied(change, known)
        match step:
            case Dismiss():
                self._results.dismiss(change)
            case Delete():
                await self._remover.remove(change)
            case SetTags(is_last):
                await self._set_tags(change)
                return is_last
            case Create() | Update():
                calls = self._folders if change.is_folder else self._files
                await calls.send(change, step)
            case InPlace():
                self._results.is_in_place(change)
        return True

    async def _set_tags(self, change: Change) -> None:
        """Give the document the wanted tags, with a call for each one that differs."""
        wanted, document_id = change.patch.tags, change.document
        if isinstance(wanted, msgspec.UnsetType) or document_id is None:
            return
        metadata = MetadataPatch(tags=wanted)
        calls = self._documents.calls
        with calls.sending(change.inode, change.kind, document_id, patch=metadata) as sending:
            await self._documents.bring_to_disk(sending)
            try:
                await self._documents.tags.make(document_id, wanted)
            except (Forbidden, Invalid, NotFound) as error:
                raise refused_metadata(metadata, error) from error
            self._results.tags_arrived(change, wanted)
            sending.answered()

    async def _step_aside(self, change: Change, step: StepAside) -> None:
        """Give a document a temporary name."""
        known, place, document_id = step.known, step.place, change.document
        assert known.node.parent is not None
        assert document_id is not None
        before = Location(known.node.parent, known.name)
        parent_id, name = self._documents.moved(known, place)
        changes = self._documents.changes
        self._results.steps_aside(change, before)
        async with self._documents.changing(change, document_id, place) as (request, sending):
            try:
                if change.is_folder:
                    document = await changes.update_folder(
                        document_id, FolderChange(parent_id=parent_id, name=name), on_sent=request.sent
                    )
                else:
                    document = await changes.update_file(
                        document_id, FileChange(parent_id=parent_id, name=name), on_sent=request.sent
                    )
            except NotFound:
                sending.refused()
                if await self._documents.now(document_id, change.kind) is None:
                    self._results.removed_in_procore(known.node)
                    return
                raise
            sending.answered()
            self._results.arrived(change, document, place.folder, metadata=MetadataPatch())
