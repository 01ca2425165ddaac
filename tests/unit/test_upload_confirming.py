"""What a call that was given up, and may still be carried out, holds up: whatever it would undo."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from procorefs.journal.change import FOLLOW, Location, MetadataPatch, Removed, Upload
from procorefs.journal.in_flight_calls import Call
from procorefs.procore.errors import LATE_S, Unanswered
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.staging.staging_area import StagedRecord
from procorefs.storage import clocks
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.request_order import RequestOrder
from procorefs.upload.planning.plan import Confirm, Delete, InPlace, Update, WaitForLate, hindrance
from procorefs.upload.planning.refused_content import RefusedContent
from procorefs.upload.planning.situation import Situations
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.upload.sending.unanswered import UnansweredCalls
from tests.support.changes import make_change
from tests.support.local_work import ME
from tests.support.offline_project import OfflineProject, offline_project
from tests.support.tree_documents import file

DOCUMENT = DocumentId(7)
OLD, NEW, OTHER = Location(ROOT, "old"), Location(ROOT, "new"), Location(ROOT, "other")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[OfflineProject]:
    with offline_project(tmp_path) as opened:
        opened.list_root(file(7, "old"))
        yield opened


def situations_of(project: OfflineProject) -> Situations:
    return Situations(
        project.store, project.view, project.dirty_files, project.calls, project.base.fates, RefusedContent()
    )


@pytest.mark.parametrize(
    ("place", "is_hindered"), [(NEW, False), (FOLLOW, False), (OLD, True), (OTHER, True), (Removed(), False)]
)
def test_a_late_rename(place: Location, is_hindered: bool) -> None:
    call = Call(1, Inode(5), Kind.FILE, DOCUMENT, place=NEW, is_late=True)
    assert hindrance(call, make_change(Inode(5), Kind.FILE, place, document=DOCUMENT)) is is_hindered


def test_a_late_deletion_would_undo_all_but_the_removal() -> None:
    call = Call(1, Inode(5), Kind.FILE, DOCUMENT, removes=True, is_late=True)
    kept = make_change(Inode(5), Kind.FILE, document=DOCUMENT)
    assert hindrance(call, kept)
    assert not hindrance(call, make_change(Inode(5), Kind.FILE, Removed(), document=DOCUMENT))


@pytest.mark.parametrize(
    ("place", "is_hindered"), [(NEW, False), (FOLLOW, False), (OTHER, True), (Removed(), True)]
)
def test_a_late_creation_of_a_folder_that_was_made_by_another_call(
    place: Location, is_hindered: bool
) -> None:
    call = Call(1, Inode(5), Kind.FOLDER, DOCUMENT, makes=True, place=NEW, is_late=True)
    assert hindrance(call, make_change(Inode(5), Kind.FOLDER, place, document=DOCUMENT)) is is_hindered


@pytest.mark.parametrize(
    ("carried", "wanted", "is_hindered"),
    [
        (MetadataPatch(description="a"), MetadataPatch(description="b"), True),
        (MetadataPatch(description="a"), MetadataPatch(description="a"), False),
        (MetadataPatch(description="a"), MetadataPatch(), False),
        (MetadataPatch(private=False), MetadataPatch(private=True), True),
        (MetadataPatch(tracked=True), MetadataPatch(tracked=False), True),
        (MetadataPatch(tags=["a", "b"]), MetadataPatch(tags=["a"]), True),
        (MetadataPatch(tags=["a", "b"]), MetadataPatch(tags=["b", "a"]), False),
        (MetadataPatch(custom_fields={1: "a"}), MetadataPatch(custom_fields={1: "b"}), True),
        (MetadataPatch(custom_fields={1: "a"}), MetadataPatch(custom_fields={2: "b"}), False),
    ],
)
def test_late_metadata(carried: MetadataPatch, wanted: MetadataPatch, is_hindered: bool) -> None:
    call = Call(1, Inode(5), Kind.FILE, DOCUMENT, patch=carried, is_late=True)
    assert hindrance(call, make_change(Inode(5), Kind.FILE, document=DOCUMENT, patch=wanted)) is is_hindered


async def test_what_a_late_call_would_undo_waits_until_that_is_over(
    project: OfflineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    situations = situations_of(project)
    inode = project.child(ROOT, b"old").inode
    project.edits.entries.rename(ROOT, b"old", ROOT, b"new")
    with pytest.raises(Unanswered), project.calls.sending(inode, Kind.FILE, DOCUMENT, NEW):
        raise Unanswered("no answer")
    change = project.change(inode)
    [call] = project.calls.given_up(inode, DOCUMENT)
    assert situations.step(change) == Confirm(call)
    project.calls.not_done_yet(call)
    assert isinstance(situations.step(change), Update)
    project.edits.entries.rename(ROOT, b"new", ROOT, b"old")
    change = project.change(inode)
    assert change.location == OLD
    waits = situations.step(change)
    assert isinstance(waits, WaitForLate)
    assert 0 < waits.left_s <= LATE_S
    monkeypatch.setattr(clocks, "unix_s", lambda: call.given_up_at_s + LATE_S + 1)
    assert situations.step(change) == Confirm(call)


async def test_older_bytes_of_a_late_call_come_before_newer_ones(
    project: OfflineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that was given up is made again before the next one is sent: an upload is used once."""
    situations = situations_of(project)
    inode = project.child(ROOT, b"old").inode
    upload = Upload(generation=1, is_used=True)
    with pytest.raises(Unanswered), project.calls.sending(inode, Kind.FILE, DOCUMENT, upload=upload):
        raise Unanswered("no answer")
    [call] = project.calls.given_up(inode, DOCUMENT)
    project.calls.not_done_yet(call)
    removed = make_change(inode, Kind.FILE, Removed(), document=DOCUMENT)
    idle = make_change(inode, Kind.FILE, document=DOCUMENT)
    saved = make_change(inode, Kind.FILE, document=DOCUMENT, staged=StagedRecord(2, 5, None, ()))
    assert isinstance(situations.step(removed), Delete)
    assert situations.step(idle) == InPlace()
    assert situations.step(saved) == Confirm(call)
    monkeypatch.setattr(clocks, "unix_s", lambda: call.given_up_at_s + LATE_S + 1)
    nobody = cast(Any, None)
    documents = DocumentCalls(nobody, nobody, project.calls, nobody, nobody, nobody, nobody, nobody)
    unanswered = UnansweredCalls(project.store, project.view, nobody, documents, nobody, nobody, nobody)
    await unanswered.confirm(saved, call)
    assert project.calls.given_up(inode, DOCUMENT) == []


