"""Changes as tests write them down: fields by name, whatever they are grouped in."""

from procorefs.journal.change import (
    FOLLOW,
    UNCHANGED,
    Change,
    Failed,
    Follow,
    Guarded,
    Incomplete,
    Location,
    MetadataPatch,
    Open,
    Pending,
    PendingCopy,
    Placed,
    Progress,
    Removed,
    Written,
)
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import DocumentId, Kind, Version
from procorefs.staging.staging_area import StagedRecord
from procorefs.tree.nodes import Inode

Where = Location | Follow | Removed

PROGRESS: dict[ChangeState, Progress] = {
    ChangeState.OPEN: Open(),
    ChangeState.PENDING: Pending(),
    ChangeState.FAILED: Failed(),
    ChangeState.INCOMPLETE: Incomplete(),
    ChangeState.GUARDED: Guarded(),
}


def make_change(
    inode: Inode,
    kind: Kind,
    place: Where = FOLLOW,
    document: DocumentId | None = None,
    *,
    seen: Version | None = None,
    staged: StagedRecord | None = None,
    pending_copy: Version | None = None,
    patch: MetadataPatch | None = None,
    state: ChangeState = ChangeState.PENDING,
    created_at_s: float = 0.0,
    touched_at_s: float = 0.0,
) -> Change:
    """A change of one inode."""
    return Change(
        inode,
        kind,
        Placed(place) if isinstance(place, Location) else place,
        document,
        seen,
        Written(staged)
        if staged is not None
        else PendingCopy(pending_copy)
        if pending_copy is not None
        else UNCHANGED,
        patch=patch or MetadataPatch(),
        progress=PROGRESS[state],
        created_at_s=created_at_s,
        touched_at_s=touched_at_s,
    )
