"""Open calls: which of them are in the way, how they end, and what a late one would undo."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from procorefs.journal.change import FOLLOW, Change, Location, MetadataPatch, Removed
from procorefs.journal.in_flight_calls import Call, InFlightCalls
from procorefs.journal.journal import Journal
from procorefs.procore.errors import Forbidden, ProcoreError, Unanswered, Unreachable
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.tree.nodes import ROOT, Inode
from procorefs.upload.planning.plan import hindrance
from tests.support.changes import make_change

ONE, OTHER = Inode(10), Inode(11)
DOCUMENT = DocumentId(7)
HERE, THERE = Location(ROOT, "here"), Location(ROOT, "there")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()


def calls_of(journal: Journal) -> InFlightCalls:
    return InFlightCalls(journal, lambda: None, lambda: Inode(100))


@pytest.mark.parametrize(
    ("error", "is_open"),
    [
        (None, False),
        (Unanswered("silence"), True),
        (Forbidden("no"), False),
        (Unreachable("no connection: it was not sent"), False),
        (OSError("the disk is full"), True),
    ],
)
def test_how_a_call_ends(journal: Journal, error: Exception | None, *, is_open: bool) -> None:
    calls = calls_of(journal)
    try:
        with calls.sending(ONE, Kind.FILE, DOCUMENT, HERE) as sending:
            assert calls.is_under_way(ONE)
            if error is not None:
                raise error
            sending.answered()
    except (ProcoreError, OSError):
        pass
    assert not calls.is_under_way(ONE)
    assert calls.moves(ONE, DOCUMENT) is is_open
    assert bool(calls_of(journal).unconfirmed(ONE, None)) is is_open


@pytest.mark.parametrize("error", [None, Unanswered("silence"), Forbidden("no")])
def test_each_row_of_a_call_is_brought_to_disk_soon(journal: Journal, error: Exception | None) -> None:
    """Else a power cut minutes later would still take along that it was sent, or how it ended."""
    written: list[int] = []
    calls = InFlightCalls(journal, lambda: written.append(len(journal.calls())), lambda: Inode(100))
    with suppress(ProcoreError), calls.sending(ONE, Kind.FILE, DOCUMENT, HERE):
        assert written == [1]
        if error is not None:
            raise error
    is_open = isinstance(error, Unanswered)
    assert written == [1, 1 if is_open else 0]
    for call in calls.unconfirmed(ONE, DOCUMENT):
        calls.forget(call)
        assert written == [1, 1, 0]


def test_an_answer_that_cannot_be_applied_leaves_the_call_open(journal: Journal) -> None:
    calls = calls_of(journal)
    with suppress(OSError), calls.sending(ONE, Kind.FILE, None, HERE) as sending:
        sending.answered()
        assert not calls.makes(ONE)
        raise OSError("the disk is full")
    assert calls.makes(ONE)


def test_a_refusal_that_is_not_understood_yet_leaves_the_call_open(journal: Journal) -> None:
    """It may have been refused because an earlier one was done."""
    calls = calls_of(journal)
    with suppress(Unreachable), calls.sending(ONE, Kind.FILE, None, HERE) as sending:
        sending.unclear()
        raise Unreachable("away while it was looked for")
    assert calls.makes(ONE)


@pytest.mark.parametrize("error", [Unanswered("silence"), Unreachable("away"), Forbidden("no")])
def test_a_repeat_that_is_not_understood_leaves_the_call_open(journal: Journal, error: ProcoreError) -> None:
    """What refuses the second one says nothing of what became of the first."""
    calls = calls_of(journal)
    with suppress(Unanswered), calls.sending(ONE, Kind.FILE, DOCUMENT):
        raise Unanswered("silence")
    (first,) = calls.unconfirmed(ONE, DOCUMENT)
    with suppress(ProcoreError), calls.sending(ONE, Kind.FILE, DOCUMENT, repeats=first):
        raise error
    assert len(calls.unconfirmed(ONE, DOCUMENT)) == 1


def test_a_call_that_the_daemon_died_in_is_unconfirmed(journal: Journal) -> None:
    with calls_of(journal).sending(ONE, Kind.FILE, DOCUMENT, removes=True):
        (call,) = calls_of(journal).unconfirmed(OTHER, DOCUMENT)
    assert (call.inode, call.removes) == (ONE, True)


def test_who_is_in_the_way(journal: Journal) -> None:
    calls = calls_of(journal)
    with calls.sending(ONE, Kind.FILE, DOCUMENT, HERE):
        assert calls.in_the_way(OTHER, DOCUMENT, None) == ONE
        assert calls.in_the_way(OTHER, None, HERE) == ONE
        assert calls.in_the_way(OTHER, None, THERE) is None
        assert calls.in_the_way(ONE, DOCUMENT, HERE) is None


def call(document: DocumentId | None = DOCUMENT, place: Location | None = None, **values: object) -> Call:
    return Call(1, ONE, Kind.FOLDER, document, place=place, **values)  # type: ignore[arg-type]  # fields of a Call


def change(place: object, document: DocumentId | None = DOCUMENT, **patch: object) -> Change:
    wanted = MetadataPatch(**patch)  # type: ignore[arg-type]  # fields of MetadataPatch
    return make_change(ONE, Kind.FOLDER, place, document, patch=wanted)  # type: ignore[arg-type]  # any of the places


@pytest.mark.parametrize(
    ("late", "wanted", "waits"),
    [
        (call(place=THERE), change(HERE), True),
        (call(place=THERE), change(THERE), False),
        (call(place=THERE), change(FOLLOW), False),
        (call(place=THERE), change(Removed()), False),
        (call(patch=MetadataPatch(description="a")), change(FOLLOW, description="b"), True),
        (call(patch=MetadataPatch(description="a")), change(FOLLOW, description="a"), False),
        (call(patch=MetadataPatch(description="a")), change(HERE), False),
        (call(patch=MetadataPatch(custom_fields={1: "a"})), change(FOLLOW, custom_fields={1: "b"}), True),
        (call(patch=MetadataPatch(custom_fields={1: "a"})), change(FOLLOW, custom_fields={2: "b"}), False),
        # Making a folder: as long as ours has the name, a second one is refused.
        (call(None, HERE, makes=True), change(HERE, None), False),
        (call(None, HERE, makes=True), change(THERE, None), True),
        (call(None, HERE, makes=True), change(Removed(), None), True),
        (call(DOCUMENT, HERE, makes=True), change(FOLLOW), False),
        (call(DOCUMENT, HERE, makes=True), change(THERE), True),
        (call(DOCUMENT, HERE, makes=True), change(Removed()), True),
    ],
)
def test_what_a_late_call_would_undo_waits(late: Call, wanted: Change, *, waits: bool) -> None:
    assert hindrance(late, wanted) is waits
