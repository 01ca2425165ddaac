"""The delete guard: too many deletions or overwrites at once are held until a person decides."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.environment import run
from tests.support.mounting import wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, errno_name, sha256

LIMIT = 20
OPTIONS = f"delete_guard={LIMIT},freshness=3600"
TRIPS = "the delete guard holds them"
PDF = b"%PDF-1.7\n"


def fill(sandbox: SandboxHandle) -> None:
    """Two folders with a folder in each, 30 files in each of the four, and ten files in the root."""
    for folder in ("old", "old/deep", "new", "new/deep"):
        sandbox.act("create_folder", path=f"/{folder}")
        for number in range(30):
            sandbox.act("put", path=f"/{folder}/{number:02}.pdf", text=f"%PDF-1.7\n{folder} {number}")
    for number in range(10):
        sandbox.act("put", path=f"/root {number}.txt", text=f"root {number}")


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    project = mount_project(OPTIONS, prepare=fill)
    run("find", project.path)
    project.await_listed()
    project.mounted.expect_warning(TRIPS)
    return project


def guarded(project: MountedProject) -> dict[str, tuple[int, int]]:
    """What status says of each folder: deletions and overwrites."""
    folders = project.mounted.status()["outbox"]["guarded"]
    return {folder["path"]: (folder["deletions"], folder["overwrites"]) for folder in folders}


def command(project: MountedProject, *arguments: str | Path) -> str:
    """A command that must succeed."""
    answer = project.mounted.home.procorefs(*arguments)
    assert answer.returncode == 0, answer.stderr
    return str(answer.stdout)


def settled(project: MountedProject) -> dict[str, Any]:
    """Send what may be sent; returns what Procore has."""
    project.settle()
    return project.sandbox.inventory()


def test_a_removed_tree_is_held_until_it_is_let_go(project: MountedProject) -> None:
    shutil.rmtree(project.path / "old")
    before = project.sandbox.inventory()
    answer = project.mounted.home.procorefs("sync", project.path)
    assert answer.returncode == 1
    assert "62 deletions and overwrites are held by the delete guard" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert project.sandbox.inventory() == before
    assert not (project.path / "old").exists()
    assert guarded(project) == {"old": (62, 0)}
    outbox = project.mounted.status()["outbox"]
    assert (outbox["held"], outbox["failed"], outbox["pending"], outbox["held_items"]) == (62, 0, 0, [])
    shown = command(project, "status", project.path)
    assert "62 deletions in old" in shown
    assert f"procorefs discard {project.path}" in shown
    assert project.mounted.log.count(TRIPS) == 1
    with project.counted() as calls:
        assert command(project, "retry", project.path / "old") == "62 changes will be sent again.\n"
        project.sync()
    assert sum(count for route, count in calls.by_route.items() if route.startswith("DELETE")) == 1
    assert project.folders() == {"new", "new/deep"}
    assert guarded(project) == {}


def test_what_is_discarded_shows_again_without_calls(project: MountedProject) -> None:
    before = project.sandbox.inventory()
    names = sorted(run("find", project.path).splitlines())
    run("rm", "-r", *[project.path / name for name in os.listdir(project.path)])
    assert os.listdir(project.path) == []
    assert settled(project) == before
    assert guarded(project) == {"": (10, 0), "old": (62, 0), "new": (62, 0)}
    with project.counted() as calls:
        told = command(project, "discard", project.path)
        assert sorted(run("find", project.path).splitlines()) == names
    assert "134 deletions and overwrites" in told
    assert calls.total == calls.polls, calls.by_route
    assert (project.path / "new" / "deep" / "07.pdf").read_text() == "%PDF-1.7\nnew/deep 7"
    (project.path / "root 1.txt").unlink()  # the guard counts nothing any more
    project.sync()
    assert "root 1.txt" not in project.files()


def test_a_part_is_let_go_and_another_comes_back(project: MountedProject) -> None:
    shutil.rmtree(project.path / "old")
    shutil.rmtree(project.path / "new")
    settled(project)
    command(project, "retry", project.path / "old" / "deep")
    command(project, "discard", project.path / "new" / "03.pdf")
    project.settle()
    assert "old/deep" not in project.folders()
    assert "old" in project.folders()
    assert os.listdir(project.path / "new") == ["03.pdf"]
    assert guarded(project) == {"old": (31, 0), "new": (29, 0), "new/deep": (31, 0)}
    command(project, "retry", project.path)
    project.sync()
    assert project.folders() == {"new"}
    assert {path for path in project.files() if "/" in path} == {"new/03.pdf"}


def test_an_empty_source_deletes_nothing(project: MountedProject, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    before = project.sandbox.inventory()
    run("rsync", "-r", "--delete", f"{source}/", f"{project.path}/")
    assert os.listdir(project.path) == []
    assert settled(project) == before
    ids = {path: file.id for path, file in project.files().items()}
    for folder in ("old", "old/deep", "new", "new/deep"):
        (source / folder).mkdir()
        for number in range(30):
            (source / folder / f"{number:02}.pdf").write_bytes(PDF + b"copied")
    run("rsync", "-r", "--delete", f"{source}/", f"{project.path}/")
    project.settle()
    assert guarded(project) == {"": (10, 0)}
    command(project, "discard", project.path)
    project.sync()
    now = project.files()
    assert {
        path: file.id for path, file in now.items()
    } == ids  # each is a version of the document that it was
    assert {file.sha256 for path, file in now.items() if "/" in path} == {sha256(PDF + b"copied")}


def test_kill_and_restart_in_between(project: MountedProject) -> None:
    for number in range(LIMIT - 5):
        (project.path / "new" / f"{number:02}.pdf").unlink()
    project.sync()
    project.mounted.kill()
    project.mount_after_end(OPTIONS)
    project.mounted.expect_warning(f"{TRIPS}|guard")
    for number in range(10):
        (project.path / f"root {number}.txt").unlink()
    before = settled(project)
    assert guarded(project) == {"": (10, 0)}
    project.mounted.kill()
    project.mount_after_end(OPTIONS)
    project.mounted.expect_warning(f"{TRIPS}|guard")
    assert guarded(project) == {"": (10, 0)}
    assert not any(name.startswith("root") for name in os.listdir(project.path))
    assert settled(project) == before
    told = project.mounted.unmount(leaves=True)
    assert "10 deletions and overwrites are held by the delete guard" in told
    project.mount_after_end(OPTIONS)
    project.mounted.expect_warning(f"{TRIPS}|guard")
    command(project, "retry", project.path)
    project.sync()
    assert not any(path.startswith("root") for path in project.files())


def test_killed_while_it_removes(project: MountedProject) -> None:
    """Whatever was removed before the death, the next daemon comes to the same."""
    before = project.sandbox.inventory()
    shutil.rmtree(project.path / "old")
    project.mounted.kill()
    project.mount_after_end(OPTIONS)
    project.mounted.expect_warning(f"{TRIPS}|guard")
    assert settled(project) == before
    assert guarded(project) == {"old": (62, 0)}


def test_new_bytes_of_another_type_are_held(project: MountedProject) -> None:
    chance = random.Random(7)
    before = project.files()
    (project.path / "old" / "00.pdf").write_bytes(PDF + b"edited")
    for number in range(1, LIMIT + 5):
        (project.path / "old" / f"{number:02}.pdf").write_bytes(chance.randbytes(5000))
    for number in range(10):
        (project.path / f"root {number}.txt").write_bytes(b"a text may be anything")
    project.settle()
    now = project.files()
    assert now["old/00.pdf"].numbers == [2, 1]
    assert all(now[f"root {number}.txt"].numbers == [2, 1] for number in range(10))
    assert guarded(project) == {"old": (0, LIMIT + 4)}
    for number in range(1, LIMIT + 5):
        assert now[f"old/{number:02}.pdf"] == before[f"old/{number:02}.pdf"]
    held = project.path / "old" / "05.pdf"
    assert os.getxattr(held, "user.procore.state") == b"guarded"
    held.write_bytes(PDF + b"repaired")  # it is sent by itself
    project.settle()
    assert project.file("old/05.pdf").sha256 == sha256(PDF + b"repaired")
    command(project, "retry", project.path / "old" / "06.pdf")
    command(project, "discard", project.path)
    project.sync()
    assert project.file("old/06.pdf").sizes[0] == 5000
    assert (project.path / "old" / "07.pdf").read_text() == "%PDF-1.7\nold 7"
    assert guarded(project) == {}


def test_saving_by_delete_and_create_is_no_deletion(project: MountedProject) -> None:
    for number in range(30):
        path = project.path / "new" / f"{number:02}.pdf"
        path.unlink()
        path.write_bytes(PDF + b"unpacked")
    project.sync()
    assert project.file("new/07.pdf").numbers == [2, 1]
    assert guarded(project) == {}


def test_a_new_file_of_a_held_name_waits_and_is_not_thrown_away(project: MountedProject) -> None:
    shutil.rmtree(project.path / "old")
    project.settle()
    (project.path / "old").write_bytes(b"a file where a folder was")
    project.settle()
    assert "old" in project.folders()
    command(project, "discard", project.path)
    project.mounted.expect_warning("was refused")
    assert (project.path / "old").read_bytes() == b"a file where a folder was"
    wait_until(lambda: project.mounted.status()["outbox"]["failed"] == 1, "the name to be refused")
    (project.path / "old").rename(project.path / "older")
    project.sync()
    assert project.file("older").sizes == [25]
    assert len(os.listdir(project.path / "old")) == 31


def test_a_folder_made_again_keeps_its_document(project: MountedProject) -> None:
    shutil.rmtree(project.path / "old")
    project.settle()
    (project.path / "old").mkdir()
    (project.path / "old" / "29.pdf").write_bytes(PDF + b"again")
    project.settle()
    assert os.listdir(project.path / "old") == ["29.pdf"]
    assert project.file("old/29.pdf").numbers == [2, 1]
    assert guarded(project) == {"old": (29, 0), "old/deep": (31, 0)}
    command(project, "retry", project.path / "old")
    project.sync()
    assert {path for path in project.files() if path.startswith("old")} == {"old/29.pdf"}


def test_off(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("delete_guard=off", prepare=fill)
    run("find", project.path)
    project.await_listed()
    shutil.rmtree(project.path / "old")
    project.sync()
    assert project.folders() == {"new", "new/deep"}


def test_through_tells_what_is_held(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_mode=through,delete_guard=3,freshness=3600", prepare=fill)
    run("find", project.path)
    project.await_listed()
    project.mounted.expect_warning(f"{TRIPS}|than delete_guard allows")
    errors = [errno_name((project.path / "old" / f"{number:02}.pdf").unlink) for number in range(6)]
    assert errors == ["", "", "", "EIO", "EIO", "EIO"]
    assert "than delete_guard allows" in project.mounted.status()["refusals"][0]["reason"]
    assert len([path for path in project.files() if path.startswith("old/")]) == 57
    assert guarded(project) == {"old": (3, 0)}
    assert len(os.listdir(project.path / "old")) == 25
    command(project, "discard", project.path / "old")
    assert len(os.listdir(project.path / "old")) == 28
