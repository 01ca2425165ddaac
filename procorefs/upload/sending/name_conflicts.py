"""Who has a name that Procore refused as taken: our own earlier call's document, a colleague's, or another one of ours.

Procore may take two names for one that are two here: composed and decomposed letters, other case, other white space.
What was only ever seen under another name is not overwritten by what happens to be called alike.
"""

import enum
import unicodedata
from dataclasses import dataclass

from procorefs.journal.change import FOLLOW, Change, Location
from procorefs.limiter import Priority
from procorefs.procore.api.client import Client
from procorefs.procore.errors import ProcoreError
from procorefs.procore.wire.models import Document, DocumentId, Kind
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import Blocked, Refused
from procorefs.vfs.view import View

CLOCKS_S = 5.0
"""Its answers tell Procore's clock closer than this; else a folder of ours is taken for another, and it says so."""


class Likeness(enum.IntEnum):
    """How much two names are the same."""

    SAME = 0
    COMPOSED = 1
    """The same letters, written as one or as two characters each: the same name for everybody who reads it."""
    SIMILAR = 2
    """But for case, width and white space."""


@dataclass(frozen=True, slots=True)
class NameConflict:
    """A document that has the name, more or less."""

    document: Document
    likeness: Likeness


class NameConflicts:
    """Looks them up, a call each time."""

    def __init__(self, store: TreeStore, view: View, client: Client) -> None:
        self._store = store
        self._view = view
        self._client = client

    async def find(self, folder: DocumentId | None, name: str, kind: Kind) -> NameConflict | None:
        """The living document of that folder that is most likely meant; of the same kind if there are two."""
        listing = await self._client.folder(folder, priority=Priority.WRITING)
        found = [
            NameConflict(document, likeness)
            for document in listing.children
            if not document.deleted and (likeness := likeness_of(document.name, name)) is not None
        ]
        found.sort(key=lambda namesake: (namesake.likeness, namesake.document.kind is not kind))
        return found[0] if found else None

    def check_joinable(
        self, change: Change, target: Location, namesake: NameConflict, error: ProcoreError
    ) -> None:
        """Whether ours may become a version of it, or the same folder. Raises Blocked while it is to leave the name.

        Raises Refused when it is something else.
        """
        document = namesake.document
        self.check_leaving(change, namesake)
        if document.kind is not change.kind:
            what = "folder" if document.kind is Kind.FOLDER else "file"
            raise Refused(f"Procore has a {what} of that name: rename one of the two") from error
        known = self._store.known(document.id)
        is_new_here = known is None or not self._shows_elsewhere(known, target)
        if namesake.likeness is Likeness.SAME:
            return
        if namesake.likeness is Likeness.COMPOSED and is_new_here:
            return
        raise Refused(
            f"Procore treats {target.name!r} and {document.name!r} as the same name: rename one of the two"
        ) from error

    def has_left(self, namesake: NameConflict, target: Location) -> bool:
        """Whether the tree knows by now that the document is not called so any more."""
        known = self._store.known(namesake.document.id)
        if known is None:
            return False
        is_elsewhere = known.node.parent != target.folder or not known.node.in_tree
        return is_elsewhere or likeness_of(known.name, target.name) is None

    def check_leaving(self, change: Change, namesake: NameConflict) -> None:
        """Raises Blocked when it is one that is about to leave the name, and not for that of the change."""
        known = self._store.known(namesake.document.id)
        theirs = self._view.change(known.node.inode) if known is not None else None
        if theirs is None or theirs is change or theirs.place is FOLLOW:
            return
        raise Blocked(theirs.inode, "another document still has the name in Procore")

    def _shows_elsewhere(self, known: Known, target: Location) -> bool:
        """Whether programs see the document under another entry than the one that is wanted."""
        place = self._view.parent(known.node.inode)
        return place is not None and place != (target.folder, target.shown)


def likeness_of(one: str, other: str) -> Likeness | None:
    if one == other:
        return Likeness.SAME
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return Likeness.COMPOSED
    return Likeness.SIMILAR if _folded(one) == _folded(other) else None


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def is_no_older(folder: Document, wanted_at_s: float) -> bool:
    """Whether a folder may be the one that an earlier call has made, which was wanted then by Procore's clock."""
    return (folder.created_at_s or folder.updated_at_s) >= wanted_at_s - CLOCKS_S