@pytest.mark.parametrize("is_polled", [True, False])
async def test_a_late_call_that_no_change_waits_for_is_forgotten(
    project: OfflineProject, monkeypatch: pytest.MonkeyPatch, *, is_polled: bool
) -> None:
    """Once it can't be carried out any more, and a poll has shown what it did, it is in nobody's way."""
    inode = project.child(ROOT, b"old").inode
    for of in (inode, Inode(inode + 1)):
        with pytest.raises(Unanswered), project.calls.sending(of, Kind.FILE, None, NEW):
            raise Unanswered("no answer")
    project.view.show(make_change(Inode(inode + 1), Kind.FILE, NEW))
    for call in project.calls.open_calls():
        project.calls.not_done_yet(call)
    polls: list[float] = []

    async def polled_since(since_s: float) -> bool:
        polls.append(since_s)
        return is_polled

    nobody = cast(Any, None)
    documents = DocumentCalls(nobody, nobody, project.calls, nobody, nobody, nobody, polled_since, nobody)
    unanswered = UnansweredCalls(project.store, project.view, nobody, documents, nobody, nobody, nobody)
    await unanswered.forget_expired()
    assert (len(project.calls.open_calls()), polls) == (2, [])
    monkeypatch.setattr(clocks, "unix_s", lambda: call.given_up_at_s + LATE_S + 1)
    await unanswered.forget_expired()
    left = [call.inode for call in project.calls.open_calls()]
    assert left == [inode + 1] if is_polled else [inode, inode + 1]
    assert len(polls) == 1


async def test_a_call_is_sent_only_when_it_is_on_disk(project: OfflineProject) -> None:
    """A power cut leaves no journal that is older than what Procore was told."""
    inode = project.child(ROOT, b"old").inode
    change = make_change(inode, Kind.FILE, NEW, document=DOCUMENT)
    nobody = cast(Any, None)
    journaled: list[int] = []

    async def reach_disk() -> None:
        journaled.append(len(project.journal.calls()))

    own = OwnChanges(nobody, nobody, RequestOrder(), ME)
    documents = DocumentCalls(nobody, own, project.calls, nobody, nobody, nobody, nobody, reach_disk)
    async with documents.changing(change, DOCUMENT, NEW) as (_, sending):
        assert journaled == [1]
        sending.answered()
    assert project.calls.open_calls() == []


@pytest.mark.parametrize("repeats", [False, True])
async def test_a_call_that_the_disk_refuses_is_not_sent(project: OfflineProject, *, repeats: bool) -> None:
    """Of one that repeats another, it is not known what became of that."""
    inode = project.child(ROOT, b"old").inode
    change = make_change(inode, Kind.FILE, document=DOCUMENT)
    upload = Upload(generation=1, is_used=True)
    before: Call | None = None
    if repeats:
        with pytest.raises(Unanswered), project.calls.sending(inode, Kind.FILE, DOCUMENT, upload=upload):
            raise Unanswered("no answer")
        [before] = project.calls.given_up(inode, DOCUMENT)
    nobody = cast(Any, None)

    async def refuse() -> None:
        raise OSError("the disk is full")

    own = OwnChanges(nobody, nobody, RequestOrder(), ME)
    documents = DocumentCalls(nobody, own, project.calls, nobody, nobody, nobody, nobody, refuse)
    with pytest.raises(OSError, match="full"):
        async with documents.changing(change, DOCUMENT, upload=upload, repeats=before):
            raise AssertionError("it was sent")
    left = [call.upload for call in project.calls.unconfirmed(inode, DOCUMENT)]
    assert left == ([upload] if repeats else [])
