"""Calls whose answer was lost, or which are carried out after they were given up: Procore ends as programs left it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.mounting import wait_until
from tests.support.writing import Desk, sha256
from tests.support.xattrs import Truth, getfattr, setfattr

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
def desk(write_desk: Callable[..., Desk]) -> Desk:
    made = write_desk("write_back=0")
    made.mounted.expect_warning(GOES_AGAIN)
    return made


def lose(desk: Desk, route: str) -> None:
    """The next call is done, its answer is lost, and nothing about it gets through until `faults(clear=True)`."""
    _break(desk, route, {"kind": "drop", "when": "after"})


def put_off(desk: Desk, route: str) -> None:
    """The next call is given up by a gateway, and nothing gets through until `faults(clear=True)`."""
    _break(desk, route, {"kind": "late"})


def _break(desk: Desk, route: str, fault: dict[str, object]) -> None:
    desk.sandbox.reset_calls()
    away = [
        {"kind": "error", "route": other, "status": 503, "skip": 1 if other == route else 0}
        for other in CALLS
    ]
    desk.sandbox.faults(rules=[{**fault, "route": route, "count": 1}, *away])


def wait_for_call(desk: Desk, route: str) -> None:
    wait_until(lambda: desk.sandbox.calls()["by_route"].get(route, 0) >= 1, f"a call of {route}")


def saved(desk: Desk, name: str, data: bytes) -> Path:
    path = desk.path / name
    path.write_bytes(data)
    desk.sync()
    return path


def test_what_was_there_before_is_saved_again(desk: Desk) -> None:
    plan = saved(desk, "plan.dwg", b"first state")
    lose(desk, CHANGE)
    plan.write_bytes(b"second")
    wait_for_call(desk, CHANGE)
    plan.write_bytes(b"first state")
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert desk.file("plan.dwg").sha256 == sha256(b"first state")
    assert plan.read_bytes() == b"first state"


def test_metadata_is_set_back(desk: Desk) -> None:
    plan = saved(desk, "plan.dwg", b"the plan")
    setfattr(plan, "user.procore.description", "as it was")
    desk.sync()
    lose(desk, CHANGE)
    setfattr(plan, "user.procore.description", "in between")
    wait_for_call(desk, CHANGE)
    setfattr(plan, "user.procore.description", "as it was")
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert getfattr(plan, "user.procore.description") == "as it was"
    assert Truth(desk.sandbox).document("plan.dwg")["description"] == "as it was"


def test_a_document_is_made_private_again(desk: Desk) -> None:
    plan = saved(desk, "plan.dwg", b"the plan")
    setfattr(plan, "user.procore.private", "true")
    desk.sync()
    lose(desk, CHANGE)
    setfattr(plan, "user.procore.private", "false")
    wait_for_call(desk, CHANGE)
    setfattr(plan, "user.procore.private", "true")
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert Truth(desk.sandbox).document("plan.dwg")["private"] is True


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_name_is_given_back(desk: Desk, what: str) -> None:
    old, new = desk.path / "old", desk.path / "new"
    if what == "file":
        old.write_bytes(b"the plan")
    else:
        old.mkdir()
    desk.sync()
    route = f"PATCH /rest/v1.0/{what}s/{{id}}"
    lose(desk, route)
    old.rename(new)
    wait_for_call(desk, route)
    new.rename(old)
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert {*desk.files(), *desk.folders()} == {"old"}
    assert [path.name for path in desk.path.iterdir()] == ["old"]


def test_what_was_moved_out_of_a_folder_that_is_removed(desk: Desk) -> None:
    (desk.path / "here").mkdir()
    (desk.path / "there").mkdir()
    plan = saved(desk, "here/plan.dwg", b"the plan")
    lose(desk, CHANGE)
    plan.rename(desk.path / "there" / "plan.dwg")
    wait_for_call(desk, CHANGE)
    (desk.path / "here").rmdir()
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert (desk.path / "there" / "plan.dwg").read_bytes() == b"the plan"
    assert (set(desk.files()), desk.folders()) == ({"there/plan.dwg"}, {"there"})


def test_two_saves_and_a_removal(desk: Desk) -> None:
    """The first save is a version of ours, also when the second was begun before that was known."""
    plan = saved(desk, "plan.dwg", b"first")
    lose(desk, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(desk, CHANGE)
    plan.write_bytes(b"a third save")
    plan.unlink()
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert desk.files() == {}
    assert list(desk.path.iterdir()) == []


def test_a_save_and_a_rename_over_it_and_a_removal(desk: Desk) -> None:
    plan = saved(desk, "plan.dwg", b"first")
    lose(desk, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(desk, CHANGE)
    (desk.path / "other").write_bytes(b"another")
    (desk.path / "other").rename(plan)
    plan.unlink()
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert desk.files() == {}
    assert list(desk.path.iterdir()) == []


def test_a_folder_with_a_save_of_ours_is_removed_and_another_gets_its_name(desk: Desk) -> None:
    (desk.path / "old").mkdir()
    (desk.path / "new").mkdir()
    plan = saved(desk, "old/plan.dwg", b"first")
    saved(desk, "new/other.dwg", b"other")
    lose(desk, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(desk, CHANGE)
    plan.unlink()
    plan.parent.rmdir()
    (desk.path / "new").rename(desk.path / "old")
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert (desk.folders(), set(desk.files())) == ({"old"}, {"old/other.dwg"})


def test_a_folder_whose_file_was_made_without_an_answer_is_removed(desk: Desk) -> None:
    (desk.path / "folder").mkdir()
    desk.sync()
    lose(desk, "POST /rest/v1.0/files")
    (desk.path / "folder" / "x.dwg").write_bytes(b"made")
    wait_for_call(desk, "POST /rest/v1.0/files")
    (desk.path / "folder" / "x.dwg").unlink()
    (desk.path / "folder").rmdir()
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert (desk.files(), desk.folders()) == ({}, set())


def test_a_new_file_is_saved_twice_and_removed(desk: Desk) -> None:
    """Each of the calls may have made it, with other bytes."""
    lose(desk, "POST /rest/v1.0/files")
    plan = desk.path / "plan.dwg"
    plan.write_bytes(b"first")
    wait_for_call(desk, "POST /rest/v1.0/files")
    plan.write_bytes(b"a second save")
    plan.unlink()
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert desk.files() == {}
    assert list(desk.path.iterdir()) == []


def test_a_deletion_is_carried_out_after_the_name_was_written_anew(desk: Desk) -> None:
    plan = saved(desk, "plan.dwg", b"first")
    put_off(desk, DELETE)
    plan.unlink()
    wait_for_call(desk, DELETE)
    plan.write_bytes(b"made anew")
    desk.sandbox.faults(clear=True)
    desk.sync()
    desk.sandbox.faults(do_late=True)
    assert desk.file("plan.dwg").sha256 == sha256(b"made anew")
    assert plan.read_bytes() == b"made anew"


def test_a_save_is_carried_out_after_the_next_one(desk: Desk) -> None:
    plan = saved(desk, "plan.dwg", b"first")
    put_off(desk, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(desk, CHANGE)
    plan.write_bytes(b"a third save")
    desk.sandbox.faults(clear=True)
    desk.sync()
    desk.sandbox.faults(do_late=True)
    assert desk.file("plan.dwg").sha256 == sha256(b"a third save")


def test_a_new_file_is_made_after_it_was_renamed(desk: Desk) -> None:
    put_off(desk, "POST /rest/v1.0/files")
    (desk.path / "old.dwg").write_bytes(b"the plan")
    wait_for_call(desk, "POST /rest/v1.0/files")
    (desk.path / "old.dwg").rename(desk.path / "new.dwg")
    desk.sandbox.faults(clear=True)
    desk.sync()
    desk.sandbox.faults(do_late=True)
    assert set(desk.files()) == {"new.dwg"}


def test_a_new_folder_is_made_after_it_was_renamed(desk: Desk) -> None:
    put_off(desk, "POST /rest/v1.0/folders")
    (desk.path / "old").mkdir()
    wait_for_call(desk, "POST /rest/v1.0/folders")
    (desk.path / "old").rename(desk.path / "new")
    (desk.path / "new" / "plan.dwg").write_bytes(b"the plan")
    desk.sandbox.faults(clear=True)
    desk.sandbox.faults(do_late=True)
    desk.sync()
    assert (desk.folders(), set(desk.files())) == ({"new"}, {"new/plan.dwg"})


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_rename_is_carried_out_after_the_name_was_given_back(desk: Desk, what: str) -> None:
    old, new = desk.path / "old", desk.path / "new"
    if what == "file":
        old.write_bytes(b"the plan")
    else:
        old.mkdir()
    desk.sync()
    route = f"PATCH /rest/v1.0/{what}s/{{id}}"
    put_off(desk, route)
    old.rename(new)
    wait_for_call(desk, route)
    new.rename(old)
    desk.sandbox.faults(clear=True)
    desk.sandbox.faults(do_late=True)
    desk.sync()
    assert {*desk.files(), *desk.folders()} == {"old"}
    assert [path.name for path in desk.path.iterdir()] == ["old"]


def test_a_save_is_carried_out_while_its_folder_is_removed(desk: Desk) -> None:
    (desk.path / "folder").mkdir()
    plan = saved(desk, "folder/plan.dwg", b"first")
    put_off(desk, CHANGE)
    plan.write_bytes(b"second save")
    wait_for_call(desk, CHANGE)
    plan.unlink()
    plan.parent.rmdir()
    desk.sandbox.faults(clear=True)
    desk.sandbox.faults(rules=[{"kind": "silence", "route": "GET */documents", "match": "folder_id"}])
    with ThreadPoolExecutor(1) as executor:
        synced = executor.submit(desk.settle)
        desk.sandbox.wait_for_silent_calls(1)
        desk.sandbox.faults(do_late=True)
        desk.sandbox.release()
        assert synced.result() == []
    assert (desk.files(), desk.folders()) == ({}, set())


def test_a_folder_goes_together_with_one_in_it_that_was_being_removed(desk: Desk) -> None:
    inside = desk.path / "outer" / "inner"
    inside.mkdir(parents=True)
    desk.sync()
    lose(desk, "DELETE /rest/v1.0/folders/{id}")
    inside.rmdir()
    wait_for_call(desk, "DELETE /rest/v1.0/folders/{id}")
    inside.parent.rmdir()
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert desk.folders() == set()
