"""Attributes of other programs stay at their file: over renames, uploads, remounts, kill -9 and a lost tree."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import make_unlisted
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, errno_name
from tests.support.xattrs import (
    DESCRIPTION,
    PROCORE,
    TAGS,
    XDG_TAGS,
    ProcoreMetadata,
    attributes,
    getfattr,
    setfattr,
    unsetfattr,
)

RATING, ODD = "user.baloo.rating", "user.odd name\n=\udcff"


@pytest.fixture
def project(mount_project: Callable[..., MountedProject], sandbox: SandboxHandle) -> MountedProject:
    """`plan.pdf` and `folder/`, of somebody else's making."""

    def prepare(_sandbox: SandboxHandle) -> None:
        sandbox.act("create_file", path="/plan.pdf", text="plan")
        sandbox.act("create_folder", path="/folder")

    project = mount_project("freshness=3600", prepare=prepare)
    run("ls", "-R", project.path)
    return project


def rate(path: Path) -> None:
    os.setxattr(path, RATING, b"7")
    os.setxattr(path, ODD, b"\0\xff")


def assert_rated(path: Path) -> None:
    assert os.getxattr(path, RATING) == b"7"
    assert os.getxattr(path, ODD) == b"\0\xff"
    assert os.listxattr(path) == [RATING, ODD]


def test_they_are_kept_without_a_call(project: MountedProject) -> None:
    plan = project.path / "plan.pdf"
    project.await_listed()
    attributes(plan)
    with project.counted() as calls:
        for path in (plan, project.path / "folder", project.path):
            assert errno_name(partial(os.getxattr, path, RATING)) == "ENODATA"
            assert errno_name(partial(os.removexattr, path, RATING)) == "ENODATA"
            rate(path)
            assert_rated(path)
        project.sync()
    assert calls.total == 0, calls.by_route
    unsetfattr(plan, RATING)
    assert os.listxattr(plan) == [ODD]
    assert getfattr(plan, PROCORE + "state") == "clean"


def test_no_name_that_is_not_there_costs_a_call(project: MountedProject) -> None:
    """File managers try many; even a mount that looks at every open asks for none of them."""
    plan = project.path / "plan.pdf"
    project.remount("freshness=0")
    os.stat(plan)
    with project.counted() as calls:
        for number in range(200):
            assert errno_name(partial(os.getxattr, plan, f"user.unknown.{number}")) == "ENODATA"
            assert errno_name(lambda: os.getxattr(plan, "security.capability")) == "ENOTSUP"
    assert calls.total == 0, calls.by_route


def test_they_go_with_the_file(project: MountedProject) -> None:
    new = project.path / "new.txt"
    new.write_text("x")
    rate(new)
    rate(project.path / "plan.pdf")
    rate(project.path / "folder")
    project.sync()
    assert_rated(new)
    moved = (project.path / "plan.pdf").rename(project.path / "folder" / "moved.pdf")
    folder = (project.path / "folder").rename(project.path / "renamed")
    moved = folder / "moved.pdf"
    for path in (new, moved, folder):
        assert_rated(path)
    project.sync()
    project.remount()
    for path in (new, moved, folder):
        assert_rated(path)
    new.write_text("newer")
    project.sync()
    assert_rated(new)


def test_they_survive_kill_9(project: MountedProject, in_procore: ProcoreMetadata) -> None:
    rate(project.path / "plan.pdf")
    new = project.path / "new.txt"
    new.write_text("x")
    rate(new)
    setfattr(new, TAGS, "b\na")
    setfattr(new, DESCRIPTION, "waits")
    project.mounted.kill()
    project.mount_after_end()
    assert_rated(project.path / "plan.pdf")
    assert os.getxattr(new, RATING) == b"7"
    project.sync()
    assert in_procore.tags("new.txt") == {"a", "b"}
    assert in_procore.document("new.txt")["description"] == "waits"
    assert getfattr(new, TAGS) == "b\na"


