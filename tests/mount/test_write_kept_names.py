"""Documents whose names Procore would refuse today: whatever replaces one keeps its name, by whichever program."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.sandbox import SandboxHandle
from tests.support.writing import EXCHANGE, MountedProject, errno_name, renameat2, sha256

NAME, FOLDER = "Level 3: slabs.odt", "Level 3: all"


def fill(sandbox: SandboxHandle) -> None:
    sandbox.act("create_file", path="/", name=NAME, text="first line\n")
    sandbox.act("create_folder", path="/", name=FOLDER)
    sandbox.act("create_file", path=f"/{FOLDER}", name="why?.txt", text="inside")
    sandbox.act("create_folder", path="/", name="empty: so far")


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    project = mount_project("write_back=0.2", prepare=fill)
    for folder in ("", FOLDER, "empty: so far"):
        os.listdir(project.path / folder)
    return project


def _rsync(path: Path, source: Path) -> None:
    run("rsync", "-a", source, path)


def _move(path: Path, source: Path) -> None:
    run("mv", source, path)


def _sed(path: Path, _source: Path) -> None:
    run("sed", "-i", "s/first/second/", path)


def _copy(path: Path, source: Path) -> None:
    run("cp", "--remove-destination", source, path)


def _rename(path: Path, source: Path) -> None:
    temporary = path.with_name("lu12ab3c.tmp")
    shutil.copy(source, temporary)
    temporary.rename(path)


def _backup_first(path: Path, source: Path) -> None:
    backup = path.with_name("backup.odt")
    path.rename(backup)
    shutil.copy(source, path)
    backup.unlink()


def _exchange(path: Path, source: Path) -> None:
    new = path.with_name("new.odt")
    shutil.copy(source, new)
    renameat2(new, path, EXCHANGE)
    new.unlink()


@pytest.mark.parametrize("save", [_rsync, _move, _sed, _copy, _rename, _backup_first, _exchange])
def test_a_save_is_the_documents_next_version(
    project: MountedProject, tmp_path: Path, save: Callable[[Path, Path], None]
) -> None:
    source = tmp_path / NAME
    source.write_bytes(b"second line\n")
    before = project.file(NAME)
    save(project.path / NAME, source)
    assert (project.path / NAME).read_bytes() == b"second line\n"
    project.sync()
    project.assert_saved(NAME, before, b"second line\n")
    assert set(project.files()) == {NAME, f"{FOLDER}/why?.txt"}


def test_a_document_that_is_moved_there_becomes_a_version(project: MountedProject) -> None:
    (project.path / "other.odt").write_bytes(b"other")
    project.sync()
    before = project.file(NAME)
    (project.path / NAME).rename(project.path / "old.odt")
    (project.path / "other.odt").rename(project.path / NAME)
    project.sync()
    project.assert_saved(NAME, before, b"other")
    assert project.file("old.odt").sha256 == sha256(b"first line\n")
    assert set(project.files()) == {NAME, "old.odt", f"{FOLDER}/why?.txt"}


def test_names_that_are_left_and_taken_again_cost_nothing(project: MountedProject) -> None:
    before = project.sandbox.inventory()
    with project.counted() as calls:
        for name in (NAME, FOLDER, f"{FOLDER}/why?.txt"):
            (project.path / name).rename(project.path / "elsewhere")
            (project.path / "elsewhere").rename(project.path / name)
        (project.path / "empty: so far").rmdir()
        (project.path / "empty: so far").mkdir()
        project.sync()
    assert calls.writes == 0
    assert project.sandbox.inventory() == before


def test_the_rules_hold_for_new_names(project: MountedProject) -> None:
    (project.path / "new.odt").write_bytes(b"new")
    (project.path / NAME).rename(project.path / "old.odt")
    project.sync()
    new = project.path / "new.odt"
    attempts: list[Callable[[], object]] = [
        lambda: (project.path / NAME).touch(),
        lambda: new.rename(project.path / NAME),
        lambda: (project.path / "old.odt").rename(project.path / NAME),
        lambda: (project.path / FOLDER / NAME).touch(),
        lambda: (project.path / "empty: so far").rename(project.path / "Level 4: all"),
    ]
    assert [errno_name(attempt) for attempt in attempts] == ["EINVAL"] * len(attempts)
