"""A document keeps its name, whatever the rules say today: they are for new names."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procorefs.journal.change import FOLLOW
from procorefs.procore.wire.models import FolderListing, Kind
from procorefs.tree.nodes import ROOT, Inode, Kept, Node
from procorefs.vfs.refusals import NameRefused
from tests.support.offline_project import OfflineProject, offline_project
from tests.support.staged_base import Bases
from tests.support.tree_documents import file, folder

NAME, FOLDER = b"Level 3: slabs.odt", b"Level 3: all"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[OfflineProject]:
    with offline_project(tmp_path, Bases()) as project:
        project.list_root(
            file(5, NAME.decode()), file(6, "plan.odt"), folder(7, FOLDER.decode()), folder(8, "box")
        )
        for number, name in ((7, FOLDER), (8, b"box")):
            listing = FolderListing(folder(number, name.decode()), [], 0)
            with project.base.applier.order.reading() as request:
                project.base.applier.apply_folder(
                    listing, child(project, name).inode, request=request, listing_pass=1
                )
        yield project


def child(project: OfflineProject, name: bytes, parent: Inode = ROOT) -> Node:
    node = project.child(parent, name)
    assert node is not None
    return node


async def test_a_save_by_rename_keeps_the_documents_name(project: OfflineProject) -> None:
    inode = project.put(".Level 3: slabs.odt.x4Kp2Q", b"new")
    project.edits.entries.rename(ROOT, b".Level 3: slabs.odt.x4Kp2Q", ROOT, NAME)
    change = project.change(inode)
    assert (change.document, change.place) == (5, FOLLOW)
    assert child(project, NAME).inode == inode


async def test_a_document_that_replaces_it_becomes_a_version_of_it(project: OfflineProject) -> None:
    inode = child(project, b"plan.odt").inode
    project.edits.entries.rename(ROOT, b"plan.odt", ROOT, NAME)
    assert (project.change(inode).document, project.change(inode).place) == (5, FOLLOW)
    assert project.change(inode).pending_copy is not None


async def test_an_exchange_makes_a_version_of_it(project: OfflineProject) -> None:
    new, old = project.put("new.odt", b"new"), child(project, NAME).inode
    project.edits.entries.exchange(ROOT, b"new.odt", ROOT, NAME)
    assert (project.change(new).document, project.change(new).place) == (5, FOLLOW)
    assert project.change(old).document is None
    assert project.change(old).pending_copy is not None
    assert child(project, b"new.odt").inode == old
    with pytest.raises(NameRefused):
        project.edits.entries.exchange(ROOT, b"plan.odt", ROOT, NAME)


async def test_what_is_made_under_a_name_that_was_just_left_goes_on_as_its_document(
    project: OfflineProject,
) -> None:
    project.edits.entries.unlink(ROOT, NAME)
    assert project.change(project.put(NAME.decode(), b"new")).document == 5
    project.edits.entries.rename(ROOT, NAME, ROOT, b"backup.odt")
    inode = project.put(NAME.decode(), b"newer")
    assert project.change(inode).document == 5
    assert project.change(child(project, b"backup.odt").inode).document is None


async def test_a_document_gets_the_name_of_one_that_has_just_left(project: OfflineProject) -> None:
    inode = child(project, b"plan.odt").inode
    project.edits.entries.rename(ROOT, NAME, ROOT, b"backup.odt")
    project.edits.entries.rename(ROOT, b"plan.odt", ROOT, NAME)
    assert (project.change(inode).document, project.change(inode).place) == (5, FOLLOW)
    lent = [change for change in project.view.changes() if change.is_removed]
    assert [change.document for change in lent] == [6]


@pytest.mark.parametrize("name", [NAME, FOLDER])
async def test_a_document_goes_back_to_its_name(project: OfflineProject, name: bytes) -> None:
    inode, box = child(project, name).inode, child(project, b"box").inode
    project.edits.entries.rename(ROOT, name, box, b"elsewhere")
    project.edits.entries.rename(box, b"elsewhere", ROOT, name)
    assert child(project, name).inode == inode
    assert project.view.change(inode) is None
    with pytest.raises(NameRefused):
        project.edits.entries.rename(ROOT, name, box, name)


async def test_a_document_that_comes_back_from_another_file_needs_no_new_bytes(
    project: OfflineProject,
) -> None:
    """It has them: to send a copy of them would make the same version twice."""
    inode, new = child(project, b"plan.odt").inode, project.put("new.odt", b"new")
    project.edits.entries.rename(ROOT, b"plan.odt", ROOT, b"aside.odt")
    project.edits.entries.rename(ROOT, b"new.odt", ROOT, b"plan.odt")
    assert project.change(new).document == 6
    assert project.change(inode).pending_copy is not None
    project.edits.entries.rename(ROOT, b"plan.odt", ROOT, b"new.odt")
    project.edits.entries.rename(ROOT, b"aside.odt", ROOT, b"plan.odt")
    assert child(project, b"plan.odt").document_id == 6
    assert project.view.change(inode) is None
    assert project.change(new).document is None


async def test_a_folder_that_is_removed_and_made_again_keeps_its_name(project: OfflineProject) -> None:
    document = child(project, FOLDER).document_id
    project.edits.entries.remove_folder(ROOT, FOLDER)
    assert project.edits.entries.make_folder(ROOT, FOLDER, Kept()).document_id == document


async def test_new_names_are_refused(project: OfflineProject) -> None:
    box = child(project, b"box").inode
    project.edits.entries.unlink(ROOT, NAME)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: project.edits.entries.create(box, NAME, Kept()),
        lambda: project.edits.entries.make_folder(ROOT, NAME, Kept()),
        lambda: project.edits.entries.create(ROOT, b"Level 4: slabs.odt", Kept()),
        lambda: project.edits.entries.rename(ROOT, b"box", ROOT, FOLDER),
    )
    for attempt in attempts:
        with pytest.raises(NameRefused):
            attempt()


async def test_a_name_that_a_call_is_just_taking_away_is_a_new_one(project: OfflineProject) -> None:
    inode = child(project, NAME).inode
    project.edits.entries.unlink(ROOT, NAME)
    with (
        project.calls.sending(inode, Kind.FILE, project.change(inode).document, removes=True),
        pytest.raises(NameRefused),
    ):
        project.edits.entries.create(ROOT, NAME, Kept())
