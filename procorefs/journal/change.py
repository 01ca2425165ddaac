"""Defines a change: what is wanted of one inode, as far as it may differ from what Procore has.

    programs ─▶ edits ─▶ Change (memory and journal) ─▶ compared with the tree ─▶ calls ─▶ the tree ─▶ no Change

A change records what is wanted, not the steps to it: ten renames are one rename, and a file that is created and
removed leaves no change.
A hundred thousand may wait, so the garbage collector skips these structs (gc=False): none of them refers to itself.
"""

import msgspec

from procorefs.journal.states import ChangeState, check_step
from procorefs.procore.api.changes import FieldValue
from procorefs.procore.wire.models import DocumentId, Kind, Version, VersionId
from procorefs.procore.wire.upload_decoding import SegmentedUpload, WholeUpload
from procorefs.staging.staging_area import StagedRecord
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode, Kept
from procorefs.tree.rows import Known

MOST_DROPPED = 3
"""How many uploads in a row are cancelled for newer bytes; the next one is completed."""


class Location(msgspec.Struct, frozen=True, gc=False):
    """A folder, and the name in it that Procore is to have."""

    folder: Inode
    name: str

    @property
    def shown(self) -> bytes:
        return self.name.encode("utf-8", "replace")

    def has(self, known: Known) -> bool:
        """Whether Procore has the document here, possibly with composed or decomposed letters in its name."""
        return known.node.parent == self.folder and (
            known.name == self.name or known.node.shown == self.shown
        )


UNSEEN = Version(VersionId(0), 0, 0, 0, "")
"""Stands for the version of a document that was never seen here: another user made it at the place of ours."""


def aside_name(document: DocumentId) -> str:
    """The temporary name of a document that others want the name of."""
    return f"~{document}"


class MetadataPatch(msgspec.Struct, gc=False, omit_defaults=True):
    """Metadata that was set here and that Procore may lack."""

    description: str | msgspec.UnsetType = msgspec.UNSET
    tracked: bool | msgspec.UnsetType = msgspec.UNSET
    private: bool | msgspec.UnsetType = msgspec.UNSET
    custom_fields: dict[int, FieldValue] = {}
    tags: list[str] | msgspec.UnsetType = msgspec.UNSET
    """All tags that the document is to have; UNSET if they are not to change."""

    def __bool__(self) -> bool:
        return self.has_fields or self.tags is not msgspec.UNSET

    @property
    def has_fields(self) -> bool:
        """Whether a PATCH of the document is needed: tags have calls of their own."""
        plain = (self.description, self.tracked, self.private)
        return bool(self.custom_fields) or any(value is not msgspec.UNSET for value in plain)


class Upload(msgspec.Struct, gc=False, omit_defaults=True):
    """The progress of an upload; each step is journaled before the next one begins."""

    generation: int
    """The number of the staged file."""
    whole: WholeUpload | None = None
    segmented: SegmentedUpload | None = None
    etags: dict[int, str] = {}
    """The ETags of the segments that have arrived."""
    is_stored: bool = False
    """Whether all bytes have arrived and segments are joined."""
    is_used: bool = False
    """Whether the last call, which makes the version, may have been sent: then its outcome is looked up before it is
    repeated."""
    before: VersionId | None = None
    """The document's newest version when the last call was first sent."""
    sha256: bytes = b""

    @property
    def size_bytes(self) -> int:
        """The size of the file; 0 before the upload begins."""
        if self.segmented is not None:
            return sum(segment.size_bytes for segment in self.segmented.segments)
        return self.whole.size_bytes if self.whole is not None else 0

    @property
    def uuid(self) -> str:
        upload = self.whole or self.segmented
        return upload.uuid if upload is not None else ""


class Follow(msgspec.Struct, frozen=True, gc=False, tag="follow"):
    """The inode is wanted where Procore has the document."""


class Placed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="placed"):
    """The inode is wanted at a location."""

    location: Location
    aside_from: Location | None = None
    """Where Procore had it before it got another name for a moment, so that others could have its own. Means nothing
    any more once Procore has it under a third name."""


class Removed(msgspec.Struct, gc=False, omit_defaults=True, tag="removed"):
    """The inode was removed here.

    Without a document: a call of ours may have made one that is not wanted (in_flight_calls.py).
    """

    aside_from: Location | None = None
    """See Placed."""
    lost_upload: Upload | None = None
    """The last upload that was used: the version that it may have made is not another user's."""


FOLLOW = Follow()


class Unchanged(msgspec.Struct, frozen=True, gc=False, tag="unchanged"):
    """The bytes are those in Procore."""


