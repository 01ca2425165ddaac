"""Gets the bytes of a change ready to send: fetches what is missing of them, and freezes them meanwhile."""

import logging

import msgspec

from procorefs.journal.change import Change
from procorefs.staging.staging_area import StagedFile
from procorefs.staging.whole_file import digest
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import Superseded
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

log = logging.getLogger(__name__)


class ContentToSend:
    """Generations of staged files, one change at a time. Raises Superseded when a change was given up meanwhile."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        dirty_files: DirtyFiles,
        edits: LocalEdits,
        results: ResultApplier,
    ) -> None:
        self._store = store
        self._view = view
        self._dirty_files = dirty_files
        self._edits = edits
        self._results = results

    # Bytes that are not here

    async def fetch_borrowed(self, change: Change) -> None:
        """Bring the bytes of another document here: they are to be a version of this one. Raises ProcoreError."""
        borrowed = change.borrowed
        if borrowed is None:
            return
        file = self._dirty_files.staging.create(borrowed)
        try:
            await file.complete()
            # The document that has them may go as soon as the row says that they are here.
            await self._dirty_files.staging.sync([file])
            if not self._results.is_current(change) or change.borrowed is not borrowed:
                raise Superseded
            self._edits.sessions.take_fetched(change, file)
        except BaseException:
            file.delete()
            raise

    async def fetch_missing(self, change: Change) -> None:
        """Bring here what is missing of a change's bytes. Raises Superseded, ProcoreError, the staging's errors."""
        if change.borrowed is not None:
            await self.fetch_borrowed(change)
            return
        file = await self.freeze(change)
        if file is None:
            return
        try:
            await file.complete()
            await self._dirty_files.staging.sync([file])
            self._check_is_newest(change, file)
            self._edits.sessions.take_completed(change, file)
        finally:
            self.thaw(change, file)

    def _check_is_newest(self, change: Change, file: StagedFile) -> None:
        is_current = self._results.is_current(change)
        if not is_current or change.staged is None or change.staged.number != file.number:
            raise Superseded

    # While they are sent

    async def freeze(self, change: Change) -> StagedFile | None:
        """The newest flushed generation, which does not change until `thaw`; None: there are no bytes to send."""
        await self._dirty_files.still(change.inode)
        if not self._results.is_current(change):
            raise Superseded
        dirty_file = self._dirty_files.get(change.inode)
        if dirty_file is not None and dirty_file.is_changed and not dirty_file.is_frozen:
            self._edits.sessions.flushed(change.inode)
        if change.staged is None:
            return None
        return self._dirty_files.freeze(change.inode, change.staged)

    def thaw(self, change: Change, file: StagedFile) -> None:
        """The file stays as long as a row names it, be it another change than the one that was sent."""
        now = self._view.change(change.inode)
        is_wanted = now is not None and any(record.number == file.number for record in now.records)
        self._dirty_files.thaw(change.inode, file, is_wanted=is_wanted)

    def check_wanted(self, change: Change, file: StagedFile) -> None:
        """Raises Superseded when none are wanted any more, or newer ones, unless it gave way to such too often."""
        if not self._results.is_current(change) or change.staged is None:
            raise Superseded
        if change.staged.number != file.number and change.gives_way:
            raise Superseded

    async def ready(self, change: Change) -> StagedFile | None:
        """The frozen generation with all its bytes here; `thaw` follows. None: there are no bytes to send."""
        await self.fetch_borrowed(change)
        await self._edits.sessions.save_tail(change.inode)
        file = await self.freeze(change)
        if file is None:
            return None
        try:
            await file.still()
            await file.complete()
        except BaseException:
            self.thaw(change, file)
            raise
        return file

    async def is_known(self, change: Change, file: StagedFile) -> bool:
        """Whether the document's version has these bytes already, as far as we know its hash."""
        known = self._known(change)
        if known is None or known.node.version is None or known.node.kept is None:
            return False
        version, kept = known.node.version, known.node.kept
        if not kept.sha256 or kept.version_id != version.id or version.size_bytes != file.size_bytes:
            return False
        return await digest(file) == kept.sha256

    def nothing_new(self, change: Change, file: StagedFile) -> None:
        """The bytes are those of Procore's version: only their times are kept."""
        known = self._known(change)
        if known is None or known.node.version is None or known.node.kept is None:
            raise Superseded
        version = known.node.version
        change.kept = msgspec.structs.replace(
            change.kept, version_id=version.id, sha256=known.node.kept.sha256
        )
        self._results.nothing_new(change, file.number, version)

    def note_colleague(self, change: Change, known: Known, file: StagedFile) -> None:
        """Log it when ours comes on top of a version that the program that wrote here has not seen."""
        base = file.base
        if base is not None and known.node.version is not None and known.node.version.id != base.id:
            log.info(
                "%s has a newer version in Procore: ours comes on top, theirs stays in the history.",
                self._view.path(change.inode),
            )

    def _known(self, change: Change) -> Known | None:
        return self._store.known(change.document) if change.document is not None else None
