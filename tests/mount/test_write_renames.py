"""Renaming, removing and names that stay here: what programs see at once, and what it costs in Procore."""

import os
import shutil
from collections.abc import Callable

import pytest

from procorefs.locks.office_locks import Program, content_for
from tests.support.environment import run
from tests.support.mounting import wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import (
    EXCHANGE,
    NOREPLACE,
    InProcore,
    MountedProject,
    errno_name,
    renameat2,
    sha256,
)


def fill(sandbox: SandboxHandle) -> None:
    """Files and folders of somebody else."""
    for path in ("/a/one.txt", "/a/two.txt", "/a/deep/three.txt", "/b/four.txt", "/top.txt", "/other.txt"):
        folder = os.path.dirname(path)
        above = ""
        for part in folder.split("/")[1:]:
            if f"{above}/{part}" not in sandbox.inventory()["folders"]:
                sandbox.act("create_folder", path=f"{above}/{part}")
            above += f"/{part}"
        sandbox.act("put", path=path, text=path)
    sandbox.act("create_folder", path="/empty")


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    project = mount_project("freshness=3600", prepare=fill)
    run("find", project.path)
    return project


def ids(project: MountedProject) -> dict[str, int]:
    inventory = project.sandbox.inventory()
    return {path[1:]: i for path, i in inventory["folders"].items()} | {
        path[1:]: file["id"] for path, file in inventory["files"].items()
    }


def test_moves_are_one_call_and_keep_ids(project: MountedProject) -> None:
    """Of a file, into another folder, of a folder, of a folder with what is in it; with inodes and bytes."""
    for old, new in (
        ("top.txt", "renamed.txt"),
        ("renamed.txt", "b/top.txt"),
        ("empty", "still empty"),
        ("a", "moved"),
        ("moved/deep", "b/deeper"),
        ("b/deeper", "a"),
    ):
        before, inode = ids(project), (project.path / old).stat().st_ino
        with project.counted() as calls:
            (project.path / old).rename(project.path / new)
            assert not (project.path / old).exists()
            assert (project.path / new).stat().st_ino == inode
            project.sync()
        assert calls.total == 1, (old, new, calls.by_route)
        moved = {
            (new + path.removeprefix(old) if path == old or path.startswith(f"{old}/") else path): number
            for path, number in before.items()
        }
        assert ids(project) == moved
        assert (project.path / new).stat().st_ino == inode
    for path, file in project.files().items():
        assert sha256((project.path / path).read_bytes()) == file.sha256
        assert file.numbers == [1]


def test_ten_renames_are_one(project: MountedProject) -> None:
    before = ids(project)["top.txt"]
    with project.counted() as calls:
        for number in range(9):
            (project.path / ("top.txt" if not number else f"{number - 1}.txt")).rename(
                project.path / f"{number}.txt"
            )
        (project.path / "8.txt").rename(project.path / "b" / "last.txt")
        project.sync()
    assert calls.total == 1, calls.by_route
    assert ids(project)["b/last.txt"] == before


def test_there_and_back_is_none(project: MountedProject) -> None:
    before = ids(project)
    with project.counted() as calls:
        (project.path / "a").rename(project.path / "away")
        (project.path / "away" / "one.txt").rename(project.path / "one.txt")
        (project.path / "away").rename(project.path / "a")
        (project.path / "one.txt").rename(project.path / "a" / "one.txt")
        project.sync()
    assert calls.total == 0, calls.by_route
    assert ids(project) == before


def test_onto_a_file_is_a_version_of_it(project: MountedProject) -> None:
    """Its id stays, the other document goes; the bytes come from Procore, since nobody had them here."""
    before, other = project.file("top.txt"), project.file("other.txt")
    (project.path / "other.txt").rename(project.path / "top.txt")
    assert (project.path / "top.txt").read_bytes() == b"/other.txt"
    project.sync()
    project.assert_saved("top.txt", before, b"/other.txt")
    assert other.id not in ids(project).values()
    assert project.binned() == ["other.txt"]


def test_whoever_is_inside_of_what_was_replaced_reads_on(project: MountedProject) -> None:
    with (project.path / "top.txt").open("rb") as old:
        (project.path / "other.txt").rename(project.path / "top.txt")
        project.sync()
        assert old.read() == b"/top.txt"
        assert os.fstat(old.fileno()).st_nlink == 0
    assert (project.path / "top.txt").read_bytes() == b"/other.txt"