def test_they_survive_a_lost_tree(project: MountedProject) -> None:
    for path in ("plan.pdf", "folder"):
        rate(project.path / path)
    for number in range(20):
        (project.path / f"{number}.txt").write_text("x")
    rate(project.path / "7.txt")
    project.sync()
    project.mounted.unmount()
    for tree in project.mounted.home.state.rglob("tree.sqlite*"):
        tree.unlink()
    project.mount_after_end()
    project.mounted.expect_warning("The tree is not the one that the journal knows")
    for path in ("plan.pdf", "folder", "7.txt"):
        assert_rated(project.path / path)
    assert os.listxattr(project.path / "8.txt") == []


def test_they_stay_with_a_document_that_somebody_replaces_while_it_is_read(
    project: MountedProject, sandbox: SandboxHandle
) -> None:
    make_unlisted(sandbox)
    project.remount("freshness=0")
    project.list_all()
    plan = project.path / "plan.pdf"
    rate(plan)
    with plan.open("rb") as handle:
        handle.read(1)
        before = os.stat(plan).st_ino
        sandbox.act("put", path="/plan.pdf", text="a newer version")
        with plan.open("rb") as newer:
            assert newer.read() == b"a newer version"
        assert os.stat(plan).st_ino != before
        assert_rated(plan)


def test_a_new_file_under_an_old_name_has_none_of_its_own(project: MountedProject) -> None:
    plan = project.path / "plan.pdf"
    rate(plan)
    project.sync()
    (project.path / "other.pdf").write_text("another")
    (project.path / "other.pdf").rename(plan)
    assert os.listxattr(plan) == []
    rate(plan)
    plan.unlink()
    plan.write_text("a third")
    assert os.listxattr(plan) == []
    project.sync()
    assert os.listxattr(plan) == []


def test_an_open_file_that_was_removed(project: MountedProject) -> None:
    plan = project.path / "plan.pdf"
    with plan.open("r+b") as handle:
        plan.unlink()
        for name in (RATING, TAGS):
            assert errno_name(partial(os.setxattr, handle.fileno(), name, b"x")) == "ENOENT"
    with (project.path / "new.txt").open("wb") as handle:
        (project.path / "new.txt").unlink()
        assert errno_name(lambda: os.setxattr(handle.fileno(), TAGS, b"x")) == "ENOENT"
        assert os.listxattr(handle.fileno()) == []


def test_there_is_an_end_to_it(project: MountedProject) -> None:
    plan = project.path / "plan.pdf"
    assert errno_name(lambda: fill(plan, b"v" * 60_000, 100)) == "ENOSPC"
    assert errno_name(lambda: fill(project.path / "folder", b"", 2000)) == "ENOSPC"
    assert len(os.listxattr(project.path / "folder")) > 100


def fill(path: Path, value: bytes, count: int) -> None:
    for number in range(count):
        os.setxattr(path, f"user.{'n' * 200}{number}", value)


def test_a_file_manager_tags(project: MountedProject, in_procore: ProcoreMetadata) -> None:
    """KDE writes its tags and its rating, and reads both back."""
    plan = project.path / "plan.pdf"
    os.setxattr(plan, XDG_TAGS, b"Site,Urgent")
    os.setxattr(plan, RATING, b"8")
    assert os.getxattr(plan, XDG_TAGS) == b"Site,Urgent"
    project.sync()
    assert in_procore.tags("plan.pdf") == {"Site", "Urgent"}
    os.setxattr(plan, XDG_TAGS, b"Site")
    project.sync()
    assert in_procore.tags("plan.pdf") == {"Site"}
    assert attributes(plan) == {TAGS: "Site", XDG_TAGS: "Site", RATING: "8"}


@pytest.fixture
def in_procore(sandbox: SandboxHandle) -> ProcoreMetadata:
    return ProcoreMetadata(sandbox)
