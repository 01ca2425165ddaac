"""What a call without an answer may have made stays with its file until it is known, also over restarts."""

from pathlib import Path

import pytest

from procorefs.journal.change import Location, MetadataPatch
from procorefs.procore.errors import Unanswered
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.tree.nodes import ROOT, Inode, Kept
from procorefs.vfs.change_store import is_unknown
from tests.support.offline_project import OfflineProject, offline_project
from tests.support.tree_documents import file, folder


async def test_a_removed_file_waits_for_what_became_of_its_making(tmp_path: Path) -> None:
    """It stands for what may have been made, over a restart too, until that is known."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        change = project.change(inode)
        place = change.location
        assert place is not None
        with pytest.raises(Unanswered), project.calls.sending(inode, Kind.FILE, None, place):
            raise Unanswered("no answer")
        project.edits.entries.unlink(ROOT, b"plan.dwg")
        assert project.view.child(ROOT, b"plan.dwg") is None
    with offline_project(tmp_path) as project:
        [change] = project.view.changes()
        assert is_unknown(change)
        [call] = project.calls.unconfirmed(change.inode, None)
        assert call.place == place
        project.calls.forget(call)
        project.edits.changes.dismiss(change)
        assert project.view.changes() == []


async def test_a_call_is_forgotten_only_after_its_result_is_applied(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.edits.entries.make_folder(ROOT, b"plans", Kept()).inode
        place = project.change(inode).location
        with pytest.raises(Unanswered), project.calls.sending(inode, Kind.FOLDER, None, place):
            raise Unanswered("no answer")
        [call] = project.calls.unconfirmed(inode, None)
        with pytest.raises(ZeroDivisionError), project.calls.applying(call):
            assert 1 // 0
    with offline_project(tmp_path) as project:
        [call] = project.calls.unconfirmed(inode, None)
        with project.calls.applying(call):
            assert not project.calls.has(inode, None), "it blocks nothing any more"
            assert len(list(project.journal.calls())) == 1
        assert list(project.journal.calls()) == []


async def test_who_takes_over_a_document_takes_over_its_calls(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        old = project.child(ROOT, b"old.dwg").inode
        project.edits.entries.set_metadata(old, MetadataPatch(description="new"))
        with pytest.raises(Unanswered), project.calls.sending(old, Kind.FILE, DocumentId(7)):
            raise Unanswered("no answer")
        saved = project.put("saved.tmp.dwg", b"saved")
        project.edits.entries.rename(ROOT, b"saved.tmp.dwg", ROOT, b"old.dwg")
        assert project.change(saved).document == 7
        assert [call.inode for call in project.calls.unconfirmed(saved, DocumentId(7))] == [saved]


async def test_a_rename_outlives_that_its_document_becomes_another_inode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its row is written under the other inode, the daemon has the row of before."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        old = project.child(ROOT, b"old.dwg").inode
        project.edits.entries.rename(ROOT, b"old.dwg", ROOT, b"new.dwg")
        monkeypatch.setattr(project.journal, "put", lambda _change: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            project.edits.changes.move_to_inode(old, Inode(old + 1))
    with offline_project(tmp_path) as project:
        assert [(change.document, change.location) for change in project.view.changes()] == [
            (DocumentId(7), Location(ROOT, "new.dwg"))
        ]


async def test_a_document_is_not_handed_on_while_its_deletion_is_unconfirmed(tmp_path: Path) -> None:
    """It may still be deleted, and what was written under its name would go with it."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        old = project.child(ROOT, b"old.dwg").inode
        project.edits.entries.unlink(ROOT, b"old.dwg")
        with pytest.raises(Unanswered), project.calls.sending(old, Kind.FILE, DocumentId(7), removes=True):
            raise Unanswered("no answer")
        made = project.put("old.dwg", b"made anew")
        assert project.change(made).document is None
        assert project.change(old).document == 7


async def test_killed_between_the_trees_row_and_the_journals(tmp_path: Path) -> None:
    """What our call has made is the change's, also when the file got another name meanwhile."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        place = project.change(inode).location
        assert place is not None
        with pytest.raises(KeyboardInterrupt):
            _die_with_the_answer(project, inode, place)
    with offline_project(tmp_path) as project:
        assert project.change(inode).document == 7
        [found] = project.calls.unconfirmed(inode, DocumentId(7))
        assert (found.document, found.place) == (7, place)
        project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"other.dwg")
        assert [node.shown for node in project.view.children(ROOT)] == [b"other.dwg"]


def _die_with_the_answer(project: OfflineProject, inode: Inode, place: Location) -> None:
    with project.calls.sending(inode, Kind.FILE, None, place) as sending:
        sending.answered()
        project.base.applier.own.put(file(7, "plan.dwg"), inode, ROOT, None)
        raise KeyboardInterrupt


@pytest.mark.parametrize("was_closed", [False, True])
async def test_an_empty_file_under_a_documents_name_is_not_the_document(
    tmp_path: Path, was_closed: bool
) -> None:
    """It takes over the document that was renamed away; what that had is not what was written."""
    with offline_project(tmp_path) as project:
        project.list_root(file(7, "plan.dwg"))
        project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"plan.bak")
        if was_closed:
            inode = project.put("plan.dwg", b"")
            await project.edits.sessions.write(project.reopen(inode), 0, b"")
            project.edits.sessions.will_overwrite(project.dirty_file(inode))
        else:
            inode = project.create("plan.dwg")
        assert project.change(inode).document == 7
    for _ in range(2):
        with offline_project(tmp_path) as project:
            assert project.node(inode).local_size_bytes == 0
            assert project.change(inode).unclosed is not None


async def test_a_folder_that_a_listing_brought_before_the_answer_can_be_removed(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.edits.entries.make_folder(ROOT, b"plans", Kept()).inode
        project.list_root(folder(7, "plans"))
        project.base.applier.own.put(folder(7, "plans"), inode, ROOT, None, is_new=True)
        change = project.change(inode)
        change.document = DocumentId(7)
        project.edits.takeover.follow_if_there(change)
        project.edits.changes.settle(change)
        project.edits.entries.remove_folder(ROOT, b"plans")
        assert project.view.child(ROOT, b"plans") is None


async def test_what_a_repeated_call_may_have_made_stays_hidden(tmp_path: Path) -> None:
    """A look has shown it between the call and its repeat."""
    with offline_project(tmp_path) as project:
        inode = project.put("plan.dwg", b"the plan")
        place = project.change(inode).location
        assert place is not None
        with pytest.raises(Unanswered), project.calls.sending(inode, Kind.FILE, None, place):
            raise Unanswered("no answer")
        project.list_root(file(7, "plan.dwg"))
        project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"other.dwg")
        [call] = project.calls.unconfirmed(inode, None)
        assert project.view.child(ROOT, b"plan.dwg") is None
        with project.calls.sending(inode, Kind.FILE, None, place, repeats=call):
            assert project.view.child(ROOT, b"plan.dwg") is None
            assert [node.shown for node in project.view.children(ROOT)] == [b"other.dwg"]
