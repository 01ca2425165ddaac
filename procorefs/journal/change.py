"""A change: what is wanted of one inode, as far as it may differ from what Procore has.

    programs ─▶ edits ─▶ Change (memory and journal) ─▶ compared with the tree ─▶ calls ─▶ the tree ─▶ no Change

A change says what is wanted, never how to get there: ten renames are one, and a file made and removed is none.
"""

import msgspec

from procorefs.journal.states import ChangeState, check_step
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


UNSEEN = Version(VersionId(0), 0, 0, 0, "")
"""Nothing of the document was ever seen here: somebody else has made it where something of ours was to be."""


def aside_name(document: DocumentId) -> str:
    """The temporary name of a document that others want the name of."""
    return f"~{document}"


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


class Follow(msgspec.Struct, frozen=True, tag="follow"):
    """The inode is wanted wherever Procore has the document."""


class Placed(msgspec.Struct, frozen=True, omit_defaults=True, tag="placed"):
    """The inode is wanted at a location."""

    location: Location
    aside_from: Location | None = None
    """Where Procore had it before it got another name for a moment, so that others could have its own. Means nothing
    any more once Procore has it under a third name."""


class Removed(msgspec.Struct, omit_defaults=True, tag="removed"):
    """The inode was removed here.

    Of a change without a document: a call of ours may have made one that nobody wants (in_flight_calls.py).
    """

    aside_from: Location | None = None
    """See Placed."""
    lost_upload: Upload | None = None
    """The last one that was used: the version that it may have made was not made by another user."""


FOLLOW = Follow()


class Unchanged(msgspec.Struct, frozen=True, tag="unchanged"):
    """The bytes are as in Procore."""


class Written(msgspec.Struct, omit_defaults=True, tag="written"):
    """Bytes that were written here are wanted, and what is known of sending them."""

    staged: StagedRecord
    """The newest bytes that were flushed."""
    upload: Upload | None = None
    """How far they, or those of an older staged file, have come."""
    dropped_uploads: int = 0
    """Uploads in a row that gave way to newer bytes."""
    is_on_slow_line: bool = False
    """An upload in segments expired before the last ones had begun: now all begin at once."""


class PendingCopy(msgspec.Struct, frozen=True, tag="pending_copy"):
    """Another document's bytes are wanted: a file of Procore was renamed onto another, or its name was taken over."""

    version: Version


UNCHANGED = Unchanged()


class Open(msgspec.Struct, frozen=True, omit_defaults=True, tag="open"):
    """A program is writing it; see ChangeState.OPEN."""

    reason: str = ""
    """Why its bytes cannot be journaled, or why an earlier call was refused."""


class Pending(msgspec.Struct, frozen=True, omit_defaults=True, tag="pending"):
    """It is sent by itself; see ChangeState.PENDING."""

    reason: str = ""
    """Why it waits."""
    attempts: int = 0
    """Passing failures in a row."""


class Failed(msgspec.Struct, frozen=True, omit_defaults=True, tag="failed"):
    """It was refused for good; see ChangeState.FAILED."""

    reason: str = ""
    at_s: float = 0.0


class Incomplete(msgspec.Struct, frozen=True, omit_defaults=True, tag="incomplete"):
    """Its bytes were cut off; see ChangeState.INCOMPLETE."""

    reason: str = ""


Place = Follow | Placed | Removed
Content = Unchanged | Written | PendingCopy
Progress = Open | Pending | Failed | Incomplete

_STATES: dict[type[Progress], ChangeState] = {
    Open: ChangeState.OPEN,
    Pending: ChangeState.PENDING,
    Failed: ChangeState.FAILED,
    Incomplete: ChangeState.INCOMPLETE,
}


