"""Answers to writes that are lost after the work was done: nothing is doubled and nothing is lost."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounting import wait_until
from tests.support.writing import MountedProject, sha256

GOES_AGAIN = r"is tried again in|cannot be polled|was created by another user"


def drop_answers(project: MountedProject, route: str, count: int = 1) -> None:
    """The work is done, and nobody hears of it."""
    project.sandbox.faults(rules=[{"kind": "drop", "route": route, "when": "after", "count": count}])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "route", ["POST *uploads", "storage POST", "POST /rest/v1.0/files", "POST /rest/v1.0/folders"]
)
def test_a_lost_answer_about_something_new(
    mount_project: Callable[..., MountedProject], route: str, count: int
) -> None:
    project = mount_project("write_back=0")
    drop_answers(project, route, count)
    (project.path / "folder").mkdir()
    (project.path / "folder" / "plan.dwg").write_bytes(b"the plan")
    project.sync()
    project.assert_saved("folder/plan.dwg", None, b"the plan")
    assert project.folders() == {"folder"}
    assert len(project.files()) == 1
    assert project.binned() == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_lost_answer_about_a_new_version(mount_project: Callable[..., MountedProject], count: int) -> None:
    project = mount_project("write_back=0")
    (project.path / "plan.dwg").write_bytes(b"first")
    project.sync()
    before = project.file("plan.dwg")
    drop_answers(project, "PATCH /rest/v1.0/files/{id}", count)
    (project.path / "plan.dwg").write_bytes(b"second state")
    project.sync()
    project.assert_saved("plan.dwg", before, b"second state")


@pytest.mark.parametrize("how", ["in place", "anew", "behind"])
@pytest.mark.parametrize("is_new", [False, True])
def test_written_again_while_an_answer_was_lost(
    mount_project: Callable[..., MountedProject], how: str, is_new: bool
) -> None:
    """What the storage has by then are the bytes of before: the same call again must not bring those for the new."""
    project = mount_project("write_back=0")
    path, name = project.path / "plan.dwg", "/rest/v1.0/files"
    if not is_new:
        path.write_bytes(b"first")
        project.sync()
    route = f"POST {name}" if is_new else f"PATCH {name}/{{id}}"
    rules: list[dict[str, object]] = [{"kind": "drop", "route": route, "when": "after", "count": 1}]
    project.sandbox.faults(rules=[*rules, {"kind": "error", "route": route, "status": 503, "skip": 1}])
    project.mounted.expect_warning(GOES_AGAIN)
    project.sandbox.reset_calls()
    path.write_bytes(b"second state")
    wait_until(lambda: project.sandbox.calls()["by_route"].get(route, 0) >= 2, "the second try")
    match how:
        case "in place":
            with path.open("r+b") as file:
                file.write(b"SECOND")
        case "anew":
            path.write_bytes(b"a third one!")
        case "behind":
            with path.open("ab") as file:
                file.write(b", and more")
    expected = path.read_bytes()
    project.sandbox.faults(clear=True)
    project.sync()
    assert path.read_bytes() == expected
    assert project.file("plan.dwg").sha256 == sha256(expected)
    assert project.file("plan.dwg").sizes[1:] == ([12] if is_new else [12, 5])


@pytest.mark.parametrize("how", ["removed", "renamed over another"])
def test_gone_while_the_answer_about_its_version_was_lost(
    mount_project: Callable[..., MountedProject], how: str
) -> None:
    """The version that nobody has heard of is ours: it does not look like somebody else's and keep the document."""
    project = mount_project("write_back=0")
    for name in ("plan.dwg", "other.dwg"):
        (project.path / name).write_bytes(b"first")
    project.sync()
    route = "PATCH /rest/v1.0/files/{id}"
    rules: list[dict[str, object]] = [{"kind": "drop", "route": route, "when": "after", "count": 1}]
    project.sandbox.faults(rules=[*rules, {"kind": "error", "route": route, "status": 503, "skip": 1}])
    project.mounted.expect_warning(GOES_AGAIN)
    project.sandbox.reset_calls()
    (project.path / "plan.dwg").write_bytes(b"second state")
    wait_until(lambda: project.sandbox.calls()["by_route"].get(route, 0) >= 2, "the second try")
    if how == "removed":
        (project.path / "plan.dwg").unlink()
    else:
        (project.path / "plan.dwg").rename(project.path / "other.dwg")
    project.sandbox.faults(clear=True)
    project.sync()
    assert project.file("other.dwg").sizes == ([5] if how == "removed" else [12, 5])
    assert set(project.files()) == {"other.dwg"}


