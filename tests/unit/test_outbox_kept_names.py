"""A document keeps its name, whatever the rules say today: they are for new names."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from procorefs.journal.change import FOLLOW, GONE
from procorefs.procore.wire.models import FolderListing, Kind
from procorefs.tree.nodes import ROOT, Inode, Kept, Node
from procorefs.vfs.refusals import NameRefused
from tests.support.outbox_room import Room, room_in
from tests.support.staged_base import Bases
from tests.support.tree_documents import file, folder

NAME, FOLDER = b"Level 3: slabs.odt", b"Level 3: all"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with room_in(tmp_path, Bases()) as room:
        room.list_root(
            file(5, NAME.decode()), file(6, "plan.odt"), folder(7, FOLDER.decode()), folder(8, "box")
        )
        for number, name in ((7, FOLDER), (8, b"box")):
            listing = FolderListing(folder(number, name.decode()), [], 0)
            with room.base.applier.order.reading() as request:
                room.base.applier.apply_folder(
                    listing, child(room, name).inode, request=request, listing_pass=1
                )
        yield room


def child(room: Room, name: bytes, parent: Inode = ROOT) -> Node:
    node = room.view.child(parent, name)
    assert node is not None
    return node


async def test_a_save_by_rename_keeps_the_documents_name(room: Room) -> None:
    inode = room.put(".Level 3: slabs.odt.x4Kp2Q", b"new")
    room.edits.entries.rename(ROOT, b".Level 3: slabs.odt.x4Kp2Q", ROOT, NAME)
    change = room.change(inode)
    assert (change.document, change.place) == (5, FOLLOW)
    assert child(room, NAME).inode == inode


async def test_a_document_that_replaces_it_becomes_a_version_of_it(room: Room) -> None:
    inode = child(room, b"plan.odt").inode
    room.edits.entries.rename(ROOT, b"plan.odt", ROOT, NAME)
    assert (room.change(inode).document, room.change(inode).place) == (5, FOLLOW)
    assert room.change(inode).borrowed is not None


async def test_an_exchange_makes_a_version_of_it(room: Room) -> None:
    new, old = room.put("new.odt", b"new"), child(room, NAME).inode
    room.edits.entries.exchange(ROOT, b"new.odt", ROOT, NAME)
    assert (room.change(new).document, room.change(new).place) == (5, FOLLOW)
    assert room.change(old).document is None
    assert room.change(old).borrowed is not None
    assert child(room, b"new.odt").inode == old
    with pytest.raises(NameRefused):
        room.edits.entries.exchange(ROOT, b"plan.odt", ROOT, NAME)


async def test_what_is_made_under_a_name_that_was_just_left_goes_on_as_its_document(room: Room) -> None:
    room.edits.entries.unlink(ROOT, NAME)
    assert room.change(room.put(NAME.decode(), b"new")).document == 5
    room.edits.entries.rename(ROOT, NAME, ROOT, b"backup.odt")
    inode = room.put(NAME.decode(), b"newer")
    assert room.change(inode).document == 5
    assert room.change(child(room, b"backup.odt").inode).document is None


async def test_a_document_gets_the_name_of_one_that_has_just_left(room: Room) -> None:
    inode = child(room, b"plan.odt").inode
    room.edits.entries.rename(ROOT, NAME, ROOT, b"backup.odt")
    room.edits.entries.rename(ROOT, b"plan.odt", ROOT, NAME)
    assert (room.change(inode).document, room.change(inode).place) == (5, FOLLOW)
    lent = [change for change in room.view.changes() if change.place is GONE]
    assert [change.document for change in lent] == [6]


@pytest.mark.parametrize("name", [NAME, FOLDER])
async def test_a_document_goes_back_to_its_name(room: Room, name: bytes) -> None:
    inode, box = child(room, name).inode, child(room, b"box").inode
    room.edits.entries.rename(ROOT, name, box, b"elsewhere")
    room.edits.entries.rename(box, b"elsewhere", ROOT, name)
    assert child(room, name).inode == inode
    assert room.view.change(inode) is None
    with pytest.raises(NameRefused):
        room.edits.entries.rename(ROOT, name, box, name)


async def test_a_folder_that_is_removed_and_made_again_keeps_its_name(room: Room) -> None:
    document = child(room, FOLDER).document_id
    room.edits.entries.remove_folder(ROOT, FOLDER)
    assert room.edits.entries.make_folder(ROOT, FOLDER, Kept()).document_id == document


async def test_new_names_are_refused(room: Room) -> None:
    box = child(room, b"box").inode
    room.edits.entries.unlink(ROOT, NAME)
    for attempt in (
        lambda: room.edits.entries.create(box, NAME, Kept()),
        lambda: room.edits.entries.make_folder(ROOT, NAME, Kept()),
        lambda: room.edits.entries.create(ROOT, b"Level 4: slabs.odt", Kept()),
        lambda: room.edits.entries.rename(ROOT, b"box", ROOT, FOLDER),
    ):
        with pytest.raises(NameRefused):
            attempt()


async def test_a_name_that_a_call_is_just_taking_away_is_a_new_one(room: Room) -> None:
    inode = child(room, NAME).inode
    room.edits.entries.unlink(ROOT, NAME)
    with (
        room.calls.sending(inode, Kind.FILE, room.change(inode).document, removes=True),
        pytest.raises(NameRefused),
    ):
        room.edits.entries.create(ROOT, NAME, Kept())
