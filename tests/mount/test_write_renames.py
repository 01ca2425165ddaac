"""Renaming, removing and names that stay here: what programs see at once, and what it costs in Procore."""

import os
import shutil
from collections.abc import Callable

import pytest

from procorefs.locks.office_locks import Program, content_for
from tests.support.sandbox import SandboxHandle
from tests.support.writing import EXCHANGE, NOREPLACE, Desk, InProcore, errno_name, renameat2, run, sha256


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
def desk(write_desk: Callable[..., Desk]) -> Desk:
    desk = write_desk("freshness=3600", prepare=fill)
    run("find", desk.path)
    return desk


def ids(desk: Desk) -> dict[str, int]:
    inventory = desk.sandbox.inventory()
    return {path[1:]: i for path, i in inventory["folders"].items()} | {
        path[1:]: file["id"] for path, file in inventory["files"].items()
    }


def test_moves_are_one_call_and_keep_ids(desk: Desk) -> None:
    """Of a file, into another folder, of a folder, of a folder with what is in it; with inodes and bytes."""
    for old, new in (
        ("top.txt", "renamed.txt"),
        ("renamed.txt", "b/top.txt"),
        ("empty", "still empty"),
        ("a", "moved"),
        ("moved/deep", "b/deeper"),
        ("b/deeper", "a"),
    ):
        before, inode = ids(desk), (desk.path / old).stat().st_ino
        with desk.counted() as calls:
            (desk.path / old).rename(desk.path / new)
            assert not (desk.path / old).exists()
            assert (desk.path / new).stat().st_ino == inode
            desk.sync()
        assert calls.total == 1, (old, new, calls.by_route)
        moved = {
            (new + path.removeprefix(old) if path == old or path.startswith(f"{old}/") else path): number
            for path, number in before.items()
        }
        assert ids(desk) == moved
        assert (desk.path / new).stat().st_ino == inode
    for path, file in desk.files().items():
        assert sha256((desk.path / path).read_bytes()) == file.sha256
        assert file.numbers == [1]


def test_ten_renames_are_one(desk: Desk) -> None:
    before = ids(desk)["top.txt"]
    with desk.counted() as calls:
        for number in range(9):
            (desk.path / ("top.txt" if not number else f"{number - 1}.txt")).rename(
                desk.path / f"{number}.txt"
            )
        (desk.path / "8.txt").rename(desk.path / "b" / "last.txt")
        desk.sync()
    assert calls.total == 1, calls.by_route
    assert ids(desk)["b/last.txt"] == before


def test_there_and_back_is_none(desk: Desk) -> None:
    before = ids(desk)
    with desk.counted() as calls:
        (desk.path / "a").rename(desk.path / "away")
        (desk.path / "away" / "one.txt").rename(desk.path / "one.txt")
        (desk.path / "away").rename(desk.path / "a")
        (desk.path / "one.txt").rename(desk.path / "a" / "one.txt")
        desk.sync()
    assert calls.total == 0, calls.by_route
    assert ids(desk) == before


def test_onto_a_file_is_a_version_of_it(desk: Desk) -> None:
    """Its id stays, the other document goes; the bytes come from Procore, since nobody had them here."""
    before, other = desk.file("top.txt"), desk.file("other.txt")
    (desk.path / "other.txt").rename(desk.path / "top.txt")
    assert (desk.path / "top.txt").read_bytes() == b"/other.txt"
    desk.sync()
    desk.assert_saved("top.txt", before, b"/other.txt")
    assert other.id not in ids(desk).values()
    assert desk.binned() == ["other.txt"]


def test_whoever_is_inside_of_what_was_replaced_reads_on(desk: Desk) -> None:
    with (desk.path / "top.txt").open("rb") as old:
        (desk.path / "other.txt").rename(desk.path / "top.txt")
        desk.sync()
        assert old.read() == b"/top.txt"
        assert os.fstat(old.fileno()).st_nlink == 0
    assert (desk.path / "top.txt").read_bytes() == b"/other.txt"


