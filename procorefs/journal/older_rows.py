"""Reads rows of the journal, also those that formats up to 4 wrote, where a change was one struct of optional fields.

A row of an older format is recognised by its fields, so both kinds may stand in one journal: a row is written in the
new format when its change is next saved.
"""

from typing import Literal

import msgspec

from procorefs.journal.change import (
    FOLLOW,
    UNCHANGED,
    Change,
    Content,
    Failed,
    Incomplete,
    Location,
    MetadataPatch,
    Open,
    Pending,
    PendingCopy,
    Place,
    Placed,
    Progress,
    Removed,
    Upload,
    Written,
)
from procorefs.procore.wire.models import DocumentId, Kind, Version
from procorefs.staging.staging_area import StagedRecord
from procorefs.tree.nodes import Inode, Kept


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """A row of format 1 to 4; see the fields of Change."""

    inode: Inode
    kind: Kind
    place: Location | Literal["follow", "gone"] = "follow"
    document: DocumentId | None = None
    staged: StagedRecord | None = None
    unclosed: StagedRecord | None = None
    borrowed: Version | None = None
    """The version of the pending copy."""
    lender: DocumentId | None = None
    """The content source."""
    is_junk: bool = False
    kept: Kept = Kept()
    wishes: MetadataPatch = msgspec.field(default_factory=MetadataPatch)
    """The metadata patch."""
    seen: Version | None = None
    aside_from: Location | None = None
    stage: Literal["open", "pending", "failed", "incomplete"] = "pending"
    """The recorded state."""
    upload: Upload | None = None
    created_at_s: float = 0.0
    touched_at_s: float = 0.0
    sequence: int = 0
    attempts: int = 0
    error: str = ""
    """Why it failed, or waits."""
    refused: str = ""
    """Why metadata was given up."""
    failed_at_s: float = 0.0
    is_on_slow_line: bool = False
    dropped_uploads: int = 0


_decode_new = msgspec.json.Decoder(Change).decode
_decode_old = msgspec.json.Decoder(_Row).decode


def decode(body: bytes) -> Change:
    """The change of a row. Raises msgspec.MsgspecError when it is a row of no format."""
    try:
        return _decode_new(body)
    except msgspec.ValidationError:
        try:
            return _converted(_decode_old(body))
        except msgspec.ValidationError:
            pass
        raise


def _converted(row: _Row) -> Change:
    return Change(
        row.inode,
        row.kind,
        _place(row),
        document=row.document,
        seen=row.seen,
        content=_content(row),
        unclosed=row.unclosed,
        content_source=row.lender,
        is_junk=row.is_junk,
        kept=row.kept,
        patch=row.wishes,
        patch_refusal=row.refused,
        progress=_progress(row),
        created_at_s=row.created_at_s,
        touched_at_s=row.touched_at_s,
        sequence=row.sequence,
    )


def _place(row: _Row) -> Place:
    if isinstance(row.place, Location):
        return Placed(row.place, row.aside_from)
    return Removed(row.aside_from, row.upload) if row.place == "gone" else FOLLOW


def _content(row: _Row) -> Content:
    if row.staged is not None:
        return Written(row.staged, row.upload, row.dropped_uploads, row.is_on_slow_line)
    return PendingCopy(row.borrowed) if row.borrowed is not None else UNCHANGED


def _progress(row: _Row) -> Progress:
    match row.stage:
        case "open":
            return Open(row.error)
        case "failed":
            return Failed(row.error, row.failed_at_s)
        case "incomplete":
            return Incomplete(row.error)
        case "pending":
            return Pending(row.error, row.attempts)