class Change(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What is wanted of one inode; one row of the journal."""

    inode: Inode
    kind: Kind
    place: Place = FOLLOW
    """Where it is wanted."""
    document: DocumentId | None = None
    """The document in Procore that this inode is; None: it has yet to be made."""
    seen: Version | None = None
    """The document's version that was seen here when the document was removed, or was taken over from another inode,
    or got a newer one under bytes that were written here: a newer one is not deleted. None: the one that shows."""
    content: Content = UNCHANGED
    """The bytes that are wanted."""
    unclosed: StagedRecord | None = None
    """Bytes that are newer and were never flushed, of a document or on top of others that are being sent; nothing else
    waits for them. What a crash leaves of them is INCOMPLETE as soon as nothing else is left to send."""
    content_source: DocumentId | None = None
    """The document that this was before, and that has the bytes of the pending copy, or those that are missing in the
    staged files: it is not deleted before all of that is here. Set while the change is not shown."""
    is_junk: bool = False
    """Name and bytes were those of a file that a program keeps for itself when it was last closed or renamed; a file
    that has just been made under such a name is taken for one. Means nothing once there is a document."""
    kept: Kept = Kept()
    patch: MetadataPatch = msgspec.field(default_factory=MetadataPatch)
    """The metadata that is wanted."""
    patch_refusal: str = ""
    """Why metadata was given up: what else is wanted is sent first, then the change fails with this."""
    progress: Progress = Pending()
    """How far it has come. What follows from time or name alone is derived (due.py, item_states.py)."""
    created_at_s: float = 0.0
    """Times of clocks.unix_s, all of them: they must outlive the daemon."""
    touched_at_s: float = 0.0
    """When somebody here last changed anything about it."""
    sequence: int = 0
    """Counts journal entries of bytes; what is beyond the last one that is on disk is doubted after a power cut."""

    # Where it is wanted

    @property
    def location(self) -> Location | None:
        """Where it is wanted; None: where Procore has it, or nowhere."""
        return self.place.location if isinstance(self.place, Placed) else None

    @property
    def is_placed(self) -> bool:
        return isinstance(self.place, Placed)

    @property
    def is_following(self) -> bool:
        return isinstance(self.place, Follow)

    @property
    def is_removed(self) -> bool:
        return isinstance(self.place, Removed)

    @property
    def aside_from(self) -> Location | None:
        return None if isinstance(self.place, Follow) else self.place.aside_from

    @property
    def folders(self) -> list[Inode]:
        """The folders that its row names."""
        return [self.place.location.folder] if isinstance(self.place, Placed) else []

    def placed_at(self, location: Location) -> Placed:
        """The place for another location: from where it stepped aside stays known."""
        return Placed(location, self.aside_from)

    def step_aside(self, before: Location) -> None:
        """Procore is to have it under another name than `before` for a moment."""
        if not isinstance(self.place, Follow):
            self.place = msgspec.structs.replace(self.place, aside_from=before)

    # Its bytes

    @property
    def staged(self) -> StagedRecord | None:
        """The newest bytes that were flushed; None: the bytes are as in Procore, or a pending copy."""
        return self.content.staged if isinstance(self.content, Written) else None

    @property
    def pending_copy(self) -> Version | None:
        """The version of another document whose bytes are wanted."""
        return self.content.version if isinstance(self.content, PendingCopy) else None

    @property
    def has_bytes(self) -> bool:
        """Whether bytes are wanted that Procore's document does not have."""
        return not isinstance(self.content, Unchanged)

    @property
    def shown(self) -> StagedRecord | None:
        """The bytes that programs see; None: those of a version."""
        return self.unclosed or self.staged

    @property
    def records(self) -> list[StagedRecord]:
        """All staged files that hold bytes of it."""
        return [record for record in (self.staged, self.unclosed) if record is not None]

    @property
    def needs_version(self) -> bool:
        """Whether bytes are wanted that are in Procore alone so far: the document that has them must stay."""
        return isinstance(self.content, PendingCopy) or any(record.missing for record in self.records)

    def want_bytes(self, staged: StagedRecord) -> None:
        """Want the bytes of a staged file; what is known of an upload stays."""
        if isinstance(self.content, Written):
            self.content = msgspec.structs.replace(self.content, staged=staged)
        else:
            self.content = Written(staged)

    def leave_unclosed(self) -> None:
        """Send nothing of the bytes: those that programs see count as never flushed."""
        self.unclosed = self.shown
        if isinstance(self.content, Written):
            self.content = UNCHANGED

    # Its upload

    @property
    def upload(self) -> Upload | None:
        """How far an upload has come, be it one whose outcome is not known."""
        if isinstance(self.content, Written):
            return self.content.upload
        return self.place.lost_upload if isinstance(self.place, Removed) else None

    @property
    def used_upload(self) -> Upload | None:
        """The upload, if its last call may have been sent."""
        return self.upload if self.upload is not None and self.upload.is_used else None

    @property
    def gives_way(self) -> bool:
        """Whether an upload is dropped for newer bytes: one after the other would never end."""
        return isinstance(self.content, Written) and self.content.dropped_uploads < MOST_DROPPED

    @property
    def is_on_slow_line(self) -> bool:
        return isinstance(self.content, Written) and self.content.is_on_slow_line

    def begin_upload(self, upload: Upload) -> None:
        """Note an upload of its bytes, unless they are not wanted any more."""
        if isinstance(self.content, Written):
            self.content.upload = upload

    def drop_upload(self) -> None:
        """Forget the upload."""
        if isinstance(self.content, Written):
            self.content.upload = None
        if isinstance(self.place, Removed):
            self.place.lost_upload = None

    def upload_dropped(self) -> None:
        """An upload gave way to newer bytes."""
        if isinstance(self.content, Written):
            self.content.dropped_uploads += 1

    def upload_arrived(self) -> None:
        """Procore has the bytes of an upload."""
        if isinstance(self.content, Written):
            self.content.dropped_uploads = 0

    def upload_expired(self) -> None:
        """The line is too slow for segments one after the other."""
        if isinstance(self.content, Written):
            self.content.is_on_slow_line = True

    # How far it has come

    @property
    def state(self) -> ChangeState:
        return _STATES[type(self.progress)]

    @property
    def reason(self) -> str:
        """Why it failed, or why it waits."""
        return self.progress.reason

    @property
    def attempts(self) -> int:
        return self.progress.attempts if isinstance(self.progress, Pending) else 0

    @property
    def since_s(self) -> float:
        """Since when it is in its state."""
        return self.progress.at_s if isinstance(self.progress, Failed) else self.touched_at_s

    def step(self, progress: Progress) -> None:
        """Go on to another state."""
        check_step(self.state, _STATES[type(progress)], self.inode)
        self.progress = progress

    def give_reason(self, reason: str) -> None:
        """Say why it waits or failed; the state stays."""
        self.progress = msgspec.structs.replace(self.progress, reason=reason)

    def call_succeeded(self) -> None:
        """Procore did what was asked: earlier failures no longer count; the state stays."""
        if isinstance(self.progress, Pending):
            self.progress = Pending()
        else:
            self.give_reason("")

    def failed_passing(self, reason: str) -> None:
        """A call failed, and is tried again."""
        if isinstance(self.progress, Pending):
            self.progress = Pending(reason, self.progress.attempts + 1)
        else:
            self.give_reason(reason)

    def be_incomplete(self) -> None:
        """Nothing is left but bytes that were never flushed: they stay until somebody says what to do with them."""
        self.content, self.unclosed = Written(self.unclosed) if self.unclosed is not None else UNCHANGED, None
        self.step(Incomplete(self.reason))

    def touch(self) -> None:
        """Note that somebody changed something: earlier failures no longer count."""
        self.touched_at_s = clocks.unix_s()
        self.step(Pending() if isinstance(self.progress, Failed) else type(self.progress)())
        self.patch_refusal = ""

    # What is left of it

    @property
    def is_folder(self) -> bool:
        return self.kind is Kind.FOLDER

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted that Procore could lack."""
        return self.document is not None and self.is_following and not self.has_bytes and not self.patch

    @property
    def is_bare(self) -> bool:
        """Whether it stands for nothing that is in Procore or could be made there."""
        return self.document is None and not self.has_bytes and not self.is_folder


def lost_folder(inode: Inode, name: str = "", reason: str = "") -> Change:
    """A folder that rows are placed in and nobody knows any more: it is shown, and is not sent until `retry`."""
    now_s = clocks.unix_s()
    reason = reason or "the original folder of its content is unknown: move the content to where it belongs"
    return Change(
        inode,
        Kind.FOLDER,
        Placed(Location(ROOT, f"Recovered folder {name or inode}")),
        progress=Failed(reason, now_s),
        created_at_s=now_s,
        touched_at_s=now_s,
    )
