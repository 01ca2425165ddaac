"""Decides what the next call about a change is, or what the change waits for: a pure function of values.

    what is wanted (Change) · what Procore has · what is in flight (Situation) ─▶ next_step ─▶ a step

situation.py reads the values, the scheduler blocks a change that must wait, sender.py makes the call of another step.
"""

import enum
from dataclasses import dataclass

from msgspec import UNSET

from procorefs.journal.change import Change, Location, MetadataPatch
from procorefs.journal.in_flight_calls import Call
from procorefs.journal.metadata_patch import lacking
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.tree.document_detail import Detail
from procorefs.tree.nodes import Inode
from procorefs.tree.rows import Known


class Goal(enum.Enum):
    """The purpose of a try."""

    SEND = enum.auto()
    FETCH = enum.auto()
    """Only fetch missing bytes, because the document that has them is to be removed."""
    STEP_ASIDE = enum.auto()
    """Give the document a temporary name, because documents that swap names would wait for each other for ever."""


# What is known


@dataclass(frozen=True, slots=True)
class UnansweredCall:
    """A call about the change that ended without an answer."""

    call: Call
    left_s: float = 0.0
    """For how many more seconds it may still take effect."""
    blocker: Inode | None = None
    """Another inode whose open call creates something at the same place."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """Another document that Procore has at the wanted place."""

    inode: Inode
    document: DocumentId | None
    kind: Kind
    leaves: bool = False
    """Whether it is wanted elsewhere or is to be removed."""
    has_work: bool = False
    """Whether it has a change, is being written, or has an open call."""
    inside: Inode | None = None
    """A change that is wanted in it."""
    maker: Inode | None = None
    """Another inode whose open call may have made it. When that is known, it is removed or gets an owner."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What Procore has and what is in flight around one change."""

    known: Known | None = None
    """Procore's document of the change; None if there is none."""
    detail: Detail | None = None
    unanswered: tuple[UnansweredCall, ...] = ()
    content_refusal: str = ""
    """A sentence why Procore would not accept the bytes."""
    name_refusal: str = ""
    """Why Procore would refuse the name of a new document."""
    call_in_the_way: Inode | None = None
    """Another inode with an open call about the document or to its place."""
    missing_folder: Inode | None = None
    """The inode of the wanted folder, if that has no document yet."""
    occupant: Occupant | None = None
    is_inside_itself: bool = False
    """Whether Procore has the wanted folder inside the folder that is moved."""
    leaving: Inode | None = None
    """The folder between them that is to be moved out."""
    call_inside: Inode | None = None
    """An inode with an open call about an entry of the folder that is removed."""
    removed_above: Inode | None = None
    """The nearest folder above that is removed, too, and that the delete guard does not hold."""
    pending_copy: Inode | None = None
    """An inode that needs bytes of the document that is removed."""
    aside: Location | None = None
    """The place for the document under its temporary name."""


# What to do


@dataclass(frozen=True, slots=True)
class Wait:
    """Another change is sent first."""

    by: Inode
    why: str
    is_for_name: bool = False
    """The other's document is to leave the name: it may get another one for a moment."""


@dataclass(frozen=True, slots=True)
class WaitForLate:
    """A late call may still take effect and would undo what is wanted."""

    left_s: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """It can never be done."""

    why: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """Find out the outcome of an unanswered call."""

    call: Call


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Nothing has to be removed, because Procore does not have it."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the document."""

    known: Known


@dataclass(frozen=True, slots=True)
class Recreate:
    """Procore does not have the document any more: create a new one."""


@dataclass(frozen=True, slots=True)
class Join:
    """Another user has made a document of that name: ours becomes its next version, or the same folder. A document of
    another kind refuses the name. Procore is first asked whether it still has that document."""

    occupant: Occupant


@dataclass(frozen=True, slots=True)
class SetTags:
    """Send the tags, each in its own call."""

    is_last: bool
    """Nothing else is wanted."""


@dataclass(frozen=True, slots=True)
class Create:
    """POST a folder, or upload the bytes and POST a file."""

    target: Location


@dataclass(frozen=True, slots=True)
class Update:
    """PATCH the document; `has_bytes`: upload the bytes first."""

    known: Known
    target: Location | None
    has_bytes: bool


@dataclass(frozen=True, slots=True)
class InPlace:
    """Procore has all that is wanted."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch the missing bytes."""


