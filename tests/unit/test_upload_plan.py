"""What the next call about a change is, or what it waits for: by values alone."""

import pytest
from msgspec import UNSET

from procorefs.journal.change import FOLLOW, Change, Location, MetadataPatch, Removed
from procorefs.journal.in_flight_calls import Call
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import DocumentId, Kind, Version, VersionId
from procorefs.staging.staging_area import StagedRecord
from procorefs.tree.document_detail import Detail
from procorefs.tree.nodes import ROOT, Inode, Node, State
from procorefs.tree.rows import Known
from procorefs.upload.planning.plan import (
    Confirm,
    Create,
    Delete,
    Dismiss,
    Fetch,
    Goal,
    InPlace,
    Join,
    Nothing,
    Occupant,
    Recreate,
    Refuse,
    SetTags,
    Situation,
    Step,
    StepAside,
    UnansweredCall,
    Update,
    Wait,
    WaitForLate,
    next_step,
)
from tests.support.changes import Where, make_change

OURS, THEIRS, ABOVE = Inode(10), Inode(11), Inode(12)
DOCUMENT, OTHER = DocumentId(7), DocumentId(8)
OLD, NEW, ELSEWHERE = Location(ROOT, "old"), Location(ROOT, "new"), Location(ABOVE, "old")
BYTES = StagedRecord(2, 5, None, ())
LENT = Version(VersionId(3), 1, 5, 0, "")
TAGS, PRIVATE = MetadataPatch(tags=["a"]), MetadataPatch(private=True, tags=["a"])
NAMED = MetadataPatch(description="b")


def known_as(kind: Kind = Kind.FILE, name: str = "old") -> Known:
    """What Procore has: a document in the root."""
    node = Node(OURS, ROOT, name.encode(), DOCUMENT, kind, State.LIVE, False, False, 0, 0, None, "")
    return Known(node, name, b"", 1)


FILE, FOLDER = known_as(), known_as(Kind.FOLDER)


def file(place: Where = FOLLOW, document: DocumentId | None = DOCUMENT, **fields: object) -> Change:
    return make_change(OURS, Kind.FILE, place, document, **fields)  # type: ignore[arg-type]  # fields of a Change


def folder(place: Where = FOLLOW, document: DocumentId | None = DOCUMENT, **fields: object) -> Change:
    return make_change(OURS, Kind.FOLDER, place, document, **fields)  # type: ignore[arg-type]  # the same


def call(document: DocumentId | None = DOCUMENT, place: Location | None = None, **fields: object) -> Call:
    return Call(1, OURS, Kind.FILE, document, place=place, **fields)  # type: ignore[arg-type]  # fields of a Call


@pytest.mark.parametrize(
    ("change", "now", "step"),
    [
        # made
        (folder(NEW, None), Situation(), Create(NEW)),
        (file(NEW, None, staged=BYTES), Situation(), Create(NEW)),
        (file(NEW, None), Situation(), Refuse("its bytes are not on this disk any more: write it again")),
        # changed
        (file(staged=BYTES), Situation(known=FILE), Update(FILE, None, True)),
        (file(pending_copy=LENT), Situation(known=FILE), Update(FILE, None, True)),
        (file(NEW), Situation(known=FILE), Update(FILE, NEW, False)),
        (file(NEW, staged=BYTES), Situation(known=FILE), Update(FILE, NEW, True)),
        (folder(ELSEWHERE), Situation(known=FOLDER), Update(FOLDER, ELSEWHERE, False)),
        (file(patch=NAMED), Situation(known=FILE, detail=Detail()), Update(FILE, None, False)),
        # held by the delete guard
        (file(Removed(), state=ChangeState.GUARDED), Situation(known=FILE), Nothing()),
        (file(staged=BYTES, state=ChangeState.GUARDED), Situation(known=FILE), Nothing()),
        # already so
        (file(OLD), Situation(known=FILE), InPlace()),
        (file(), Situation(known=FILE), InPlace()),
        (file(patch=NAMED), Situation(known=FILE, detail=Detail(description="b")), InPlace()),
        # tags go in calls of their own: last, or first when the document may be hidden afterwards
        (file(patch=TAGS), Situation(known=FILE, detail=Detail()), SetTags(is_last=True)),
        (file(NEW, patch=TAGS), Situation(known=FILE, detail=Detail()), Update(FILE, NEW, False)),
        (folder(patch=PRIVATE), Situation(known=FOLDER, detail=Detail()), SetTags(is_last=False)),
        # gone from Procore meanwhile
        (file(staged=BYTES), Situation(), Recreate()),
        (folder(NEW), Situation(), Recreate()),
        # removed
        (file(Removed()), Situation(known=FILE), Delete(FILE)),
        (file(Removed()), Situation(), Dismiss()),
        (file(Removed(), None), Situation(), Dismiss()),
    ],
)
def test_what_is_sent(change: Change, now: Situation, step: Step) -> None:
    assert next_step(change, now) == step


def other(kind: Kind = Kind.FILE, **fields: object) -> Occupant:
    return Occupant(THEIRS, OTHER, kind, **fields)  # type: ignore[arg-type]  # fields of an Occupant


