"""What really lies below a folder, out of a list that may hold more than that. Pure.

The list is the index filtered by the folder. It may hold the folder itself, deleted documents, and what lies below
deleted ones as if nothing had happened (procore-api.md, Open questions). Whoever deletes the folder next must not
miss anything: what cannot be placed counts as living.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import msgspec

from procorefs.procore.wire.models import Document, DocumentId

_MOST_STEPS = 1000
"""Up to the folder; depth ends at 100, a circle never."""


class FolderContents(msgspec.Struct, frozen=True):
    """The living, and the parents among theirs that the list did not show."""

    living: list[Document]
    unknown_parents: set[DocumentId]


def sort_out(
    listed: Iterable[Document], folder_id: DocumentId, binned: AbstractSet[DocumentId] = frozenset()
) -> FolderContents:
    """Leave out the folder, what is deleted and what lies below something deleted; `binned` lie in the bin."""
    known = {document.id: document for document in listed}
    living, unknown = [], set()
    for document in known.values():
        if document.id == folder_id:
            continue
        gone, stranger = _fate(document, known, folder_id, binned)
        if not gone:
            living.append(document)
            if stranger is not None:
                unknown.add(stranger)
    return FolderContents(living, unknown)


def _fate(
    document: Document,
    known: dict[DocumentId, Document],
    folder_id: DocumentId,
    binned: AbstractSet[DocumentId],
) -> tuple[bool, DocumentId | None]:
    """(Is it or something above it deleted?, the first ancestor that nobody knows)."""
    at: Document | None = document
    for _ in range(_MOST_STEPS):
        if at is None:
            break
        if at.deleted or at.recycle_bin or at.id in binned:
            return True, None
        parent_id = at.parent_id
        if parent_id is None or parent_id == folder_id:
            return False, None
        if parent_id in binned:
            return True, None
        at = known.get(parent_id)
        if at is None:
            return False, parent_id
    return False, None