def test_folders_onto_folders(desk: Desk) -> None:
    before = ids(desk)
    assert errno_name(lambda: (desk.path / "a").rename(desk.path / "b")) == "ENOTEMPTY"
    assert errno_name(lambda: (desk.path / "a").rename(desk.path / "a" / "deep" / "a")) == "EINVAL"
    assert errno_name(lambda: (desk.path / "a").rename(desk.path / "top.txt")) == "ENOTDIR"
    assert errno_name(lambda: (desk.path / "top.txt").rename(desk.path / "empty")) == "EISDIR"
    with desk.counted() as calls:
        desk.sync()
    assert calls.total == 0
    assert ids(desk) == before
    (desk.path / "a").rename(desk.path / "empty")
    assert set(os.listdir(desk.path / "empty")) == {"one.txt", "two.txt", "deep"}
    desk.sync()
    assert ids(desk)["empty/one.txt"] == before["a/one.txt"]
    assert ids(desk)["empty"] == before["a"]
    assert desk.binned() == ["empty"]


def test_names_are_swapped(desk: Desk) -> None:
    """By way of a third name; no version is made, and the documents keep their ids."""
    before = ids(desk)
    (desk.path / "top.txt").rename(desk.path / "third.txt")
    (desk.path / "other.txt").rename(desk.path / "top.txt")
    (desk.path / "third.txt").rename(desk.path / "other.txt")
    (desk.path / "a").rename(desk.path / "third")
    (desk.path / "b").rename(desk.path / "a")
    (desk.path / "third").rename(desk.path / "b")
    desk.sync()
    after = ids(desk)
    assert (after["top.txt"], after["other.txt"]) == (before["other.txt"], before["top.txt"])
    assert (after["a"], after["b"]) == (before["b"], before["a"])
    assert (desk.path / "top.txt").read_bytes() == b"/other.txt"
    assert (desk.path / "other.txt").read_bytes() == b"/top.txt"
    assert all(file.numbers == [1] for file in desk.files().values())
    assert (desk.path / "b" / "deep" / "three.txt").read_bytes() == b"/a/deep/three.txt"
    assert desk.binned() == []


def test_renameat2(desk: Desk) -> None:
    before = ids(desk)
    top, other = desk.path / "top.txt", desk.path / "other.txt"
    assert errno_name(lambda: renameat2(top, other, NOREPLACE)) == "EEXIST"
    renameat2(top, desk.path / "fresh.txt", NOREPLACE)
    renameat2(desk.path / "fresh.txt", other, EXCHANGE)
    assert (desk.path / "fresh.txt").read_bytes() == b"/other.txt"
    assert other.read_bytes() == b"/top.txt"
    assert errno_name(lambda: renameat2(desk.path / "missing", other, EXCHANGE)) == "ENOENT"
    assert errno_name(lambda: renameat2(desk.path / "a", desk.path / "a" / "deep", EXCHANGE)) == "EINVAL"
    renameat2(desk.path / "a", other, EXCHANGE)
    assert (desk.path / "other.txt" / "one.txt").read_bytes() == b"/a/one.txt"
    desk.sync()
    after = ids(desk)
    assert after["fresh.txt"] == before["other.txt"]
    assert after["a"] == before["top.txt"]
    assert after["other.txt"] == before["a"]
    assert after["other.txt/one.txt"] == before["a/one.txt"]


# What costs nothing


def test_what_comes_and_goes_costs_nothing(desk: Desk) -> None:
    with desk.counted() as calls:
        (desk.path / "fresh.txt").write_bytes(b"x" * 5000)
        (desk.path / "fresh.txt").rename(desk.path / "b" / "fresh.txt")
        (desk.path / "b" / "fresh.txt").unlink()
        (desk.path / "~WRD0001.tmp").write_bytes(b"x")
        (desk.path / "~WRD0001.tmp").unlink()
        desk.sync()
    assert calls.total == 0, calls.by_route
    desk.await_nothing_staged()


