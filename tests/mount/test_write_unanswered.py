"""Calls whose answer was lost, or which are carried out after they were given up: Procore ends as programs left it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.mounting import wait_until
from tests.support.writing import MountedProject, sha256
from tests.support.xattrs import ProcoreMetadata, getfattr, setfattr

GOES_AGAIN = "is tried again in"
CHANGE = "PATCH /rest/v1.0/files/{id}"
DELETE = "DELETE /rest/v1.0/files/{id}"
CALLS = [
    f"{method} /rest/v1.0/{what}"
    for method in ("GET", "POST", "PATCH", "DELETE")
    for what in ("files", "files/{id}", "folders", "folders/{id}")
]
"""All that tells of single documents, and changes them."""


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    made = mount_project("write_back=0")
    made.mounted.expect_warning(GOES_AGAIN)
    return made


def lose(project: MountedProject, route: str) -> None:
    """The next call is done, its answer is lost, and nothing about it gets through until `faults(clear=True)`."""
    _break(project, route, {"kind": "drop", "when": "after"})


def put_off(project: MountedProject, route: str) -> None:
    """The next call is given up by a gateway, and nothing gets through until `faults(clear=True)`."""
    _break(project, route, {"kind": "late"})


def _break(project: MountedProject, route: str, fault: dict[str, object]) -> None:
    project.sandbox.reset_calls()
    away = [
        {"kind": "error", "route": other, "status": 503, "skip": 1 if other == route else 0}
        for other in CALLS
    ]
    project.sandbox.faults(rules=[{**fault, "route": route, "count": 1}, *away])


def wait_for_call(project: MountedProject, route: str) -> None:
    wait_until(lambda: project.sandbox.calls()["by_route"].get(route, 0) >= 1, f"a call of {route}")


def saved(project: MountedProject, name: str, data: bytes) -> Path:
    path = project.path / name
    path.write_bytes(data)
    project.sync()
    return path


def test_what_was_there_before_is_saved_again(project: MountedProject) -> None:
    plan = saved(project, "plan.dwg", b"first state")
    lose(project, CHANGE)
    plan.write_bytes(b"second")
    wait_for_call(project, CHANGE)
    plan.write_bytes(b"first state")
    project.sandbox.faults(clear=True)
    project.sync()
    assert project.file("plan.dwg").sha256 == sha256(b"first state")
    assert plan.read_bytes() == b"first state"


def test_metadata_is_set_back(project: MountedProject) -> None:
    plan = saved(project, "plan.dwg", b"the plan")
    setfattr(plan, "user.procore.description", "as it was")
    project.sync()
    lose(project, CHANGE)
    setfattr(plan, "user.procore.description", "in between")
    wait_for_call(project, CHANGE)
    setfattr(plan, "user.procore.description", "as it was")
    project.sandbox.faults(clear=True)
    project.sync()
    assert getfattr(plan, "user.procore.description") == "as it was"
    assert ProcoreMetadata(project.sandbox).document("plan.dwg")["description"] == "as it was"


def test_a_document_is_made_private_again(project: MountedProject) -> None:
    plan = saved(project, "plan.dwg", b"the plan")
    setfattr(plan, "user.procore.private", "true")
    project.sync()
    lose(project, CHANGE)
    setfattr(plan, "user.procore.private", "false")
    wait_for_call(project, CHANGE)
    setfattr(plan, "user.procore.private", "true")
    project.sandbox.faults(clear=True)
    project.sync()
    assert ProcoreMetadata(project.sandbox).document("plan.dwg")["private"] is True


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_name_is_given_back(project: MountedProject, what: str) -> None:
    old, new = project.path / "old", project.path / "new"
    if what == "file":
        old.write_bytes(b"the plan")
    else:
        old.mkdir()
    project.sync()
    route = f"PATCH /rest/v1.0/{what}s/{{id}}"
    lose(project, route)
    old.rename(new)
    wait_for_call(project, route)
    new.rename(old)
    project.sandbox.faults(clear=True)
    project.sync()
    assert {*project.files(), *project.folders()} == {"old"}
    assert [path.name for path in project.path.iterdir()] == ["old"]


def test_what_was_moved_out_of_a_folder_that_is_removed(project: MountedProject) -> None:
    (project.path / "here").mkdir()
    (project.path / "there").mkdir()
    plan = saved(project, "here/plan.dwg", b"the plan")
    lose(project, CHANGE)
    plan.rename(project.path / "there" / "plan.dwg")
    wait_for_call(project, CHANGE)
    (project.path / "here").rmdir()
    project.sandbox.faults(clear=True)
    project.sync()
    assert (project.path / "there" / "plan.dwg").read_bytes() == b"the plan"
    assert (set(project.files()), project.folders()) == ({"there/plan.dwg"}, {"there"})


def test_two_saves_and_a_removal(project: MountedProject) -> None:
    """The first save is a version of ours, also when the second was begun before that was known."""
    plan = saved(project, "plan.dwg", b"first")
    lose(project, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(project, CHANGE)
    plan.write_bytes(b"a third save")
    plan.unlink()
    project.sandbox.faults(clear=True)
    project.sync()
    assert project.files() == {}
    assert list(project.path.iterdir()) == []


def test_a_save_and_a_rename_over_it_and_a_removal(project: MountedProject) -> None:
    plan = saved(project, "plan.dwg", b"first")
    lose(project, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(project, CHANGE)
    (project.path / "other").write_bytes(b"another")
    (project.path / "other").rename(plan)
    plan.unlink()
    project.sandbox.faults(clear=True)
    project.sync()
    assert project.files() == {}
    assert list(project.path.iterdir()) == []


def test_a_folder_with_a_save_of_ours_is_removed_and_another_gets_its_name(project: MountedProject) -> None:
    (project.path / "old").mkdir()
    (project.path / "new").mkdir()
    plan = saved(project, "old/plan.dwg", b"first")
    saved(project, "new/other.dwg", b"other")
    lose(project, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(project, CHANGE)
    plan.unlink()
    plan.parent.rmdir()
    (project.path / "new").rename(project.path / "old")
    project.sandbox.faults(clear=True)
    project.sync()
    assert (project.folders(), set(project.files())) == ({"old"}, {"old/other.dwg"})


def test_a_folder_whose_file_was_made_without_an_answer_is_removed(project: MountedProject) -> None:
    (project.path / "folder").mkdir()
    project.sync()
    lose(project, "POST /rest/v1.0/files")
    (project.path / "folder" / "x.dwg").write_bytes(b"made")
    wait_for_call(project, "POST /rest/v1.0/files")
    (project.path / "folder" / "x.dwg").unlink()
    (project.path / "folder").rmdir()
    project.sandbox.faults(clear=True)
    project.sync()
    assert (project.files(), project.folders()) == ({}, set())


def test_a_new_file_is_saved_twice_and_removed(project: MountedProject) -> None:
    """Each of the calls may have made it, with other bytes."""
    lose(project, "POST /rest/v1.0/files")
    plan = project.path / "plan.dwg"
    plan.write_bytes(b"first")
    wait_for_call(project, "POST /rest/v1.0/files")
    plan.write_bytes(b"a second save")
    plan.unlink()
    project.sandbox.faults(clear=True)
    project.sync()
    assert project.files() == {}
    assert list(project.path.iterdir()) == []


def test_a_deletion_is_carried_out_after_the_name_was_written_anew(project: MountedProject) -> None:
    plan = saved(project, "plan.dwg", b"first")
    put_off(project, DELETE)
    plan.unlink()
    wait_for_call(project, DELETE)
    plan.write_bytes(b"made anew")
    project.sandbox.faults(clear=True)
    project.sync()
    project.sandbox.faults(do_late=True)
    assert project.file("plan.dwg").sha256 == sha256(b"made anew")
    assert plan.read_bytes() == b"made anew"


def test_a_save_is_carried_out_after_the_next_one(project: MountedProject) -> None:
    plan = saved(project, "plan.dwg", b"first")
    put_off(project, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(project, CHANGE)
    plan.write_bytes(b"a third save")
    project.sandbox.faults(clear=True)
    project.sync()
    project.sandbox.faults(do_late=True)
    assert project.file("plan.dwg").sha256 == sha256(b"a third save")


def test_a_new_file_is_made_after_it_was_renamed(project: MountedProject) -> None:
    put_off(project, "POST /rest/v1.0/files")
    (project.path / "old.dwg").write_bytes(b"the plan")
    wait_for_call(project, "POST /rest/v1.0/files")
    (project.path / "old.dwg").rename(project.path / "new.dwg")
    project.sandbox.faults(clear=True)
    project.sync()
    project.sandbox.faults(do_late=True)
    assert set(project.files()) == {"new.dwg"}


def test_a_new_folder_is_made_after_it_was_renamed(project: MountedProject) -> None:
    put_off(project, "POST /rest/v1.0/folders")
    (project.path / "old").mkdir()
    wait_for_call(project, "POST /rest/v1.0/folders")
    (project.path / "old").rename(project.path / "new")
    (project.path / "new" / "plan.dwg").write_bytes(b"the plan")
    project.sandbox.faults(clear=True)
    project.sandbox.faults(do_late=True)
    project.sync()
    assert (project.folders(), set(project.files())) == ({"new"}, {"new/plan.dwg"})


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_rename_is_carried_out_after_the_name_was_given_back(project: MountedProject, what: str) -> None:
    old, new = project.path / "old", project.path / "new"
    if what == "file":
        old.write_bytes(b"the plan")
    else:
        old.mkdir()
    project.sync()
    route = f"PATCH /rest/v1.0/{what}s/{{id}}"
    put_off(project, route)
    old.rename(new)
    wait_for_call(project, route)
    new.rename(old)
    project.sandbox.faults(clear=True)
    project.sandbox.faults(do_late=True)
    project.sync()
    assert {*project.files(), *project.folders()} == {"old"}
    assert [path.name for path in project.path.iterdir()] == ["old"]


def test_a_save_is_carried_out_while_its_folder_is_removed(project: MountedProject) -> None:
    (project.path / "folder").mkdir()
    plan = saved(project, "folder/plan.dwg", b"first")
    put_off(project, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(project, CHANGE)
    plan.unlink()
    plan.parent.rmdir()
    project.sandbox.faults(clear=True)
    project.sandbox.faults(rules=[{"kind": "silence", "route": "GET */documents", "match": "folder_id"}])
    with ThreadPoolExecutor(1) as executor:
        synced = executor.submit(project.settle)
        project.sandbox.wait_for_silent_calls(1)
        project.sandbox.faults(do_late=True)
        project.sandbox.release()
        assert synced.result() == []
    assert (project.files(), project.folders()) == ({}, set())


def test_a_folder_goes_together_with_one_in_it_that_was_being_removed(project: MountedProject) -> None:
    inside = project.path / "outer" / "inner"
    inside.mkdir(parents=True)
    project.sync()
    lose(project, "DELETE /rest/v1.0/folders/{id}")
    inside.rmdir()
    wait_for_call(project, "DELETE /rest/v1.0/folders/{id}")
    inside.parent.rmdir()
    project.sandbox.faults(clear=True)
    project.sync()
    assert project.folders() == set()
