"""Finds the documents below a folder in a list that may hold others as well. Pure.

The list is the index filtered by the folder. It may hold the folder itself, deleted documents, and documents
below deleted ones (docs/procore-api.md, Open questions). A deletion of the folder must not miss anything: a document
whose place is not known counts as living.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import msgspec

from procorefs.procore.wire.models import Document, DocumentId

_MOST_STEPS = 1000
"""Up to the folder: Procore allows a depth of 100, and a circle would never end."""


class FolderContents(msgspec.Struct, frozen=True):
    """The documents that are not deleted, and those of their parents that the list does not have."""

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
        gone, unknown_parent = _fate(document, known, folder_id, binned)
        if not gone:
            living.append(document)
            if unknown_parent is not None:
                unknown.add(unknown_parent)
    return FolderContents(living, unknown)


def _fate(
    document: Document,
    known: dict[DocumentId, Document],
    folder_id: DocumentId,
    binned: AbstractSet[DocumentId],
) -> tuple[bool, DocumentId | None]:
    """(Is it or something above it deleted?, the first ancestor that is not known)."""
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
