"""Names that are exchanged, folders that change places, removals beside other changes: which call goes first."""

import os
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.support.mounting import wait_until
from tests.support.writing import EXCHANGE, NOREPLACE, MountedProject, renameat2

MOVE = "PATCH /rest/v1.0/folders/{id}"
DELETE = "DELETE /rest/v1.0/files/{id}"


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    return mount_project("write_back=0,freshness=3600")


def ids(project: MountedProject) -> dict[str, int]:
    inventory = project.sandbox.inventory()
    return {path[1:]: number for path, number in inventory["folders"].items()} | {
        path[1:]: file["id"] for path, file in inventory["files"].items()
    }


def write(project: MountedProject, *names: str) -> None:
    for name in names:
        (project.path / name).write_text(name)
    project.sync()


def delay_first_move(project: MountedProject) -> None:
    """What does not wait for it comes before it."""
    project.sandbox.faults(rules=[{"kind": "latency", "route": MOVE, "seconds": 1.0, "count": 1}])


def test_a_document_that_another_was_renamed_over_is_removed(project: MountedProject) -> None:
    """Nobody else was there: its newest version is the one that was there when it was replaced."""
    write(project, "a", "b")
    (project.path / "b").rename(project.path / "a")
    (project.path / "a").unlink()
    project.sync()
    assert (project.files(), list(project.path.iterdir())) == ({}, [])


def test_a_document_that_went_through_several_names_is_removed(project: MountedProject) -> None:
    write(project, "a", "b", "c")
    (project.path / "b").rename(project.path / "a")
    (project.path / "c").rename(project.path / "b")
    renameat2(project.path / "a", project.path / "b", EXCHANGE)
    (project.path / "a").rename(project.path / "b")
    (project.path / "b").unlink()
    project.sync()
    assert (project.files(), list(project.path.iterdir())) == ({}, [])


def test_a_folder_changes_places_with_the_one_it_is_in(project: MountedProject) -> None:
    (project.path / "a" / "b").mkdir(parents=True)
    write(project, "a/in a", "a/b/in b")
    before = ids(project)
    with project.counted() as calls:
        delay_first_move(project)
        (project.path / "a" / "b").rename(project.path / "b")
        (project.path / "a").rename(project.path / "b" / "a")
        project.sync()
    assert calls.by_route[MOVE] == 2
    assert ids(project) == {
        "b": before["a/b"],
        "b/in b": before["a/b/in b"],
        "b/a": before["a"],
        "b/a/in a": before["a/in a"],
    }


def test_a_chain_of_folders_is_turned_around(project: MountedProject) -> None:
    (project.path / "a" / "b" / "c").mkdir(parents=True)
    project.sync()
    before = ids(project)
    with project.counted() as calls:
        delay_first_move(project)
        (project.path / "a" / "b" / "c").rename(project.path / "c")
        (project.path / "a" / "b").rename(project.path / "c" / "b")
        (project.path / "a").rename(project.path / "c" / "b" / "a")
        project.sync()
    assert calls.by_route[MOVE] == 3
    assert ids(project) == {"c": before["a/b/c"], "c/b": before["a/b"], "c/b/a": before["a"]}


@pytest.mark.parametrize("is_case_told", [True, False])
def test_a_ring_of_names(project: MountedProject, *, is_case_told: bool) -> None:
    project.sandbox.faults(dialect={"case_sensitive_names": is_case_told})
    write(project, "a", "b", "c")
    before = ids(project)
    (project.path / "a").rename(project.path / "aside")
    (project.path / "c").rename(project.path / "A" if not is_case_told else project.path / "a")
    (project.path / "b").rename(project.path / "C" if not is_case_told else project.path / "c")
    (project.path / "aside").rename(project.path / "B" if not is_case_told else project.path / "b")
    with project.counted() as calls:
        project.sync()
    assert {name.lower(): number for name, number in ids(project).items()} == {
        "a": before["c"],
        "b": before["a"],
        "c": before["b"],
    }
    assert calls.total <= 20


def test_two_names_are_swapped_in_other_case(project: MountedProject) -> None:
    """One of the calls is refused, and when it is asked who has the name, nobody has it any more."""
    project.sandbox.faults(dialect={"case_sensitive_names": False})
    write(project, "a", "b")
    before = ids(project)
    (project.path / "a").rename(project.path / "aside")
    (project.path / "b").rename(project.path / "A")
    (project.path / "aside").rename(project.path / "B")
    with project.counted() as calls:
        project.sync()
    assert ids(project) == {"A": before["b"], "B": before["a"]}
    assert calls.total <= 12


