"""Lock files of office programs: a local one checks the document out, another user's check-out shows as a lock file.

A lock file that is shown is on no disk and in no tree: its inode is its document's with a mark, so it is found again
from its number alone, and its content is made when it is opened. It exists as long as another user has the document
checked out, and no folder lists it: programs look it up by its name. A lookup costs no call. Only an open or a create
asks Procore about the document. The kernel may cache nothing of it.
"""

import logging
from collections.abc import Collection
from functools import partial

from procorefs.locks.holder_polls import HolderPolls
from procorefs.locks.office_locks import SHORTENED, OfficeLocks, document_of, is_lock_file, plain_names
from procorefs.procore.api.brief_wait import BriefWait, NoAnswerYet
from procorefs.procore.errors import ProcoreError
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.tree.nodes import Inode, Node, State
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

FIRST_LOCK_FILE = 1 << 60
"""Inodes from here on are on no disk and in no tree; the kernel must not cache them."""

_MARKS = (FIRST_LOCK_FILE, FIRST_LOCK_FILE << 1)
"""For the first and the second of the lock files that a document may have."""


class LockFiles:
    """Both kinds. `office` None: lock files have no meaning (`office_locks=off`)."""

    def __init__(self, view: View, polls: HolderPolls, office: OfficeLocks | None, brief: BriefWait) -> None:
        self._view = view
        self._polls = polls
        self._office = office
        self._brief = brief

    # Those of our programs

    def created(self, folder: Inode, name: bytes, inode: Inode) -> None:
        """A file was made, or got this name: a lock file, or a document that may have some already."""
        if self._office is None:
            return
        if not is_lock_file(name):
            self._office.replaced(folder, name, inode)
            return
        document = self._document(folder, name)
        if document is not None:
            self._office.created(folder, name, document.inode)

    def removed(self, folder: Inode, name: bytes) -> None:
        """A file is gone, or has another name."""
        if self._office is not None:
            self._office.removed(folder, name)

    def documents_changed(self, _documents: Collection[DocumentId]) -> None:
        """Others may have removed a lock file, or a folder above it, and no program on this mount will."""
        if self._office is not None:
            self._office.keep(
                lambda folder, name: (
                    self._view.reachable(folder) and self._view.child(folder, name) is not None
                )
            )

    # Those of others

    def shows(self, folder: Inode, name: bytes) -> bool:
        """Whether a name is taken by one."""
        return self.find(folder, name) is not None

    def find(self, folder: Inode, name: bytes) -> Node | None:
        """The lock file of that name, as far as is known."""
        if self._office is None or not is_lock_file(name):
            return None
        document = self._document(folder, name)
        found = self._of(document) if document is not None else []
        return next((node for node in found if node.shown == name), None)

    async def will_create(self, folder: Inode, name: bytes) -> None:
        """A program is about to create a file of that name: learn whether another user has the document."""
        if self._office is not None and is_lock_file(name):
            document = self._document(folder, name)
            if document is not None:
                await self._look(document)

    async def will_open(self, inode: Inode) -> None:
        """A program is about to read who has the document."""
        document = self._view.by_inode(Inode(inode & (FIRST_LOCK_FILE - 1)))
        if document is not None:
            await self._look(document)

    async def _look(self, document: Node) -> None:
        if not self._brief.is_open():
            return
        try:
            await self._brief.of(partial(self._polls.look, document.inode))
        except (NoAnswerYet, ProcoreError) as error:
            log.info("Procore did not tell who has inode %d checked out: %s", document.inode, error)

    def node(self, inode: Inode) -> Node | None:
        """The lock file with that number, while it is there."""
        for mark in _MARKS:
            if inode & mark:
                document = self._view.by_inode(Inode(inode & ~mark))
                found = self._of(document) if document is not None else []
                return next((node for node in found if node.inode == inode), None)
        return None

    def path(self, inode: Inode) -> str:
        """Where it shows, for people; '' when it does not."""
        node = self.node(inode)
        if node is None or node.parent is None:
            return ""
        return f"{self._view.path(node.parent)}/{node.shown.decode('utf-8', 'replace')}".lstrip("/")

    def content(self, inode: Inode) -> bytes | None:
        """What stands in it."""
        node = self.node(inode)
        if node is None or self._office is None:
            return None
        document = self._view.by_inode(Inode(inode & (FIRST_LOCK_FILE - 1)))
        return self._office.shown_beside(document.shown, document.inode).get(node.shown) if document else None

    def _document(self, folder: Inode, name: bytes) -> Node | None:
        """The document beside which the lock file lies."""
        for candidate in plain_names(name):
            node = self._view.child(folder, candidate)
            if node is not None and not node.is_folder and document_of(name, [candidate]) is not None:
                return node
        if name.startswith(SHORTENED):
            beside = {node.shown: node for node in self._view.children(folder) if not node.is_folder}
            document = document_of(name, beside)
            return beside[document] if document is not None else None
        return None

    def _of(self, document: Node) -> list[Node]:
        """The lock files that are shown beside a document."""
        if self._office is None or document.parent is None:
            return []
        shown = self._office.shown_beside(document.shown, document.inode)
        return [
            _node(document, Inode(document.inode | mark), name, len(content))
            for mark, (name, content) in zip(_MARKS, shown.items(), strict=False)
        ]


def _node(document: Node, inode: Inode, name: bytes, size_bytes: int) -> Node:
    return Node(
        inode=inode,
        parent=document.parent,
        shown=name,
        document_id=None,
        kind=Kind.FILE,
        state=State.LIVE,
        listed=False,
        read_only=True,
        created_at_s=document.updated_at_s,
        updated_at_s=document.updated_at_s,
        version=None,
        defect="",
        local_size_bytes=size_bytes,
    )