@pytest.mark.parametrize(
    ("change", "now", "by"),
    [
        (file(staged=BYTES), Situation(known=FILE, call_in_the_way=THEIRS), THEIRS),
        (file(NEW, None, staged=BYTES), Situation(call_in_the_way=THEIRS), THEIRS),
        (file(ELSEWHERE, None, staged=BYTES), Situation(missing_folder=ABOVE), ABOVE),
        (file(NEW), Situation(known=FILE, occupant=other(leaves=True)), THEIRS),
        (file(NEW, None, staged=BYTES), Situation(occupant=other(leaves=True)), THEIRS),
        (file(NEW, None, staged=BYTES), Situation(occupant=other(has_work=True)), THEIRS),
        (folder(NEW, None), Situation(occupant=other(Kind.FOLDER, inside=ABOVE)), ABOVE),
        (file(NEW, None, staged=BYTES), Situation(occupant=other(Kind.FOLDER, maker=ABOVE)), ABOVE),
        (file(NEW), Situation(known=FILE, occupant=other(maker=ABOVE)), ABOVE),
        (folder(ELSEWHERE), Situation(known=FOLDER, is_inside_itself=True, leaving=ABOVE), ABOVE),
        (file(Removed()), Situation(known=FILE, call_in_the_way=THEIRS), THEIRS),
        (folder(Removed()), Situation(known=FOLDER, call_inside=THEIRS), THEIRS),
        (file(Removed()), Situation(known=FILE, removed_above=ABOVE), ABOVE),
        (file(Removed()), Situation(known=FILE, pending_copy=THEIRS), THEIRS),
    ],
)
def test_what_a_change_waits_for(change: Change, now: Situation, by: Inode) -> None:
    step = next_step(change, now)
    assert isinstance(step, Wait)
    assert step.by == by


def test_a_document_of_a_colleague_that_has_the_name() -> None:
    new = file(NEW, None, staged=BYTES)
    assert next_step(new, Situation(occupant=other())) == Join(other())
    folder_there = other(Kind.FOLDER)
    assert next_step(new, Situation(occupant=folder_there)) == Join(folder_there), (
        "Procore may have deleted it"
    )
    moved = next_step(file(NEW), Situation(known=FILE, occupant=other()))
    assert moved == Update(FILE, NEW, False), "Procore says whether it takes the name"


def test_a_folder_that_would_lie_in_itself_for_good() -> None:
    assert isinstance(next_step(folder(ELSEWHERE), Situation(known=FOLDER, is_inside_itself=True)), Refuse)


def test_a_name_that_procore_does_not_take() -> None:
    new = file(NEW, None, staged=BYTES)
    assert next_step(new, Situation(name_refusal="no ':'")) == Refuse("no ':': rename it")
    waits = next_step(new, Situation(name_refusal="no ':'", missing_folder=ABOVE))
    assert isinstance(waits, Wait), "it may be renamed by then"


MADE, MOVED = call(None, NEW, makes=True), call(place=NEW)
LATE = call(place=NEW, is_late=True)


@pytest.mark.parametrize(
    ("change", "unanswered", "step"),
    [
        (file(NEW, None, staged=BYTES), UnansweredCall(MADE, 100.0), Confirm(MADE)),
        (file(OLD), UnansweredCall(MOVED, 100.0), Confirm(MOVED)),
        (file(OLD), UnansweredCall(LATE, 100.0), WaitForLate(100.0)),
        (file(OLD), UnansweredCall(LATE, 0.0), Confirm(LATE)),
        (file(NEW), UnansweredCall(LATE, 100.0), Update(FILE, NEW, False)),
        (file(Removed()), UnansweredCall(LATE, 100.0), Delete(FILE)),
        (file(Removed()), UnansweredCall(call(removes=True), 100.0), Delete(FILE)),
    ],
)
def test_a_call_without_an_answer_comes_first(change: Change, unanswered: UnansweredCall, step: Step) -> None:
    known = FILE if change.document is not None else None
    assert next_step(change, Situation(known=known, unanswered=(unanswered,))) == step


def test_a_call_about_the_same_name_is_confirmed_before() -> None:
    waits = next_step(file(NEW, None), Situation(unanswered=(UnansweredCall(MADE, 1.0, blocker=THEIRS),)))
    assert isinstance(waits, Wait)
    assert waits.by == THEIRS


def test_its_folder_goes_after_the_calls_about_it() -> None:
    """What became of them is known before the document goes along with its folder."""
    asked = UnansweredCall(call(removes=True), 100.0)
    now = Situation(known=FILE, removed_above=ABOVE, unanswered=(asked,))
    assert next_step(file(Removed()), now) == Delete(FILE)


def test_a_document_steps_aside() -> None:
    aside = Location(ROOT, "~7")
    change, now = file(NEW), Situation(known=FILE, aside=aside)
    assert next_step(change, now, Goal.STEP_ASIDE) == StepAside(FILE, aside)
    assert next_step(change, Situation(), Goal.STEP_ASIDE) == Nothing()
    open_call = Situation(known=FILE, aside=aside, unanswered=(UnansweredCall(MOVED, 100.0),))
    assert next_step(change, open_call, Goal.STEP_ASIDE) == Confirm(MOVED)
    under_way = Situation(known=FILE, aside=aside, call_in_the_way=THEIRS)
    assert isinstance(next_step(change, under_way, Goal.STEP_ASIDE), Wait)


def test_bytes_are_fetched_and_nothing_more() -> None:
    busy = Situation(call_in_the_way=THEIRS)
    assert next_step(file(NEW, None, pending_copy=LENT), busy, Goal.FETCH) == Fetch()
    assert next_step(file(NEW, None, staged=BYTES), busy, Goal.FETCH) == Nothing()


def test_metadata_of_something_new_goes_along() -> None:
    new = file(NEW, None, staged=BYTES, patch=TAGS)
    assert new.patch.tags is not UNSET
    assert next_step(new, Situation()) == Create(NEW)