def test_a_folder_that_comes_and_goes_costs_nothing(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=60,freshness=3600")
    with desk.counted() as calls:
        for _ in range(5):
            (desk.path / "folder").mkdir()
            (desk.path / "folder" / "file.txt").write_bytes(b"x")
            shutil.rmtree(desk.path / "folder")
        desk.sync()
    assert desk.folders() == set()
    assert calls.total == 0, calls.by_route


def test_temporary_names_are_held(desk: Desk) -> None:
    """They stay here, are said to be held, survive a remount, and go when they get a name of their own."""
    names = [".plan.dwg.x4Kp2Q", "plan.dwg.part", ".goutputstream-X7A2B3", "lu12ab3c.tmp", "tmpk3j2_h1x"]
    for name in names:
        (desk.path / name).write_bytes(name.encode())
    (desk.path / ".~tmp~").mkdir()
    (desk.path / ".~tmp~" / "inside.txt").write_bytes(b"inside")
    with desk.counted() as calls:
        left = desk.settle()
    assert {item.path: item.state for item in left} == dict.fromkeys(
        [*names, ".~tmp~", ".~tmp~/inside.txt"], "held"
    )
    assert calls.total == 0
    status = desk.mounted.status()["outbox"]
    assert status["held"] == len(left)
    assert {item["path"] for item in status["held_items"]} == {item.path for item in left}
    answer = desk.mounted.home.procorefs("sync", desk.path)
    assert answer.returncode == 0
    assert "plan.dwg.part (13 bytes) stays on this machine" in answer.stderr

    assert "plan.dwg.part (13 bytes) stays on this machine" in desk.mounted.unmount()
    desk.mount_again()
    assert (desk.path / "plan.dwg.part").read_bytes() == b"plan.dwg.part"
    (desk.path / "plan.dwg.part").rename(desk.path / "plan.dwg")
    (desk.path / ".~tmp~" / "inside.txt").rename(desk.path / "inside.txt")
    for name in names:
        (desk.path / name).unlink(missing_ok=True)
    (desk.path / ".~tmp~").rmdir()
    desk.sync()
    assert desk.file("plan.dwg").sha256 == sha256(b"plan.dwg.part")
    assert desk.file("inside.txt").sha256 == sha256(b"inside")
    assert not [path for path in desk.files() if path.endswith((".part", ".tmp"))]


def test_junk_stays_here_while_mounted(desk: Desk) -> None:
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
        (desk.path / name).write_bytes(data)
    (desk.path / ".Trash-1000").mkdir()
    (desk.path / ".Trash-1000" / "._plan.dwg").write_bytes(names["._plan.dwg"])
    with desk.counted() as calls:
        desk.sync()
    assert calls.total == 0
    assert (desk.path / "._plan.dwg").read_bytes() == names["._plan.dwg"]
    desk.remount()
    assert not set(os.listdir(desk.path)) & {*names, ".Trash-1000"}
    assert not desk.staged()


def test_junk_is_kept_when_told_so(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("junk=keep")
    (desk.path / "desktop.ini").write_bytes(b"[x]")
    desk.sync()
    assert set(desk.files()) == {"desktop.ini"}


# Removing


def test_a_tree_is_one_listing_and_one_delete(desk: Desk) -> None:
    with desk.counted() as calls:
        shutil.rmtree(desk.path / "a")
        assert not (desk.path / "a").exists()
        desk.sync()
    assert calls.writes == 1, calls.by_route
    assert calls.reads <= 1, calls.by_route
    assert desk.binned() == ["a"]
    assert not any(path.startswith("a/") for path in desk.files())


def test_a_tree_that_was_made_here_as_well(desk: Desk) -> None:
    run("cp", "-r", desk.path / "a", desk.path / "copy")
    desk.sync()
    with desk.counted() as calls:
        run("rm", "-r", desk.path / "copy")
        desk.sync()
    assert calls.writes == 1, calls.by_route
    assert calls.reads <= 1, calls.by_route


def test_a_folder_that_holds_something_is_not_removed(desk: Desk) -> None:
    before: dict[str, InProcore] = desk.files()
    assert errno_name(lambda: (desk.path / "a").rmdir()) == "ENOTEMPTY"
    assert errno_name(lambda: (desk.path / "a").unlink()) == "EISDIR"
    assert errno_name(lambda: (desk.path / "top.txt").rmdir()) == "ENOTDIR"
    desk.sync()
    assert desk.files() == before


def test_what_a_colleague_put_into_a_removed_folder_survives(desk: Desk) -> None:
    desk.sandbox.act("put", path="/a/theirs.txt", text="theirs")
    shutil.rmtree(desk.path / "a")
    desk.mounted.expect_warning("a was refused: it was not deleted: it contains .*'theirs.txt'")
    left = desk.settle()
    assert [item.path for item in left if item.state == "failed"] == ["a"]
    assert "theirs.txt" in left[0].reason
    assert "a/theirs.txt" in desk.files()
    assert (desk.path / "a" / "theirs.txt").read_bytes() == b"theirs"
