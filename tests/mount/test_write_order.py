"""Names that are exchanged, folders that change places, removals beside other changes: which call goes first."""

import os
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.support.mounting import wait_until
from tests.support.writing import EXCHANGE, NOREPLACE, Desk, renameat2

MOVE = "PATCH /rest/v1.0/folders/{id}"
DELETE = "DELETE /rest/v1.0/files/{id}"


@pytest.fixture
def desk(write_desk: Callable[..., Desk]) -> Desk:
    return write_desk("write_back=0,freshness=3600")


def ids(desk: Desk) -> dict[str, int]:
    inventory = desk.sandbox.inventory()
    return {path[1:]: number for path, number in inventory["folders"].items()} | {
        path[1:]: file["id"] for path, file in inventory["files"].items()
    }


def write(desk: Desk, *names: str) -> None:
    for name in names:
        (desk.path / name).write_text(name)
    desk.sync()


def delay_first_move(desk: Desk) -> None:
    """What does not wait for it comes before it."""
    desk.sandbox.faults(rules=[{"kind": "latency", "route": MOVE, "seconds": 1.0, "count": 1}])


def test_a_document_that_another_was_renamed_over_is_removed(desk: Desk) -> None:
    """Nobody else was there: its newest version is the one that was there when it was replaced."""
    write(desk, "a", "b")
    (desk.path / "b").rename(desk.path / "a")
    (desk.path / "a").unlink()
    desk.sync()
    assert (desk.files(), list(desk.path.iterdir())) == ({}, [])


def test_a_document_that_went_through_several_names_is_removed(desk: Desk) -> None:
    write(desk, "a", "b", "c")
    (desk.path / "b").rename(desk.path / "a")
    (desk.path / "c").rename(desk.path / "b")
    renameat2(desk.path / "a", desk.path / "b", EXCHANGE)
    (desk.path / "a").rename(desk.path / "b")
    (desk.path / "b").unlink()
    desk.sync()
    assert (desk.files(), list(desk.path.iterdir())) == ({}, [])


def test_a_folder_changes_places_with_the_one_it_is_in(desk: Desk) -> None:
    (desk.path / "a" / "b").mkdir(parents=True)
    write(desk, "a/in a", "a/b/in b")
    before = ids(desk)
    with desk.counted() as calls:
        delay_first_move(desk)
        (desk.path / "a" / "b").rename(desk.path / "b")
        (desk.path / "a").rename(desk.path / "b" / "a")
        desk.sync()
    assert calls.by_route[MOVE] == 2
    assert ids(desk) == {
        "b": before["a/b"],
        "b/in b": before["a/b/in b"],
        "b/a": before["a"],
        "b/a/in a": before["a/in a"],
    }


def test_a_chain_of_folders_is_turned_around(desk: Desk) -> None:
    (desk.path / "a" / "b" / "c").mkdir(parents=True)
    desk.sync()
    before = ids(desk)
    with desk.counted() as calls:
        delay_first_move(desk)
        (desk.path / "a" / "b" / "c").rename(desk.path / "c")
        (desk.path / "a" / "b").rename(desk.path / "c" / "b")
        (desk.path / "a").rename(desk.path / "c" / "b" / "a")
        desk.sync()
    assert calls.by_route[MOVE] == 3
    assert ids(desk) == {"c": before["a/b/c"], "c/b": before["a/b"], "c/b/a": before["a"]}


@pytest.mark.parametrize("is_case_told", [True, False])
def test_a_ring_of_names(desk: Desk, *, is_case_told: bool) -> None:
    desk.sandbox.faults(dialect={"case_sensitive_names": is_case_told})
    write(desk, "a", "b", "c")
    before = ids(desk)
    (desk.path / "a").rename(desk.path / "aside")
    (desk.path / "c").rename(desk.path / "A" if not is_case_told else desk.path / "a")
    (desk.path / "b").rename(desk.path / "C" if not is_case_told else desk.path / "c")
    (desk.path / "aside").rename(desk.path / "B" if not is_case_told else desk.path / "b")
    with desk.counted() as calls:
        desk.sync()
    assert {name.lower(): number for name, number in ids(desk).items()} == {
        "a": before["c"],
        "b": before["a"],
        "c": before["b"],
    }
    assert calls.total <= 20