class Written(msgspec.Struct, gc=False, omit_defaults=True, tag="written"):
    """Bytes that were written here are wanted; with the progress of their upload."""

    staged: StagedRecord
    """The record of the newest flushed bytes."""
    upload: Upload | None = None
    """The upload of these bytes, or of an older staged file."""
    dropped_uploads: int = 0
    """How many uploads in a row were cancelled for newer bytes."""
    is_on_slow_line: bool = False
    """Whether an upload in segments expired before the last ones had begun: then all begin at once."""


class PendingCopy(msgspec.Struct, frozen=True, gc=False, tag="pending_copy"):
    """Another document's bytes are wanted: it was renamed onto this one, or its name was taken over."""

    version: Version


UNCHANGED = Unchanged()


class Open(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="open"):
    """A program writes it; see ChangeState.OPEN."""

    reason: str = ""
    """Why its bytes could not be journaled, or why an earlier call was refused."""


class Pending(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="pending"):
    """It is sent automatically; see ChangeState.PENDING."""

    reason: str = ""
    """Why it waits."""
    attempts: int = 0
    """Temporary failures in a row."""


class Failed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="failed"):
    """It failed for good; see ChangeState.FAILED."""

    reason: str = ""
    at_s: float = 0.0


class Incomplete(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="incomplete"):
    """Its bytes were cut off; see ChangeState.INCOMPLETE."""

    reason: str = ""


class Guarded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="guarded"):
    """The delete guard holds it; see ChangeState.GUARDED."""

    reason: str = ""
    at_s: float = 0.0


Place = Follow | Placed | Removed
Content = Unchanged | Written | PendingCopy
Progress = Open | Pending | Failed | Incomplete | Guarded

_STATES: dict[type[Progress], ChangeState] = {
    Open: ChangeState.OPEN,
    Pending: ChangeState.PENDING,
    Failed: ChangeState.FAILED,
    Incomplete: ChangeState.INCOMPLETE,
    Guarded: ChangeState.GUARDED,
}


