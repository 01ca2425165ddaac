"""Metadata that is wanted: what folds to nothing, what a call under way changes, whom it follows, what is kept here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from procorefs.journal.change import Location, MetadataPatch
from procorefs.journal.metadata_patch import lacking, over, without
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.tree.document_detail import Detail
from procorefs.tree.nodes import ROOT, Inode, Kept
from procorefs.vfs.refusals import NoSuchEntry, NotPermitted
from tests.support.offline_project import OfflineProject, offline_project
from tests.support.tree_documents import file, folder, version

SHOWN = {"custom_field_7": {"data_type": "decimal", "value": "12.50"}}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[OfflineProject]:
    """A project with plan.txt (10), old.txt (11), locked.txt (12) and folder (20)."""
    with offline_project(tmp_path) as project:
        project.list_root(
            file(10, "plan.txt", description="as it is", custom_fields=SHOWN),
            file(11, "old.txt"),
            file(12, "locked.txt", read_only=True),
            folder(20, "folder"),
        )
        yield project


def inode_of(project: OfflineProject, name: str) -> Inode:
    node = project.child(ROOT, name.encode())
    assert node is not None
    return node.inode


# Differences


def test_what_procore_has_is_not_wanted(project: OfflineProject) -> None:
    plan = inode_of(project, "plan.txt")
    same = MetadataPatch(
        description="as it is", tracked=False, custom_fields={7: 12.5, 8: None}, tags=["b", "a"]
    )
    assert not project.edits.entries.set_metadata(plan, same, tags=["a", "b"])
    assert project.view.change(plan) is None
    assert project.edits.entries.set_metadata(plan, MetadataPatch(description="otherwise"))
    assert not project.edits.entries.set_metadata(plan, MetadataPatch(description="otherwise"))
    assert project.change(plan).patch == MetadataPatch(description="otherwise")
    assert project.edits.entries.set_metadata(plan, MetadataPatch(description="as it is"))
    assert project.view.change(plan) is None


def test_tags_that_nobody_knows_are_wished_for(project: OfflineProject) -> None:
    plan = inode_of(project, "plan.txt")
    assert project.edits.entries.set_metadata(plan, MetadataPatch(tags=[]))
    assert project.change(plan).patch.tags == []


def test_a_wish_survives_a_crash(tmp_path: Path) -> None:
    patch = MetadataPatch(
        description="", private=True, custom_fields={7: [1, 2], 8: None, 9: "x"}, tags=["a\nb"]
    )
    with offline_project(tmp_path) as project:
        project.list_root(file(10, "plan.txt", description="as it is", custom_fields=SHOWN))
        plan = inode_of(project, "plan.txt")
        project.edits.entries.set_metadata(plan, patch)
    with offline_project(tmp_path) as project:
        found = project.change(plan).patch
        assert found == MetadataPatch(
            description="", private=True, custom_fields={7: [1, 2], 9: "x"}, tags=["a\nb"]
        )


def test_while_a_call_is_under_way_its_contrary_is_wanted(project: OfflineProject) -> None:
    """Procore is about to have something else than the tree says."""
    plan = inode_of(project, "plan.txt")
    project.edits.entries.set_metadata(plan, MetadataPatch(description="sent"))
    with project.calls.sending(plan, Kind.FILE, DocumentId(10)):
        assert project.edits.entries.set_metadata(plan, MetadataPatch(description="as it is"))
    assert project.change(plan).patch.description == "as it is"


def test_a_file_that_is_renamed_back_while_it_is_moved_goes_back(project: OfflineProject) -> None:
    """Its old name is not where it will be once the call is answered."""
    plan = inode_of(project, "plan.txt")
    project.edits.entries.rename(ROOT, b"plan.txt", ROOT, b"new.txt")
    with project.calls.sending(plan, Kind.FILE, DocumentId(10), Location(ROOT, "new.txt")):
        project.edits.entries.rename(ROOT, b"new.txt", ROOT, b"plan.txt")
        assert project.change(plan).location == Location(ROOT, "plan.txt")
    project.edits.entries.rename(ROOT, b"plan.txt", ROOT, b"new.txt")
    project.edits.entries.rename(ROOT, b"new.txt", ROOT, b"plan.txt")
    assert project.view.change(plan) is None


def test_what_may_not_be_changed(project: OfflineProject) -> None:
    with pytest.raises(NotPermitted):
        project.edits.entries.set_metadata(inode_of(project, "locked.txt"), MetadataPatch(tags=["a"]))
    with pytest.raises(NotPermitted):
        project.edits.entries.set_metadata(ROOT, MetadataPatch(tags=["a"]))
    plan = inode_of(project, "plan.txt")
    project.dirty_files.enter(plan, writes=False)
    project.edits.entries.unlink(ROOT, b"plan.txt")
    with pytest.raises(NoSuchEntry):
        project.edits.entries.set_metadata(plan, MetadataPatch(tags=["a"]))
    assert project.change(plan).is_removed
    assert not project.change(plan).patch


# Identity


def test_metadata_stays_with_the_document_that_a_file_takes_over(project: OfflineProject) -> None:
    plan = inode_of(project, "plan.txt")
    project.edits.entries.set_metadata(plan, MetadataPatch(description="waits", tags=["a"]))
    new = project.put("new.txt", b"newer")
    project.edits.entries.set_metadata(new, MetadataPatch(tags=["b"]))
    project.edits.entries.rename(ROOT, b"new.txt", ROOT, b"plan.txt")
    change = project.change(new)
    assert change.document == 10
    assert change.patch == MetadataPatch(description="waits", tags=["b"])


def test_metadata_stays_with_the_name_of_a_backup(project: OfflineProject) -> None:
    """Office renames the document away before it gives its name to the new bytes."""
    plan = inode_of(project, "plan.txt")
    project.edits.entries.set_metadata(plan, MetadataPatch(description="waits"))
    project.edits.entries.rename(ROOT, b"plan.txt", ROOT, b"plan.bak")
    new = project.put("plan.txt", b"newer")
    assert project.change(new).document == 10
    assert project.change(new).patch.description == "waits"


def test_what_waits_goes_with_the_document_when_somebody_replaces_it_under_a_reader(
    project: OfflineProject,
) -> None:
    plan, old = inode_of(project, "plan.txt"), inode_of(project, "old.txt")
    project.edits.entries.set_metadata(plan, MetadataPatch(description="waits"))
    project.edits.entries.rename(ROOT, b"old.txt", ROOT, b"new.txt")
    for inode in (plan, old):
        project.dirty_files.enter(inode, writes=False)
    project.look(file(10, "plan.txt", version=version(500)), file(11, "old.txt", version=version(501)))
    newer, moved = inode_of(project, "plan.txt"), inode_of(project, "new.txt")
    assert newer not in (plan, old)
    assert project.change(newer).patch.description == "waits"
    assert project.view.child(ROOT, b"old.txt") is None
    assert project.change(moved).document == 11
    for reader, of in ((plan, version(10)), (old, version(11))):
        node = project.view.by_inode(reader)
        assert node is not None
        assert node.version == of
        assert project.view.change(reader) is None


# What is kept here


def test_attributes_go_with_who_is_removed_or_replaced(project: OfflineProject) -> None:
    rows = project.journal.attributed
    plan, old = inode_of(project, "plan.txt"), inode_of(project, "old.txt")
    new = project.put("new.txt", b"newer")
    for inode in (plan, old, new):
        rows.put(inode, b"user.mine", b"%d" % inode)
    project.edits.entries.rename(ROOT, b"new.txt", ROOT, b"plan.txt")
    assert rows.of(new) == {b"user.mine": b"%d" % new}
    assert rows.of(plan) == {}
    short = project.put("short.txt", b"x")
    rows.put(short, b"user.mine", b"x")
    project.edits.entries.unlink(ROOT, b"short.txt")
    assert rows.of(short) == {}
    assert rows.of(old) == {b"user.mine": b"%d" % old}


def test_attributes_are_found_again_under_the_documents_new_number(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(10, "plan.txt"))
        plan = inode_of(project, "plan.txt")
        rows = project.journal.attributed
        rows.put(plan, b"user.mine", b"x")
        rows.bind(plan, DocumentId(10))
    with offline_project(tmp_path) as project:
        rows = project.journal.attributed
        other = Inode(plan + 100)
        rows.follow(DocumentId(11), other)
        assert rows.of(other) == {}
        rows.follow(DocumentId(10), other)
        assert rows.of(other) == {b"user.mine": b"x"}
        assert not rows.has_any(plan)


def test_attributes_stay_with_a_renamed_file_when_another_gets_its_document(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(10, "plan.txt"))
        plan, rows = inode_of(project, "plan.txt"), project.journal.attributed
        rows.put(plan, b"user.mine", b"x")
        rows.bind(plan, DocumentId(10))
        project.edits.entries.rename(ROOT, b"plan.txt", ROOT, b"backup.txt")
        new = project.put("plan.txt", b"newer")
        assert project.change(new).document == 10
        rows.follow(DocumentId(10), new)
        assert rows.of(new) == {}
        assert rows.of(plan) == {b"user.mine": b"x"}
    with offline_project(tmp_path) as project:
        rows = project.journal.attributed
        rows.follow(DocumentId(10), new)
        assert rows.of(plan) == {b"user.mine": b"x"}


def test_attributes_are_there_after_a_transaction_that_failed(project: OfflineProject) -> None:
    plan, rows = inode_of(project, "plan.txt"), project.journal.attributed
    rows.put(plan, b"user.mine", b"x")

    def fill_disk() -> None:
        with project.journal.transaction():
            rows.drop_all(plan)
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fill_disk()
    assert rows.of(plan) == {b"user.mine": b"x"}


def test_attributes_of_what_is_no_more_are_swept(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(10, "plan.txt"))
        rows = project.journal.attributed
        for inode in (inode_of(project, "plan.txt"), Inode(999_999)):
            rows.put(inode, b"user.mine", b"x")
    with offline_project(tmp_path) as project:
        assert project.journal.attributed.has_any(inode_of(project, "plan.txt"))
        assert not project.journal.attributed.has_any(Inode(999_999))


def test_one_document_is_one_inode_for_a_new_tree(project: OfflineProject) -> None:
    project.journal.note_folder(Inode(5000), DocumentId(10))
    project.journal.note_folder(Inode(6000), DocumentId(10))
    assert project.journal.folders() == {Inode(6000): DocumentId(10)}


# Pure

MAYBE_TEXT = st.sampled_from(["", "a", "b"]) | st.just(UNSET)
MAYBE_TRUTH = st.booleans() | st.just(UNSET)
WISHES = st.builds(
    MetadataPatch,
    description=MAYBE_TEXT,
    tracked=MAYBE_TRUTH,
    private=MAYBE_TRUTH,
    custom_fields=st.dictionaries(st.integers(1, 3), st.sampled_from([None, "a", "b"]), max_size=3),
    tags=st.lists(st.sampled_from("ab"), unique=True) | st.just(UNSET),
)


@given(WISHES, WISHES)
def test_newer_metadata_over_older(newer: MetadataPatch, older: MetadataPatch) -> None:
    both = over(newer, older)
    assert not without(newer, both)
    assert over(both, older) == both
    assert over(newer, MetadataPatch()) == newer


@given(WISHES)
def test_what_was_done_is_not_wanted_any_more(patch: MetadataPatch) -> None:
    assert not without(patch, patch)
    assert without(patch, MetadataPatch()) == patch


@given(WISHES, WISHES)
def test_only_what_procore_lacks_is_left(patch: MetadataPatch, there: MetadataPatch) -> None:
    fields: dict[str, object] = {
        f"custom_field_{number}": {"data_type": "string", "value": value}
        for number, value in there.custom_fields.items()
    }
    detail = Detail(
        description="" if there.description is UNSET else there.description,
        tracked=None if there.tracked is UNSET else there.tracked,
        private=None if there.private is UNSET else there.private,
        custom_fields=fields,
    )
    left = lacking(patch, detail, None if there.tags is UNSET else there.tags)
    assert over(left, patch) == patch
    assert lacking(left, detail) == left
    assert not lacking(there, detail, None if there.tags is UNSET else there.tags)


def test_a_folder_keeps_its_mode_when_metadata_arrives(project: OfflineProject) -> None:
    at = inode_of(project, "folder")
    project.edits.changes.keep(at, Kept(mode=0o700))
    project.edits.entries.set_metadata(at, MetadataPatch(tracked=True))
    assert project.change(at).kept.mode == 0o700