def test_two_names_are_swapped_in_other_case(desk: Desk) -> None:
    """One of the calls is refused, and when it is asked who has the name, nobody has it any more."""
    desk.sandbox.faults(dialect={"case_sensitive_names": False})
    write(desk, "a", "b")
    before = ids(desk)
    (desk.path / "a").rename(desk.path / "aside")
    (desk.path / "b").rename(desk.path / "A")
    (desk.path / "aside").rename(desk.path / "B")
    with desk.counted() as calls:
        desk.sync()
    assert ids(desk) == {"A": before["b"], "B": before["a"]}
    assert calls.total <= 12


@pytest.mark.parametrize("is_case_told", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_moves_and_exchanges_at_random(desk: Desk, seed: int, *, is_case_told: bool) -> None:
    """Whatever the kernel lets happen ends in Procore as it is here, with the ids that it had, in few calls."""
    desk.sandbox.faults(dialect={"case_sensitive_names": is_case_told})
    for folder in ("a/c/e", "b/d"):
        (desk.path / folder).mkdir(parents=True)
    write(desk, "a/1", "b/2", "a/c/3", "a/c/e/4", "5", "6")
    before = ids(desk)
    chance = random.Random(seed)
    for _ in range(2):
        for _ in range(chance.randint(3, 12)):
            move_at_random(desk, chance, "abcde123456x")
        with desk.counted() as calls:
            desk.sync()
        assert calls.total <= 100
    assert sorted(ids(desk).values()) == sorted(before.values())
    shown = {str(path.relative_to(desk.path)): path for path in desk.path.rglob("*")}
    assert ids(desk).keys() == shown.keys()
    files = {name: path.read_text() for name, path in shown.items() if path.is_file()}
    assert {name: before[content] for name, content in files.items()} == {
        name: ids(desk)[name] for name in files
    }


def move_at_random(desk: Desk, chance: random.Random, names: str) -> None:
    """Exchange two entries, or give one another name or folder; what can't be is left."""
    paths = sorted(desk.path.rglob("*"))
    one, other = chance.sample(paths, 2)
    folder = chance.choice([desk.path, *(path for path in paths if path.is_dir())])
    with suppress(OSError):  # into itself
        if chance.random() < 0.35:
            renameat2(one, other, EXCHANGE)
        else:
            renameat2(one, folder / chance.choice(names), NOREPLACE)


def test_two_names_with_long_paths_are_swapped(desk: Desk) -> None:
    """The name that one of them has for a moment is not too long for Procore."""
    folder = "/".join(["f" * 60] * 3 + ["g" * 64])
    (desk.path / folder).mkdir(parents=True)
    one, other = f"{folder}/aaa.dwg", f"{folder}/bbb.dwg"
    assert len(one) == 255
    write(desk, one, other)
    before = ids(desk)
    renameat2(desk.path / one, desk.path / other, EXCHANGE)
    desk.sync()
    after = ids(desk)
    assert (after[one], after[other]) == (before[other], before[one])


def test_a_file_and_its_folder_are_deleted_once(desk: Desk) -> None:
    """A document that went with its folder is not deleted again; the sandbox refuses that."""
    for number in range(8):
        (desk.path / f"folder {number}").mkdir()
        write(desk, *(f"folder {number}/{name}" for name in "abc"))
    desk.sandbox.faults(rules=[{"kind": "latency", "route": "DELETE *", "seconds": 0.3}])
    with desk.counted() as calls:
        for number in range(8):
            for name in "abc":
                os.unlink(desk.path / f"folder {number}" / name)
        desk.sync()
        for number in range(8):
            (desk.path / f"folder {number}").rmdir()
        desk.sync()
    assert desk.folders() == set()
    deleted = sum(count for route, count in calls.by_route.items() if route.startswith("DELETE"))
    assert deleted == 32


def test_a_file_that_is_just_being_deleted_goes_before_its_folder(desk: Desk) -> None:
    (desk.path / "folder").mkdir()
    write(desk, "folder/plan.dwg")
    desk.sandbox.faults(rules=[{"kind": "latency", "route": DELETE, "seconds": 2.0, "count": 1}])
    desk.sandbox.reset_calls()
    (desk.path / "folder" / "plan.dwg").unlink()
    wait_until(lambda: DELETE in desk.sandbox.calls()["by_route"], "the file's deletion to begin")
    (desk.path / "folder").rmdir()
    desk.sync()
    assert desk.folders() == set()
    calls = desk.sandbox.calls()
    assert {route: count for route, count in calls["by_route"].items() if route.startswith("DELETE")} == {
        DELETE: 1,
        "DELETE /rest/v1.0/folders/{id}": 1,
    }
    assert "404" not in calls["api_statuses"]