class Change(msgspec.Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What is wanted of one inode; a row of the journal."""

    inode: Inode
    kind: Kind
    place: Place = FOLLOW
    """Where it is wanted."""
    document: DocumentId | None = None
    """The inode's document in Procore; None if it must be created."""
    seen: Version | None = None
    """The document's version that was seen here when it was removed, taken over from another inode, or got a newer
    version below local bytes. A newer version is not deleted. None: the version that shows."""
    content: Content = UNCHANGED
    """The bytes that are wanted."""
    unclosed: StagedRecord | None = None
    """Newer bytes that were never flushed, of a document or of a file whose earlier bytes are being sent; nothing
    else waits for them. After a crash they become INCOMPLETE when nothing else is left to send."""
    content_source: DocumentId | None = None
    """The inode's earlier document, which has the bytes of the pending copy or the missing bytes of the staged
    files. It is not deleted before all of them are here. Set it only while the change is hidden."""
    is_junk: bool = False
    """Whether name and bytes were those of junk when the file was last closed or renamed. A new file with such a
    name counts as junk. Has no meaning once there is a document."""
    kept: Kept = Kept()
    patch: MetadataPatch = msgspec.field(default_factory=MetadataPatch)
    """The metadata that is wanted."""
    patch_refusal: str = ""
    """Why metadata was given up: the rest is sent first, then the change fails with this reason."""
    progress: Progress = Pending()
    """The recorded state. What follows from time or name alone is derived (due.py, item_states.py)."""
    passes_guard: bool = False
    """Whether a person let what is wanted now pass the delete guard."""
    created_at_s: float = 0.0
    """When the change was made. All times of changes are of clocks.unix_s, because they outlive the daemon."""
    touched_at_s: float = 0.0
    """When a program last changed anything about it."""
    sequence: int = 0
    """The number of the journal's entry of bytes; after a power cut, entries after the last synced one are doubted."""

    # Place

    @property
    def location(self) -> Location | None:
        """Where the inode is wanted; None if that is where Procore has it, or nowhere."""
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
        """The folders that the row names."""
        return [self.place.location.folder] if isinstance(self.place, Placed) else []

    def placed_at(self, location: Location) -> Placed:
        """The place for another location; it still records where the document was before a temporary name."""
        return Placed(location, self.aside_from)

    def step_aside(self, before: Location) -> None:
        """Procore is to have it under another name than `before` for a moment."""
        if not isinstance(self.place, Follow):
            self.place = msgspec.structs.replace(self.place, aside_from=before)

    # Bytes

    @property
    def staged(self) -> StagedRecord | None:
        """The newest flushed bytes; None if the bytes are those in Procore or of a pending copy."""
        return self.content.staged if isinstance(self.content, Written) else None

    @property
    def pending_copy(self) -> Version | None:
        """The version of another document whose bytes are wanted."""
        return self.content.version if isinstance(self.content, PendingCopy) else None

    @property
    def has_bytes(self) -> bool:
        """Whether bytes are wanted that the document in Procore lacks."""
        return not isinstance(self.content, Unchanged)

    @property
    def shown(self) -> StagedRecord | None:
        """The staged bytes that programs see; None if they see a version."""
        return self.unclosed or self.staged

    @property
    def records(self) -> list[StagedRecord]:
        """All staged files with bytes of the inode."""
        staged = self.staged
        if self.unclosed is not None:
            return [staged, self.unclosed] if staged is not None else [self.unclosed]
        return [staged] if staged is not None else []

    @property
    def needs_version(self) -> bool:
        """Whether wanted bytes are only in another document of Procore, which must stay."""
        return isinstance(self.content, PendingCopy) or any(record.missing for record in self.records)

    def want_bytes(self, staged: StagedRecord) -> None:
        """Want the bytes of a staged file; the progress of an upload is kept."""
        if isinstance(self.content, Written):
            self.content = msgspec.structs.replace(self.content, staged=staged)
        else:
            self.content = Written(staged)

    def leave_unclosed(self) -> None:
        """Let the bytes that programs see count as never flushed, so that they are not sent."""
        self.unclosed = self.shown
        if isinstance(self.content, Written):
            self.content = UNCHANGED

    # Upload

    @property
    def upload(self) -> Upload | None:
        """The upload, also one whose outcome is unknown."""
        if isinstance(self.content, Written):
            return self.content.upload
        return self.place.lost_upload if isinstance(self.place, Removed) else None

    @property
    def used_upload(self) -> Upload | None:
        """The upload, if its last call may have been sent."""
        return self.upload if self.upload is not None and self.upload.is_used else None

    @property
    def gives_way(self) -> bool:
        """Whether an upload may be cancelled for newer bytes; with no bound none might ever end."""
        return isinstance(self.content, Written) and self.content.dropped_uploads < MOST_DROPPED

    @property
    def is_on_slow_line(self) -> bool:
        return isinstance(self.content, Written) and self.content.is_on_slow_line

    def begin_upload(self, upload: Upload) -> None:
        """Record an upload of the bytes, unless they are no longer wanted."""
        if isinstance(self.content, Written):
            self.content.upload = upload

    def drop_upload(self) -> None:
        """Forget the upload."""
        if isinstance(self.content, Written):
            self.content.upload = None
        if isinstance(self.place, Removed):
            self.place.lost_upload = None

    def upload_dropped(self) -> None:
        """Count an upload that was cancelled for newer bytes."""
        if isinstance(self.content, Written):
            self.content.dropped_uploads += 1

    def upload_arrived(self) -> None:
        """Note that Procore has the bytes of the upload."""
        if isinstance(self.content, Written):
            self.content.dropped_uploads = 0

    def upload_expired(self) -> None:
        """Upload all segments at once, because the network is too slow to send them one after the other."""
        if isinstance(self.content, Written):
            self.content.is_on_slow_line = True

    # State

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
        return self.progress.at_s if isinstance(self.progress, Failed | Guarded) else self.touched_at_s

    def step(self, progress: Progress) -> None:
        """Change the state."""
        check_step(self.state, _STATES[type(progress)], self.inode)
        self.progress = progress

    def give_reason(self, reason: str) -> None:
        """Set the reason why it waits or failed, without changing the state."""
        self.progress = msgspec.structs.replace(self.progress, reason=reason)

    def call_succeeded(self) -> None:
        """Reset the failures after a successful call, without changing the state."""
        if isinstance(self.progress, Pending):
            self.progress = Pending()
        else:
            self.give_reason("")

    def failed_passing(self, reason: str) -> None:
        """Count a failed call that is tried again."""
        if isinstance(self.progress, Pending):
            self.progress = Pending(reason, self.progress.attempts + 1)
        else:
            self.give_reason(reason)

    def be_incomplete(self) -> None:
        """Become incomplete, because only bytes that were never flushed are left: they wait for `retry` or
        `discard`."""
        self.content, self.unclosed = Written(self.unclosed) if self.unclosed is not None else UNCHANGED, None
        self.step(Incomplete(self.reason))

    def touch(self) -> None:
        """Note a change by a program: earlier failures no longer count."""
        self.touched_at_s = clocks.unix_s()
        if not isinstance(self.progress, Guarded):
            self.step(Pending() if isinstance(self.progress, Failed) else type(self.progress)())
        self.patch_refusal = ""
        self.passes_guard = False

    # End

    @property
    def is_folder(self) -> bool:
        return self.kind is Kind.FOLDER

    @property
    def is_idle(self) -> bool:
        """Whether the change wants nothing that Procore may lack."""
        return self.document is not None and self.is_following and not self.has_bytes and not self.patch

    @property
    def is_bare(self) -> bool:
        """Whether the change has no document and none can be made for it."""
        return self.document is None and not self.has_bytes and not self.is_folder
