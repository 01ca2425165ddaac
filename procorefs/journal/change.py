"""A change: what is wanted of one inode, as far as it may differ from what Procore has.

    programs ─▶ edits ─▶ Change (memory and journal) ─▶ compared with the tree ─▶ calls ─▶ the tree ─▶ no Change

A change says what is wanted, never how to get there: ten renames are one, and a file made and removed is none.
"""

import enum

import msgspec

from procorefs.procore.api.changes import FieldValue
from procorefs.procore.wire.models import DocumentId, Kind, Version, VersionId
from procorefs.procore.wire.upload_decoding import SegmentedUpload, WholeUpload
from procorefs.staging.staging_area import StagedRecord
from procorefs.storage import clocks
from procorefs.tree.nodes import ROOT, Inode, Kept
from procorefs.tree.rows import Known

MOST_DROPPED = 3
"""Uploads in a row that give way to newer bytes; the next one is let through."""


class Location(msgspec.Struct, frozen=True):
    """A folder and the name in it, as Procore is to have it."""

    folder: Inode
    name: str

    @property
    def shown(self) -> bytes:
        return self.name.encode("utf-8", "replace")

    def has(self, known: Known) -> bool:
        """Whether Procore has the document here, be it under another form of the name (composed, for instance)."""
        return known.node.parent == self.folder and (
            known.name == self.name or known.node.shown == self.shown
        )


class Locations(enum.Enum):
    """Where an inode is wanted, if not at a place of its own."""

    FOLLOW = "follow"
    """Wherever Procore has the document."""
    GONE = "gone"
    """Nowhere: it was removed here."""


FOLLOW, GONE = Locations.FOLLOW, Locations.GONE


UNSEEN = Version(VersionId(0), 0, 0, 0, "")
"""Nothing of the document was ever seen here: somebody else has made it where something of ours was to be."""


class Stage(enum.Enum):
    """How far a change has come; what is only a matter of time or name is derived (see due.py)."""

    OPEN = "open"
    """Being written and never flushed: after a crash it is INCOMPLETE."""
    PENDING = "pending"
    FAILED = "failed"
    """Refused for good: waits for `retry` or `discard`."""
    INCOMPLETE = "incomplete"
    """The daemon died while it was written: kept and shown, never sent by itself."""


class MetadataPatch(msgspec.Struct, omit_defaults=True):
    """Metadata that was set here and is not known to have arrived."""

    description: str | msgspec.UnsetType = msgspec.UNSET
    tracked: bool | msgspec.UnsetType = msgspec.UNSET
    private: bool | msgspec.UnsetType = msgspec.UNSET
    custom_fields: dict[int, FieldValue] = {}
    tags: list[str] | msgspec.UnsetType = msgspec.UNSET
    """All tags that the document is to have."""

    def __bool__(self) -> bool:
        return self.has_fields or self.tags is not msgspec.UNSET

    @property
    def has_fields(self) -> bool:
        """Whether there are some that a PATCH of the document carries."""
        plain = (self.description, self.tracked, self.private)
        return bool(self.custom_fields) or any(value is not msgspec.UNSET for value in plain)