def test_folders_onto_folders(project: MountedProject) -> None:
    before = ids(project)
    assert errno_name(lambda: (project.path / "a").rename(project.path / "b")) == "ENOTEMPTY"
    assert errno_name(lambda: (project.path / "a").rename(project.path / "a" / "deep" / "a")) == "EINVAL"
    assert errno_name(lambda: (project.path / "a").rename(project.path / "top.txt")) == "ENOTDIR"
    assert errno_name(lambda: (project.path / "top.txt").rename(project.path / "empty")) == "EISDIR"
    with project.counted() as calls:
        project.sync()
    assert calls.total == 0
    assert ids(project) == before
    (project.path / "a").rename(project.path / "empty")
    assert set(os.listdir(project.path / "empty")) == {"one.txt", "two.txt", "deep"}
    project.sync()
    assert ids(project)["empty/one.txt"] == before["a/one.txt"]
    assert ids(project)["empty"] == before["a"]
    assert project.binned() == ["empty"]


def test_names_are_swapped(project: MountedProject) -> None:
    """By way of a third name; no version is made, and the documents keep their ids."""
    before = ids(project)
    (project.path / "top.txt").rename(project.path / "third.txt")
    (project.path / "other.txt").rename(project.path / "top.txt")
    (project.path / "third.txt").rename(project.path / "other.txt")
    (project.path / "a").rename(project.path / "third")
    (project.path / "b").rename(project.path / "a")
    (project.path / "third").rename(project.path / "b")
    project.sync()
    after = ids(project)
    assert (after["top.txt"], after["other.txt"]) == (before["other.txt"], before["top.txt"])
    assert (after["a"], after["b"]) == (before["b"], before["a"])
    assert (project.path / "top.txt").read_bytes() == b"/other.txt"
    assert (project.path / "other.txt").read_bytes() == b"/top.txt"
    assert all(file.numbers == [1] for file in project.files().values())
    assert (project.path / "b" / "deep" / "three.txt").read_bytes() == b"/a/deep/three.txt"
    assert project.binned() == []


def test_renameat2(project: MountedProject) -> None:
    before = ids(project)
    top, other = project.path / "top.txt", project.path / "other.txt"
    assert errno_name(lambda: renameat2(top, other, NOREPLACE)) == "EEXIST"
    renameat2(top, project.path / "fresh.txt", NOREPLACE)
    renameat2(project.path / "fresh.txt", other, EXCHANGE)
    assert (project.path / "fresh.txt").read_bytes() == b"/other.txt"
    assert other.read_bytes() == b"/top.txt"
    assert errno_name(lambda: renameat2(project.path / "missing", other, EXCHANGE)) == "ENOENT"
    assert (
        errno_name(lambda: renameat2(project.path / "a", project.path / "a" / "deep", EXCHANGE)) == "EINVAL"
    )
    renameat2(project.path / "a", other, EXCHANGE)
    assert (project.path / "other.txt" / "one.txt").read_bytes() == b"/a/one.txt"
    project.sync()
    after = ids(project)
    assert after["fresh.txt"] == before["other.txt"]
    assert after["a"] == before["top.txt"]
    assert after["other.txt"] == before["a"]
    assert after["other.txt/one.txt"] == before["a/one.txt"]


# What costs nothing


def test_what_comes_and_goes_costs_nothing(project: MountedProject) -> None:
    with project.counted() as calls:
        (project.path / "fresh.txt").write_bytes(b"x" * 5000)
        (project.path / "fresh.txt").rename(project.path / "b" / "fresh.txt")
        (project.path / "b" / "fresh.txt").unlink()
        (project.path / "~WRD0001.tmp").write_bytes(b"x")
        (project.path / "~WRD0001.tmp").unlink()
        project.sync()
    assert calls.total == 0, calls.by_route
    project.await_nothing_staged()


def test_a_folder_that_comes_and_goes_costs_nothing(
    mount_project: Callable[..., MountedProject],
) -> None:
    project = mount_project("write_back=60,freshness=3600")
    with project.counted() as calls:
        for _ in range(5):
            (project.path / "folder").mkdir()
            (project.path / "folder" / "file.txt").write_bytes(b"x")
            shutil.rmtree(project.path / "folder")
        project.sync()
    assert project.folders() == set()
    assert calls.total == 0, calls.by_route


