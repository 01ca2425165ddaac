"""Procore stores another name than was sent: the mount takes it over and says so, and nothing is made twice."""

import os
from collections.abc import Callable

import pytest

from tests.support.mounting import wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, sha256

FILE, FOLDER = "plan #1  new.txt", "area %2  east"
STORED = {
    "tidied": ("plan #1 new.txt", "area %2 east"),
    "cleaned": ("plan _1 new.txt", "area _2 east"),
}
DIALECTS = pytest.mark.parametrize("stored_names", STORED)


def _mounted(
    mount_project: Callable[..., MountedProject], stored_names: str, *options: str
) -> MountedProject:
    project = mount_project(
        "freshness=0",
        *options,
        prepare=lambda sandbox: sandbox.faults(dialect={"stored_names": stored_names}),
    )
    project.mounted.expect_warning("changed the name")
    return project


def _in_procore(project: MountedProject) -> set[str]:
    return set(project.files()) | {path.removeprefix("/") for path in project.folders()}


def _in_mount(project: MountedProject) -> set[str]:
    return {str(path.relative_to(project.path)) for path in project.path.rglob("*")}


@DIALECTS
def test_the_stored_name_is_taken_over(
    mount_project: Callable[..., MountedProject], stored_names: str
) -> None:
    project = _mounted(mount_project, stored_names)
    file, folder = STORED[stored_names]
    (project.path / FOLDER).mkdir()
    (project.path / FOLDER / FILE).write_text("inside")
    with (project.path / FILE).open("w") as open_file:
        open_file.write("first")
        open_file.flush()
        inode = os.fstat(open_file.fileno()).st_ino
        (project.path / "other.txt").write_text("x")
        project.sync()
    project.sync()
    assert _in_procore(project) == {file, folder, f"{folder}/{file}", "other.txt"} == _in_mount(project)
    assert (project.path / file).stat().st_ino == inode
    assert not (project.path / FILE).exists()
    said = [refusal["reason"] for refusal in project.mounted.status()["refusals"]]
    for sent, stored in ((FILE, file), (FOLDER, folder)):
        assert any(f"changed the name {sent!r} to {stored!r}" in reason for reason in said), said

    # A program that saves under the sent name again makes the next version, as it does everywhere.
    made = project.file(file).id
    (project.path / FILE).write_text("second")
    project.sync()
    assert project.file(file).id == made
    assert (project.file(file).sha256, project.file(file).numbers) == (sha256(b"second"), [2, 1])

    # A rename.
    (project.path / "other.txt").rename(project.path / folder / "#3  other.txt")
    project.sync()
    project.remount()
    assert _in_procore(project) == _in_mount(project)
    assert len(_in_mount(project)) == 4
    assert (project.path / folder / file).read_text() == "inside"


@DIALECTS
def test_a_folder_keeps_its_name_while_a_program_copies_into_it(
    mount_project: Callable[..., MountedProject], stored_names: str
) -> None:
    project = _mounted(mount_project, stored_names)
    _, folder = STORED[stored_names]
    (project.path / FOLDER).mkdir()
    wait_until(lambda: folder in _in_procore(project), "the folder to be made")
    for number in range(3):
        (project.path / FOLDER / f"{number}.txt").write_text("x")
        wait_until(lambda: f"{folder}/{number}.txt" in project.files(), "the file")  # noqa: B023 - called in this round only
        assert os.listdir(project.path) == [FOLDER]
    wait_until(lambda: os.listdir(project.path) == [folder], "the name that Procore has")
    assert sorted(os.listdir(project.path / folder)) == ["0.txt", "1.txt", "2.txt"]
    assert not (project.path / FOLDER).exists()
    (project.path / FOLDER).mkdir()
    project.sync()
    assert _in_mount(project) == _in_procore(project) == {folder, *(f"{folder}/{n}.txt" for n in range(3))}


@DIALECTS
def test_two_names_that_become_one(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject], stored_names: str
) -> None:
    """Neither file becomes a version of the other: one waits for another name."""
    project = _mounted(mount_project, stored_names)
    project.mounted.expect_warning("was refused")
    file, folder = STORED[stored_names]
    sandbox.act("create_folder", path=f"/{folder}")
    sandbox.act("put", path=f"/{folder}/theirs.txt", text="theirs")
    os.listdir(project.path)
    (project.path / FILE).write_text("ours, sent under a name that changes")
    (project.path / file).write_text("ours, too")
    (project.path / FOLDER).mkdir()
    left = project.settle()
    assert len(left) == 2, left
    assert {item.state for item in left} == {"failed"}
    assert set(project.files()) == {file, f"{folder}/theirs.txt"}
    assert project.file(file).numbers == [1]
    assert sorted(path.read_text() for path in project.path.glob("plan*")) == [
        "ours, sent under a name that changes",
        "ours, too",
    ]
    for item in left:
        at = project.path / item.path
        at.rename(at.parent / f"renamed{at.suffix}")
    project.sync()
    assert len(project.files()) == 3


@DIALECTS
@pytest.mark.parametrize("killed", [False, True])
def test_made_and_not_answered_for(
    sandbox: SandboxHandle,
    mount_project: Callable[..., MountedProject],
    stored_names: str,
    *,
    killed: bool,
) -> None:
    """It is found by its bytes, or by the name that Procore makes of what was sent; a like one of others is not."""
    project = _mounted(mount_project, stored_names, "write_back=0")
    file, folder = STORED[stored_names]
    kind = {"kind": "silence"} if killed else {"kind": "drop", "count": 1}
    sandbox.faults(
        rules=[{**kind, "when": "after", "route": f"POST */{route}"} for route in ("files", "folders")]
    )
    (project.path / FOLDER).mkdir()
    (project.path / FILE).write_text("made, and nobody said so")
    if killed:
        sandbox.wait_for_silent_calls(2)
        sandbox.act("put", path="/theirs.txt", text="made, and nobody said so")
        project.mounted.kill()
        sandbox.release()
        project.mount_after_end("freshness=0", "write_back=0")
        project.mounted.expect_warning("changed the name")
    (project.path / FOLDER / "inside.txt").write_text("x")
    project.sync()
    expected = {file, folder, f"{folder}/inside.txt"} | ({"theirs.txt"} if killed else set())
    assert _in_procore(project) == _in_mount(project) == expected
    assert project.file(file).numbers == [1]