@dataclass(frozen=True, slots=True)
class StepAside:
    """PATCH the document to a name that no other change wants."""

    known: Known
    place: Location


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing can or must be done."""


Step = (
    Wait
    | WaitForLate
    | Refuse
    | Confirm
    | Dismiss
    | Delete
    | Recreate
    | Join
    | SetTags
    | Create
    | Update
    | InPlace
    | Fetch
    | StepAside
    | Nothing
)


def next_step(change: Change, now: Situation, goal: Goal = Goal.SEND) -> Step:
    """Decide what the next try of a change does."""
    if goal is Goal.FETCH:
        return Fetch() if change.needs_version else Nothing()
    if change.state is ChangeState.GUARDED:
        return Nothing()
    if goal is Goal.STEP_ASIDE:
        return _step_aside(change, now)
    step = _open_call(change, now)
    if step is None:
        step = _removal(now) if change.is_removed else _wanted(change, now)
    if now.name_refusal and not isinstance(step, Wait):
        return Refuse(f"{now.name_refusal}: rename it")
    sends_bytes = (isinstance(step, Create) and not change.is_folder) or (
        isinstance(step, Update) and step.has_bytes
    )
    if now.content_refusal and sends_bytes:
        return Refuse(now.content_refusal)
    return step


def target_of(change: Change, known: Known | None) -> Location | None:
    """Where the document must be moved or created; None if it is where it is wanted."""
    if change.location is None:
        return None
    return None if known is not None and change.location.has(known) else change.location


def lacking_metadata(change: Change, now: Situation) -> MetadataPatch:
    """The wanted metadata that Procore does not have."""
    return lacking(change.patch, now.detail) if now.detail is not None else change.patch


def takeover_wait(occupant: Occupant) -> Wait | None:
    """The change that must be sent before this one takes over a document that has another inode."""
    if occupant.has_work:
        return Wait(occupant.inode, "what was written to the document that has its name goes first")
    if occupant.inside is not None:
        return Wait(occupant.inside, "what was put into the folder that has its name goes first")
    return None


def leave_wait(inode: Inode) -> Wait:
    """A document must leave the name that is wanted."""
    return Wait(inode, "another document still has the name in Procore", is_for_name=True)


def kind_refusal(kind: Kind) -> str:
    """Why the change cannot get the name of a document of another kind."""
    what = "folder" if kind is Kind.FOLDER else "file"
    return f"Procore has a {what} of that name: rename one of the two"


def hindrance(call: Call, change: Change) -> bool:
    """Whether a late call, if it still took effect, would undo what is wanted."""
    if call.makes:  # it cannot be done while a folder of ours has the name
        has_name = change.is_following or change.location == call.place
        return call.document == change.document and not has_name
    if change.is_removed:
        return False
    if call.removes:
        return True
    if change.location is not None and call.place is not None and change.location != call.place:
        return True
    wanted, carried = change.patch, call.patch
    for name in ("description", "tracked", "private"):
        one, other = getattr(wanted, name), getattr(carried, name)
        if one is not UNSET and other is not UNSET and one != other:
            return True
    if wanted.tags is not UNSET and carried.tags is not UNSET and set(wanted.tags) != set(carried.tags):
        return True
    both = wanted.custom_fields.keys() & carried.custom_fields.keys()
    return any(wanted.custom_fields[field] != carried.custom_fields[field] for field in both)


def _open_call(change: Change, now: Situation) -> Step | None:
    """The call that must be confirmed before anything else is sent about the document."""
    for one in now.unanswered:
        call = one.call
        if not call.is_late and call.removes and change.is_removed:
            continue  # it will be created again
        is_older = call.upload is not None and change.has_bytes and not change.is_removed
        if not call.is_late or not one.left_s or is_older:  # older bytes must not arrive after newer ones
            is_placing = call.is_creating and change.document is None
            if is_placing and one.blocker is not None:
                return Wait(one.blocker, "a call about its name is in progress")
            return Confirm(call)
        if hindrance(call, change):
            return WaitForLate(one.left_s)
    return None


def _removal(now: Situation) -> Step:
    if now.known is None:
        return Dismiss()
    if now.call_in_the_way is not None:
        return Wait(now.call_in_the_way, "a call about it is in progress")
    if now.call_inside is not None:
        return Wait(now.call_inside, "a call about something in it is in progress")
    # Its folder waits until the outcome of its own calls is known.
    is_confirmed = all(one.call.is_late for one in now.unanswered)
    if now.removed_above is not None and is_confirmed:
        return Wait(now.removed_above, "it goes with its folder")
    if now.pending_copy is not None:
        return Wait(now.pending_copy, "its bytes are on their way to another name")
    return Delete(now.known)


def _wanted(change: Change, now: Situation) -> Step:
    if change.document is not None and now.known is None:
        return Recreate()
    target = target_of(change, now.known)
    hurdle = _hurdle(now, target)
    if hurdle is not None:
        return hurdle
    is_new = target is not None and now.known is None
    if is_new and now.occupant is not None and now.occupant.document is not None:
        return _join(change, now.occupant)
    metadata = lacking_metadata(change, now)
    has_tags = metadata.tags is not UNSET
    has_more = target is not None or change.has_bytes or metadata.has_fields
    # A document that was made private may be hidden from its author.
    if has_tags and now.known is not None and (metadata.private is True or not has_more):
        return SetTags(is_last=not has_more)
    if now.known is not None and has_more:
        return Update(now.known, target, change.has_bytes)
    if now.known is not None:
        return InPlace()
    if target is not None and (change.is_folder or change.has_bytes):
        return Create(target)
    if has_tags:
        return SetTags(is_last=True)
    return (
        InPlace() if change.is_folder else Refuse("its bytes are not on this disk any more: write it again")
    )


def _hurdle(now: Situation, target: Location | None) -> Wait | Refuse | None:
    """What prevents the document from getting its wanted place."""
    if now.call_in_the_way is not None:
        return Wait(now.call_in_the_way, "another call about it is in progress")
    if target is None:
        return None
    if now.missing_folder is not None:
        return Wait(now.missing_folder, "its folder is not in Procore yet")
    if now.occupant is not None and now.occupant.leaves:
        return leave_wait(now.occupant.inode)
    if now.occupant is not None and now.occupant.maker is not None:
        return Wait(now.occupant.maker, "a call about its name is in progress")
    if now.is_inside_itself:
        if now.leaving is None:
            return Refuse("its new folder lies inside of it in Procore: move that out of it first")
        return Wait(now.leaving, "its new folder is moved out of it first")
    return None


def _join(change: Change, occupant: Occupant) -> Step:
    wait = takeover_wait(occupant) if occupant.kind is change.kind else None
    return wait or Join(occupant)


def _step_aside(change: Change, now: Situation) -> Step:
    if now.known is None or change.document is None or now.aside is None:
        return Nothing()
    if any(not one.call.is_late for one in now.unanswered):
        return next_step(change, now)
    if now.call_in_the_way is not None:
        return Wait(now.call_in_the_way, "another call about it is in progress")
    return StepAside(now.known, now.aside)