def test_temporary_names_are_held(project: MountedProject) -> None:
    """They stay here, are said to be held, survive a remount, and go when they get a name of their own."""
    names = [".plan.dwg.x4Kp2Q", "plan.dwg.part", ".goutputstream-X7A2B3", "lu12ab3c.tmp", "tmpk3j2_h1x"]
    for name in names:
        (project.path / name).write_bytes(name.encode())
    (project.path / ".~tmp~").mkdir()
    (project.path / ".~tmp~" / "inside.txt").write_bytes(b"inside")
    with project.counted() as calls:
        left = project.settle()
    assert {item.path: item.state for item in left} == dict.fromkeys(
        [*names, ".~tmp~", ".~tmp~/inside.txt"], "held"
    )
    assert calls.total == 0
    status = project.mounted.status()["outbox"]
    assert status["held"] == len(left)
    assert {item["path"] for item in status["held_items"]} == {item.path for item in left}
    answer = project.mounted.home.procorefs("sync", project.path)
    assert answer.returncode == 0
    assert "plan.dwg.part (13 bytes) stays on this machine" in answer.stderr

    assert "plan.dwg.part (13 bytes) stays on this machine" in project.mounted.unmount()
    project.mount_again()
    assert (project.path / "plan.dwg.part").read_bytes() == b"plan.dwg.part"
    (project.path / "plan.dwg.part").rename(project.path / "plan.dwg")
    (project.path / ".~tmp~" / "inside.txt").rename(project.path / "inside.txt")
    for name in names:
        (project.path / name).unlink(missing_ok=True)
    (project.path / ".~tmp~").rmdir()
    project.sync()
    assert project.file("plan.dwg").sha256 == sha256(b"plan.dwg.part")
    assert project.file("inside.txt").sha256 == sha256(b"inside")
    assert not [path for path in project.files() if path.endswith((".part", ".tmp"))]


def test_junk_stays_here_while_mounted(project: MountedProject) -> None:
    names = {
        ".DS_Store": b"\0\0\0\1Bud1",
        "._plan.dwg": b"\0\5\x16\7\0\2\0\0",
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "desktop.ini": b"[.ShellClassInfo]",
        "~$plan.docx": content_for(Program.WORD, "Jane"),
        ".~lock.plan.odt#": content_for(Program.LIBREOFFICE, "Jane"),
        ".plan.swp": b"b0VIM 9.1",
    }
    for name, data in names.items():
        (project.path / name).write_bytes(data)
    (project.path / ".Trash-1000").mkdir()
    (project.path / ".Trash-1000" / "._plan.dwg").write_bytes(names["._plan.dwg"])
    with project.counted() as calls:
        project.sync()
    assert calls.total == 0
    assert (project.path / "._plan.dwg").read_bytes() == names["._plan.dwg"]
    project.remount()
    assert not set(os.listdir(project.path)) & {*names, ".Trash-1000"}
    wait_until(lambda: not project.staged(), "the files to go, once the journal without them is on disk")


def test_junk_is_kept_when_told_so(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("junk=keep")
    (project.path / "desktop.ini").write_bytes(b"[x]")
    project.sync()
    assert set(project.files()) == {"desktop.ini"}


# Removing


def test_a_tree_is_one_listing_and_one_delete(project: MountedProject) -> None:
    with project.counted() as calls:
        shutil.rmtree(project.path / "a")
        assert not (project.path / "a").exists()
        project.sync()
    assert calls.writes == 1, calls.by_route
    assert calls.reads <= 1, calls.by_route
    assert project.binned() == ["a"]
    assert not any(path.startswith("a/") for path in project.files())


def test_a_tree_that_was_made_here_as_well(project: MountedProject) -> None:
    run("cp", "-r", project.path / "a", project.path / "copy")
    project.sync()
    with project.counted() as calls:
        run("rm", "-r", project.path / "copy")
        project.sync()
    assert calls.writes == 1, calls.by_route
    assert calls.reads <= 1, calls.by_route


def test_a_folder_that_holds_something_is_not_removed(project: MountedProject) -> None:
    before: dict[str, InProcore] = project.files()
    assert errno_name(lambda: (project.path / "a").rmdir()) == "ENOTEMPTY"
    assert errno_name(lambda: (project.path / "a").unlink()) == "EISDIR"
    assert errno_name(lambda: (project.path / "top.txt").rmdir()) == "ENOTDIR"
    project.sync()
    assert project.files() == before


def test_what_a_colleague_put_into_a_removed_folder_survives(project: MountedProject) -> None:
    project.sandbox.act("put", path="/a/theirs.txt", text="theirs")
    shutil.rmtree(project.path / "a")
    project.mounted.expect_warning("a was refused: it was not deleted: it contains .*'theirs.txt'")
    left = project.settle()
    assert [item.path for item in left if item.state == "failed"] == ["a"]
    assert "theirs.txt" in left[0].reason
    assert "a/theirs.txt" in project.files()
    assert (project.path / "a" / "theirs.txt").read_bytes() == b"theirs"
