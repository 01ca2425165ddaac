"""The calls for folders: one to make it, one for all that becomes different."""

import msgspec

from procorefs.journal.change import Change, Location, MetadataPatch
from procorefs.procore.api.changes import FolderChange
from procorefs.procore.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NameTaken,
    NotFound,
)
from procorefs.procore.wire.models import Document
from procorefs.tree.rows import Known
from procorefs.upload.sending.placement import Placement, given, goes_out_of_sight


class FolderCalls(Placement):
    """Makes and changes folders."""

    async def _folder(self, change: Change, known: Known | None) -> None:
        if change.document is not None and known is None:
            self._settling.vanished(change)
            return
        target = self._target(change, known)
        self._check_way(change, target)
        if target is not None and known is None and self._join_colleague(change, target):
            return
        if known is not None:
            self._settling.forgo(change, known)
        if known is not None and goes_out_of_sight(change):
            await self._tags(change)
        if known is None and target is not None:
            await self._make_folder(change, target)
        elif known is not None and (target is not None or change.wishes.has_fields):
            await self._change_folder(change, known, target)
        elif change.wishes.tags is not msgspec.UNSET:
            await self._tags(change)
        else:
            self._settling.is_in_place(change)

    async def _make_folder(self, change: Change, target: Location) -> None:
        wishes = self._taken_along(change, is_alone=False)
        fields = FolderChange(
            tracked=wishes.tracked, private=wishes.private, custom_fields=given(wishes.custom_fields)
        )
        folder_id = self._folder_id(target.folder)
        with (
            self._own.call(None) as request,
            self._calls.sending(change.inode, change.kind, None, target, wishes=wishes) as sending,
        ):
            try:
                document = await self._changes.create_folder(
                    folder_id, target.name, fields, on_sent=request.sent
                )
                self._settling.is_bare(document)
            except NameTaken as error:
                sending.refused()
                document, wishes = await self._same_folder(change, target, error), MetadataPatch()
            except (NotFound, Forbidden, Invalid) as error:
                sending.refused()
                if not isinstance(error, Forbidden):
                    await self._look_at_folder(target.folder, folder_id, error)
                raise self._refusal(change, error, wishes, is_alone=False) from error
            self._own.order.is_about(request, document.id)
            sending.answered()
            for late in self._calls.late(change.inode, None):
                self._calls.was_made(late, document.id)
            self._settling.arrived(change, document, target.folder, wishes=wishes, target=target, is_new=True)

    async def _change_folder(self, change: Change, known: Known, target: Location | None) -> None:
        is_alone = target is None
        wishes = self._taken_along(change, is_alone=is_alone)
        parent_id, name = self._moved(known, target)
        fields = FolderChange(
            parent_id=parent_id,
            name=name,
            tracked=wishes.tracked,
            private=wishes.private,
            custom_fields=given(wishes.custom_fields),
        )
        document_id = change.document
        assert document_id is not None
        with (
            self._own.call(document_id) as request,
            self._calls.sending(change.inode, change.kind, document_id, target, wishes=wishes) as sending,
        ):
            try:
                document = await self._changes.update_folder(document_id, fields, on_sent=request.sent)
            except NotFound as error:
                sending.refused()
                if await self._look(known) is None:
                    self._settling.removed_in_procore(known.node)
                    return
                await self._refused_move(change, known, target, parent_id, error)
            except (Forbidden, Invalid, Conflict) as error:
                sending.refused()
                if wishes:
                    raise self._refusal(change, error, wishes, is_alone=is_alone) from error
                await self._refused_move(change, known, target, parent_id, error)
            sending.answered()
            parent = self._now_in(document, target, known)
            self._settling.arrived(change, document, parent, wishes=wishes, target=target)

    async def _same_folder(self, change: Change, target: Location, error: NameTaken) -> Document:
        """The folder that has the name already, a colleague's or one of ours. Raises Refused, Blocked."""
        namesake = await self._namesakes.find(self._folder_id(target.folder), target.name, change.kind)
        if namesake is None:
            raise error
        self._check_still_wanted(change, target)
        self._namesakes.check_joinable(change, target, namesake, error)
        self._make_takeable(change, namesake.document.id)
        return namesake.document
