"""`invalid_names=encode` where Procore has names that it would refuse today, alone and beside their twins."""

# ruff: noqa: RUF001 - characters that look like others are what this is about

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounting import make_unlisted, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import EXCHANGE, MountedProject, renameat2, sha256

RAW, TWIN = "K 1:50", "K 1：50"


def fill(sandbox: SandboxHandle) -> None:
    make_unlisted(sandbox)
    sandbox.act("create_folder", path="/", name="Level 1: plans")
    for name in (RAW, TWIN):
        sandbox.act("create_file", path="/Level 1: plans", name=name, text=f"of {name}")
    sandbox.act("create_file", path="/Level 1: plans", name="alone?", text="of alone?")


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    return mount_project("invalid_names=encode,write_back=0.2", prepare=fill)


def test_a_path_leads_there_before_anything_was_listed(project: MountedProject) -> None:
    folder = project.path / "Level 1: plans"
    assert (folder / "alone?").read_text() == "of alone?"
    assert (folder / RAW).read_text() == f"of {RAW}"
    assert (folder / TWIN).read_text() == f"of {TWIN}"
    assert sorted(os.listdir(folder)) == sorted([RAW, TWIN, "alone?"])


@pytest.mark.parametrize("name", [RAW, TWIN, "alone?"])
@pytest.mark.parametrize("way", ["in place", "rename", "exchange", "anew"])
def test_a_save_makes_a_version_of_the_document_that_shows(
    project: MountedProject, name: str, way: str
) -> None:
    before = {path: file.id for path, file in project.files().items()}
    path = project.path / "Level 1: plans" / name
    temporary = path.with_name(f".{name}.x4Kp2Q")
    match way:
        case "in place":
            path.write_bytes(b"new")
        case "rename":
            temporary.write_bytes(b"new")
            temporary.rename(path)
        case "exchange":
            temporary.write_bytes(b"new")
            renameat2(temporary, path, EXCHANGE)
            temporary.unlink()
        case "anew":
            path.unlink()
            path.write_bytes(b"new")
    project.sync()
    assert path.read_bytes() == b"new"
    assert {path: file.id for path, file in project.files().items()} == before
    saved = project.file(f"Level 1: plans/{name}")
    assert (saved.sha256, saved.numbers) == (sha256(b"new"), [2, 1])
    assert sorted(os.listdir(path.parent)) == sorted([RAW, TWIN, "alone?"])


def test_names_move_on_when_one_comes_or_goes(project: MountedProject) -> None:
    folder = project.path / "Level 1: plans"
    assert len(os.listdir(folder)) == 3
    (folder / RAW).rename(folder / "gone")
    assert not (folder / RAW).exists()  # it is still that document's in Procore
    assert (folder / TWIN).read_text() == f"of {TWIN}"
    project.sync()
    assert (folder / RAW).read_text() == f"of {TWIN}"
    wait_until(lambda: not (folder / TWIN).exists(), "the kernel to forget the other name")
    assert set(os.listdir(folder)) == {RAW, "gone", "alone?"}
    (folder / "gone").rename(folder / "moved on")
    project.sync()
    assert set(project.files()) == {f"Level 1: plans/{name}" for name in ("moved on", TWIN, "alone?")}


def test_the_name_of_a_removed_one_is_free_when_procore_has_removed_it(project: MountedProject) -> None:
    folder = project.path / "Level 1: plans"
    assert len(os.listdir(folder)) == 3
    (folder / RAW).unlink()
    assert set(os.listdir(folder)) == {TWIN, "alone?"}
    project.sync()
    wait_until(lambda: set(os.listdir(folder)) == {RAW, "alone?"}, "the twin to show under its own name")
    assert (folder / RAW).read_text() == f"of {TWIN}"
    wait_until(lambda: not (folder / TWIN).exists(), "the kernel to forget the other name")


def test_a_colleagues_change_moves_names_on(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("invalid_names=encode,freshness=0.2", prepare=fill)
    folder = project.path / "Level 1: plans"
    project.list_all()
    assert (folder / RAW).read_text() == f"of {RAW}"
    assert (folder / TWIN).read_text() == f"of {TWIN}"
    project.sandbox.act("rename", path=f"/Level 1: plans/{RAW}", name="theirs")
    wait_until(lambda: _text(folder / RAW) == f"of {TWIN}", "the twin to show under its own name")
    project.sandbox.act("create_file", path="/Level 1: plans", name=RAW, text="raw again")
    wait_until(lambda: _text(folder / RAW) == "raw again", "the new one to have its name")
    assert (folder / TWIN).read_text() == f"of {TWIN}"


def _text(path: Path) -> str:
    """Nothing while it is just not there."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def test_commands_know_the_names_that_programs_see(project: MountedProject) -> None:
    fresh = project.path / "fresh?.txt"
    project.mounted.expect_warning("was refused")
    project.sandbox.faults(rules=[{"kind": "error", "status": 403, "route": "POST *"}])
    fresh.write_bytes(b"new")
    answer = project.mounted.home.procorefs("sync", fresh)
    assert answer.returncode == 1
    assert f"the change to {fresh} is not in Procore" in answer.stderr
    project.sandbox.faults(clear=True)
    assert project.mounted.home.procorefs("retry", fresh).returncode == 0
    project.sync("fresh?.txt")
    assert "fresh？.txt" in project.files()


def test_junk_is_known_by_the_name_that_programs_give(project: MountedProject) -> None:
    (project.path / "Icon\r").touch()
    (project.path / ".~lock.a:b.odt#").touch()
    with project.counted() as calls:
        project.sync()
    assert calls.total == 0
    assert project.mounted.status()["outbox"]["local"]["junk"] == 2