@pytest.mark.parametrize("what", ["file", "folder", "large file"])
def test_a_lost_answer_about_other_things(mount_project: Callable[..., MountedProject], what: str) -> None:
    """Removals, and the call that puts segments together."""
    project = mount_project("write_back=0")
    if what == "large file":
        data = os.urandom(33 << 20)
        drop_answers(project, "PATCH *uploads/*")
        (project.path / "large.dwg").write_bytes(data)
        project.sync()
        project.assert_saved("large.dwg", None, data)
        return
    (project.path / "folder").mkdir()
    (project.path / "plan.dwg").write_bytes(b"the plan")
    project.sync()
    drop_answers(project, f"DELETE /rest/v1.0/{what}s/*")
    if what == "file":
        (project.path / "plan.dwg").unlink()
    else:
        (project.path / "folder").rmdir()
    project.sync()
    assert (set(project.files()), project.folders()) == (
        (set(), {"folder"}) if what == "file" else ({"plan.dwg"}, set())
    )
    assert len(project.binned()) == 1


@pytest.mark.parametrize("then", ["renamed", "moved", "removed", "replaced", "renamed over another"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_changed_here_while_the_answer_about_its_making_was_lost(
    mount_project: Callable[..., MountedProject], what: str, then: str
) -> None:
    """Procore has it under a name that nobody wants any more: no stray document is left there."""
    project = mount_project("write_back=0")
    place = project.path
    (place / "other").mkdir()
    (place / "old.dwg").write_bytes(b"old")
    project.sync()
    old = project.file("old.dwg")
    no_answer_yet(project, what)
    make(place / "new", what)
    wait_for_second_try(project, what)
    kept = {"other", "old.dwg"}
    match then:
        case "renamed":
            (place / "new").rename(place / "renamed")
            kept |= {"renamed"}
        case "moved":
            (place / "new").rename(place / "other" / "moved")
            kept |= {"other/moved"}
        case "removed":
            (place / "new").unlink() if what == "file" else (place / "new").rmdir()
        case "replaced":
            (place / "new").unlink() if what == "file" else (place / "new").rmdir()
            make(place / "new", what)
            kept |= {"new"}
        case _:
            if what == "folder":
                return
            (place / "new").rename(place / "old.dwg")
    project.mounted.expect_warning(GOES_AGAIN)
    project.sandbox.faults(clear=True)
    project.sync()
    assert {*project.files(), *project.folders()} == kept
    assert {str(path.relative_to(place)) for path in place.rglob("*")} == kept
    if then == "renamed over another":
        project.assert_saved("old.dwg", old, b"made new")


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("then", ["kept", "renamed"])
def test_procore_has_another_time_when_an_answer_is_lost(
    mount_project: Callable[..., MountedProject], what: str, then: str, ahead_s: float
) -> None:
    """Its answers tell its clock: what our call has made is recognised by that."""
    project = mount_project("write_back=0", prepare=lambda sandbox: sandbox.faults(clock_shift_s=ahead_s))
    no_answer_yet(project, what)
    project.mounted.expect_warning(GOES_AGAIN)
    make(project.path / "new", what)
    wait_for_second_try(project, what)
    if then == "renamed":
        (project.path / "new").rename(project.path / "renamed")
    project.sandbox.faults(clear=True)
    project.sandbox.faults(clock_shift_s=ahead_s)
    project.sync()
    assert {*project.files(), *project.folders()} == {"renamed" if then == "renamed" else "new"}


SECOND_TRY = {"file": "POST /rest/v1.0/files", "folder": "GET /rest/v1.0/folders"}
"""A file is made again with the same upload; a folder is looked for."""


def no_answer_yet(project: MountedProject, what: str) -> None:
    """The answer about the making of the next one is lost, and the second try finds Procore away."""
    drop = {"kind": "drop", "route": f"POST /rest/v1.0/{what}s", "when": "after", "count": 1}
    away = {"kind": "error", "route": SECOND_TRY[what], "status": 503, "skip": 1 if what == "file" else 0}
    project.sandbox.reset_calls()
    project.sandbox.faults(rules=[drop, away])


def wait_for_second_try(project: MountedProject, what: str) -> None:
    calls = 2 if what == "file" else 1
    wait_until(
        lambda: project.sandbox.calls()["by_route"].get(SECOND_TRY[what], 0) >= calls, "the second try"
    )


def make(path: Path, what: str) -> None:
    if what == "file":
        path.write_bytes(b"made new")
    else:
        path.mkdir()


def test_a_colleagues_file_of_the_same_size_where_an_answer_was_lost(
    mount_project: Callable[..., MountedProject],
) -> None:
    """Theirs has the name by the time ours is sent again: both survive, as two versions."""
    project = mount_project("write_back=0")
    project.sandbox.faults(
        rules=[
            {"kind": "drop", "route": "POST /rest/v1.0/files", "when": "before", "count": 1},
            {"kind": "silence", "route": "POST /rest/v1.0/files", "count": 1, "skip": 1},
        ]
    )
    project.mounted.expect_warning(GOES_AGAIN)
    (project.path / "plan.dwg").write_bytes(b"ours...")
    project.sandbox.wait_for_silent_calls()
    project.sandbox.act("put", path="/plan.dwg", text="theirs.")
    project.sandbox.release()
    project.sync()
    found = project.file("plan.dwg")
    assert found.sizes == [7, 7]
    assert found.sha256 == sha256(b"ours...")
