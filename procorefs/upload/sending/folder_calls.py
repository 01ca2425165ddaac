"""Makes the calls for folders: one that creates the folder, one with everything that changes."""

from procorefs.journal.change import Change, Location, MetadataPatch
from procorefs.procore.api.changes import FolderChange
from procorefs.procore.errors import Conflict, Forbidden, Invalid, NameTaken, NotFound
from procorefs.procore.wire.models import Document, DocumentId
from procorefs.upload.planning.plan import Create, Update
from procorefs.upload.sending.after_refusal import AfterRefusal
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.documents import DocumentCalls, given


class FolderCalls:
    """Creates and changes folders."""

    def __init__(self, documents: DocumentCalls, refusals: AfterRefusal, results: ResultApplier) -> None:
        self._documents = documents
        self._refusals = refusals
        self._results = results

    async def send(self, change: Change, step: Create | Update) -> None:
        """Make the call of a step."""
        if isinstance(step, Create):
            await self._create(change, step.target)
        else:
            await self._update(change, step)

    async def _create(self, change: Change, target: Location) -> None:
        metadata = self._refusals.taken_along(change, is_alone=False)
        fields = FolderChange(
            tracked=metadata.tracked, private=metadata.private, custom_fields=given(metadata.custom_fields)
        )
        folder_id = self._documents.folder_id(target.folder)
        async with self._documents.changing(change, None, target, metadata=metadata) as (request, sending):
            try:
                document = await self._documents.changes.create_folder(
                    folder_id, target.name, fields, on_sent=request.sent
                )
                self._documents.tags.made(document.id)
            except NameTaken as error:
                sending.refused()
                document, metadata = await self._same_folder(change, target, error), MetadataPatch()
            except (NotFound, Forbidden, Invalid) as error:
                sending.refused()
                if not isinstance(error, Forbidden):
                    await self._refusals.check_folder(target.folder, folder_id, error)
                raise self._refusals.of_metadata(change, error, metadata, is_alone=False) from error
            self._documents.own.order.is_about(request, document.id)
            sending.answered()
            target = sending.place or target
            self._results.arrived(
                change, document, target.folder, metadata=metadata, target=target, is_new=True
            )

    async def _update(self, change: Change, step: Update) -> None:
        document_id, known, target = change.document, step.known, step.target
        assert document_id is not None
        is_alone = target is None
        metadata = self._refusals.taken_along(change, is_alone=is_alone)
        parent_id, name = self._documents.moved(known, target)
        fields = FolderChange(
            parent_id=parent_id,
            name=name,
            tracked=metadata.tracked,
            private=metadata.private,
            custom_fields=given(metadata.custom_fields),
        )
        async with self._documents.changing(change, document_id, target, metadata=metadata) as (
            request,
            sending,
        ):
            try:
                document = await self._documents.changes.update_folder(
                    document_id, fields, on_sent=request.sent
                )
            except NotFound as error:
                sending.refused()
                if await self._documents.now(document_id, change.kind) is None:
                    self._results.removed_in_procore(known.node)
                    return
                await self._refusals.of_move(change, known, target, parent_id, error)
            except (Forbidden, Invalid, Conflict) as error:
                sending.refused()
                if metadata:
                    raise self._refusals.of_metadata(change, error, metadata, is_alone=is_alone) from error
                await self._refusals.of_move(change, known, target, parent_id, error)
            sending.answered()
            target = sending.place if target is not None else None
            parent = self._results.folder_of(document, target)
            self._results.arrived(change, document, parent, metadata=metadata, target=target)

    async def _same_folder(self, change: Change, target: Location, error: NameTaken) -> Document:
        """The folder that has the name already, another user's or ours. Raises Refused, Blocked."""
        folder_id = self._documents.folder_id(target.folder)
        conflict = await self._refusals.conflicts.find(folder_id, target, change.kind)
        if conflict is None:
            return await self._made_under_changed_name(change, target, folder_id, error)
        self._refusals.take(change, target, conflict, error)
        return conflict.document

    async def _made_under_changed_name(
        self, change: Change, target: Location, folder_id: DocumentId | None, error: NameTaken
    ) -> Document:
        """The folder that an unanswered call of ours has made, if Procore has changed its name.

        Setting the name that was sent proves it: Procore makes the same name of it again, and refuses it for any other
        folder, since the name is taken.
        """
        late = [
            call
            for call in self._documents.calls.given_up(change.inode, None)
            if call.is_creating and call.place == target
        ]
        if not late:
            raise error
        last_inode = min(call.last_inode for call in late)
        found = await self._refusals.conflicts.new_in(folder_id, target, change, last_inode)
        if len(found) != 1:
            raise error
        try:
            document = await self._documents.changes.update_folder(
                found[0].id, FolderChange(name=target.name)
            )
        except (NotFound, Forbidden, Invalid, Conflict):
            raise error from None
        if document.name != found[0].name:
            raise error
        return document