@pytest.mark.parametrize("is_case_told", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_moves_and_exchanges_at_random(project: MountedProject, seed: int, *, is_case_told: bool) -> None:
    """Whatever the kernel lets happen ends in Procore as it is here, with the ids that it had, in few calls."""
    project.sandbox.faults(dialect={"case_sensitive_names": is_case_told})
    for folder in ("a/c/e", "b/d"):
        (project.path / folder).mkdir(parents=True)
    write(project, "a/1", "b/2", "a/c/3", "a/c/e/4", "5", "6")
    before = ids(project)
    chance = random.Random(seed)
    for _ in range(2):
        for _ in range(chance.randint(3, 12)):
            move_at_random(project, chance, "abcde123456x")
        with project.counted() as calls:
            project.sync()
        assert calls.total <= 100
    assert sorted(ids(project).values()) == sorted(before.values())
    shown = {str(path.relative_to(project.path)): path for path in project.path.rglob("*")}
    assert ids(project).keys() == shown.keys()
    files = {name: path.read_text() for name, path in shown.items() if path.is_file()}
    assert {name: before[content] for name, content in files.items()} == {
        name: ids(project)[name] for name in files
    }


def move_at_random(project: MountedProject, chance: random.Random, names: str) -> None:
    """Exchange two entries, or give one another name or folder; what can't be is left."""
    paths = sorted(project.path.rglob("*"))
    one, other = chance.sample(paths, 2)
    folder = chance.choice([project.path, *(path for path in paths if path.is_dir())])
    with suppress(OSError):  # into itself
        if chance.random() < 0.35:
            renameat2(one, other, EXCHANGE)
        else:
            renameat2(one, folder / chance.choice(names), NOREPLACE)


def test_two_names_with_long_paths_are_swapped(project: MountedProject) -> None:
    """The name that one of them has for a moment is not too long for Procore."""
    folder = "/".join(["f" * 60] * 3 + ["g" * 64])
    (project.path / folder).mkdir(parents=True)
    one, other = f"{folder}/aaa.dwg", f"{folder}/bbb.dwg"
    assert len(one) == 255
    write(project, one, other)
    before = ids(project)
    renameat2(project.path / one, project.path / other, EXCHANGE)
    project.sync()
    after = ids(project)
    assert (after[one], after[other]) == (before[other], before[one])


def test_a_file_and_its_folder_are_deleted_once(project: MountedProject) -> None:
    """A document that went with its folder is not deleted again; the sandbox refuses that."""
    for number in range(8):
        (project.path / f"folder {number}").mkdir()
        write(project, *(f"folder {number}/{name}" for name in "abc"))
    project.sandbox.faults(rules=[{"kind": "latency", "route": "DELETE *", "seconds": 0.3}])
    with project.counted() as calls:
        for number in range(8):
            for name in "abc":
                os.unlink(project.path / f"folder {number}" / name)
        project.sync()
        for number in range(8):
            (project.path / f"folder {number}").rmdir()
        project.sync()
    assert project.folders() == set()
    deleted = sum(count for route, count in calls.by_route.items() if route.startswith("DELETE"))
    assert deleted == 32


def test_a_file_that_is_just_being_deleted_goes_before_its_folder(project: MountedProject) -> None:
    (project.path / "folder").mkdir()
    write(project, "folder/plan.dwg")
    project.sandbox.faults(rules=[{"kind": "latency", "route": DELETE, "seconds": 2.0, "count": 1}])
    project.sandbox.reset_calls()
    (project.path / "folder" / "plan.dwg").unlink()
    wait_until(lambda: DELETE in project.sandbox.calls()["by_route"], "the file's deletion to begin")
    (project.path / "folder").rmdir()
    project.sync()
    assert project.folders() == set()
    calls = project.sandbox.calls()
    assert {route: count for route, count in calls["by_route"].items() if route.startswith("DELETE")} == {
        DELETE: 1,
        "DELETE /rest/v1.0/folders/{id}": 1,
    }
    assert "404" not in calls["api_statuses"]