class Upload(msgspec.Struct, omit_defaults=True):
    """How far an upload has come: each step is written down before the next one begins."""

    generation: int
    """The staged file whose bytes it carries."""
    whole: WholeUpload | None = None
    segmented: SegmentedUpload | None = None
    etags: dict[int, str] = {}
    """Of the segments that have arrived."""
    is_stored: bool = False
    """All bytes have arrived, and segments were put together."""
    is_used: bool = False
    """The last call, which makes the version, may have been sent: from here on a repeat looks before it acts."""
    before: VersionId | None = None
    """The document's newest version when the last call was first sent."""
    sha256: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Of the file; 0 before it has begun."""
        if self.segmented is not None:
            return sum(segment.size_bytes for segment in self.segmented.segments)
        return self.whole.size_bytes if self.whole is not None else 0

    @property
    def uuid(self) -> str:
        upload = self.whole or self.segmented
        return upload.uuid if upload is not None else ""


class Change(msgspec.Struct, omit_defaults=True):
    """What is wanted of one inode; one row of the journal."""

    inode: Inode
    kind: Kind
    place: Location | Locations = FOLLOW
    document: DocumentId | None = None
    """The document in Procore that this inode is; None: it has yet to be made. GONE and without one: a call of ours may
    have made one that nobody wants (in_flight_calls.py)."""
    staged: StagedRecord | None = None
    """The newest bytes that were flushed; None: the bytes are as in Procore, or borrowed."""
    unclosed: StagedRecord | None = None
    """Bytes that are newer and were never flushed, of a document or on top of others that are being sent; nothing else
    waits for them. What a crash leaves of them is INCOMPLETE as soon as nothing else is left to send."""
    borrowed: Version | None = None
    """Another document's bytes that are wanted here: a file of Procore was renamed onto another, or its name was
    taken over."""
    lender: DocumentId | None = None
    """The document that this was before, and that has what is borrowed or still missing in the staged files: it is not
    deleted before all of that is here. Set while the change is not laid."""
    is_junk: bool = False
    """Name and bytes were those of a file that a program keeps for itself when it was last closed or renamed; a file
    that has just been made under such a name is taken for one. Means nothing once there is a document."""
    kept: Kept = Kept()
    wishes: MetadataPatch = msgspec.field(default_factory=MetadataPatch)
    seen: Version | None = None
    """The document's version that was seen here when the document was removed, or was taken over from another inode,
    or got a newer one under bytes that were written here: a newer one is not deleted. None: the one that shows."""
    aside_from: Location | None = None
    """Where Procore had it before it got another name for a moment, so that others could have its own."""
    stage: Stage = Stage.PENDING
    upload: Upload | None = None
    """GONE: the last one that was used, for the version that it may have made was not made by somebody else."""
    created_at_s: float = 0.0
    """Times of clocks.unix_s, all of them: they must outlive the daemon."""
    touched_at_s: float = 0.0
    """When somebody here last changed anything about it."""
    sequence: int = 0
    """Counts journal entries of bytes; what is beyond the last one that is on disk is doubted after a power cut."""
    attempts: int = 0
    """Passing failures in a row."""
    error: str = ""
    """Why it failed, or why it waits."""
    refused: str = ""
    """Why metadata was given up: what else is wanted goes first, then the change fails with this."""
    failed_at_s: float = 0.0
    is_on_slow_line: bool = False
    """An upload in segments expired before the last ones had begun: now all begin at once."""
    dropped_uploads: int = 0
    """Uploads in a row that gave way to newer bytes."""

    @property
    def gives_way(self) -> bool:
        """Whether an upload is dropped for newer bytes: one after the other would never end."""
        return self.dropped_uploads < MOST_DROPPED

    @property
    def is_folder(self) -> bool:
        return self.kind is Kind.FOLDER

    @property
    def has_bytes(self) -> bool:
        """Whether bytes are wanted that Procore's document does not have."""
        return self.staged is not None or self.borrowed is not None

    @property
    def shown(self) -> StagedRecord | None:
        """The bytes that programs see; None: those of a version."""
        return self.unclosed or self.staged

    @property
    def used_upload(self) -> Upload | None:
        """The upload, if its last call may have been sent."""
        return self.upload if self.upload is not None and self.upload.is_used else None

    @property
    def records(self) -> list[StagedRecord]:
        """All staged files that hold bytes of it."""
        return [record for record in (self.staged, self.unclosed) if record is not None]

    @property
    def needs_version(self) -> bool:
        """Whether bytes are wanted that are in Procore alone so far: the document that has them must stay."""
        return self.borrowed is not None or any(record.missing for record in self.records)

    @property
    def folders(self) -> list[Inode]:
        """The folders that its row names."""
        return [self.place.folder] if isinstance(self.place, Location) else []

    @property
    def is_placed(self) -> bool:
        return isinstance(self.place, Location)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted that Procore could lack."""
        return self.document is not None and self.place is FOLLOW and not self.has_bytes and not self.wishes

    @property
    def is_bare(self) -> bool:
        """Whether it stands for nothing that is in Procore or could be made there."""
        return self.document is None and not self.has_bytes and not self.is_folder

    def be_incomplete(self) -> None:
        """Nothing is left but bytes that were never flushed: they stay until somebody says what to do with them."""
        self.staged, self.unclosed, self.upload = self.unclosed, None, None
        self.stage = Stage.INCOMPLETE

    def touch(self) -> None:
        """Note that somebody changed something: earlier failures no longer count."""
        self.touched_at_s = clocks.unix_s()
        if self.stage is Stage.FAILED:
            self.stage = Stage.PENDING
        self.attempts = 0
        self.error = self.refused = ""


def lost_folder(inode: Inode, name: str = "") -> Change:
    """A folder that rows are placed in and nobody knows any more: it is shown, and goes nowhere until `retry`."""
    now_s = clocks.unix_s()
    return Change(
        inode,
        Kind.FOLDER,
        Location(ROOT, f"Recovered folder {name or inode}"),
        stage=Stage.FAILED,
        error="the original folder of its content is unknown: move the content to where it belongs",
        created_at_s=now_s,
        touched_at_s=now_s,
        failed_at_s=now_s,
    )
