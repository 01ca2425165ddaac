"""What stays here and what does not: by name and content, named and counted by `status`, `sync` and `umount`."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.writing import Desk, errno_name, sha256

REAL = b"PK\3\4" + b"somebody's work" * 50
APPLE = b"\0\5\x16\7".ljust(4096, b"\0")


@pytest.fixture
def desk(write_desk: Callable[..., Desk]) -> Desk:
    return write_desk("write_back=0.2")


def test_files_with_content_of_their_own_go_to_procore(desk: Desk) -> None:
    names = ["~$budget.xlsx", "macro.swp", "._survey.jpg", "desktop.ini"]
    (desk.path / "old.swp").mkdir()
    for name in [*names, "old.swp/plan.dwg"]:
        (desk.path / name).write_bytes(REAL)
    desk.sync()
    assert set(desk.files()) == {*names, "old.swp/plan.dwg"}
    assert {file.sha256 for file in desk.files().values()} == {sha256(REAL)}
    assert desk.mounted.status()["outbox"]["local"]["count"] == 0


def test_what_stays_is_named_and_counted_and_there_again(desk: Desk) -> None:
    (desk.path / "__MACOSX").mkdir()
    (desk.path / "__MACOSX" / "a: b.dwg").write_bytes(REAL)
    (desk.path / "__MACOSX" / "._plan.dwg").write_bytes(APPLE)
    (desk.path / "._a: b.txt").write_bytes(APPLE)
    (desk.path / ".plan.dwg.x4Kp2Q").write_bytes(b"half")
    with desk.counted() as calls:
        answer = desk.mounted.home.procorefs("sync", desk.path)
    assert (answer.returncode, calls.total) == (0, 0)
    kept, held = desk.path / "__MACOSX" / "a: b.dwg", desk.path / ".plan.dwg.x4Kp2Q"
    for path, words in ((kept, "it lies in '__MACOSX'"), (held, "an interrupted copy leaves one")):
        assert [line for line in answer.stderr.splitlines() if str(path) in line and words in line]
    assert len(answer.stderr.splitlines()) == 2
    outbox = desk.mounted.status()["outbox"]
    assert [item["path"] for item in outbox["local"]["items"]] == ["__MACOSX/a: b.dwg"]
    assert (outbox["local"]["count"], outbox["local"]["bytes"], outbox["local"]["junk"]) == (1, len(REAL), 2)
    assert (outbox["held"], outbox["failed"], outbox["pending"]) == (1, 0, 0)
    assert os.getxattr(kept, "user.procore.state") == b"local"

    answer = desk.mounted.home.procorefs("umount", desk.path)
    assert answer.returncode == 0
    assert "__MACOSX/a: b.dwg" in answer.stderr
    assert ".plan.dwg.x4Kp2Q" in answer.stderr
    desk.mount_again()
    assert kept.read_bytes() == REAL
    assert held.read_bytes() == b"half"
    assert os.listdir(desk.path / "__MACOSX") == ["a: b.dwg"]
    kept.rename(desk.path / "b.dwg")
    held.unlink()
    (desk.path / "__MACOSX").rmdir()
    desk.sync()
    assert set(desk.files()) == {"b.dwg"}


def test_content_under_a_name_that_procore_does_not_take_is_a_failure(desk: Desk) -> None:
    """Only when the file was closed it turned out to be no junk: the program was told that it is written."""
    (desk.path / "~$a?.xlsx").write_bytes(REAL)
    desk.mounted.expect_warning("was refused: its name has a character")
    (left,) = desk.settle()
    assert (left.path, left.state) == ("~$a?.xlsx", "failed")
    assert "'?', U+003F" in left.reason
    assert desk.mounted.home.procorefs("sync", desk.path).returncode == 1
    (desk.path / "~$a?.xlsx").rename(desk.path / "a.xlsx")
    desk.sync()
    assert desk.file("a.xlsx").sha256 == sha256(REAL)


def test_a_folder_that_goes_to_the_trash_takes_its_unsent_files_along(
    write_desk: Callable[..., Desk],
) -> None:
    desk = write_desk("write_back=60")
    (desk.path / "box").mkdir()
    (desk.path / "box" / "plan.dwg").write_bytes(REAL)
    (desk.path / ".Trash-1000").mkdir()
    (desk.path / "box").rename(desk.path / ".Trash-1000" / "box")
    (left,) = desk.settle()
    assert (left.path, left.state) == (".Trash-1000/box/plan.dwg", "local")
    assert desk.mounted.status()["outbox"]["pending"] == 0
    (desk.path / ".Trash-1000" / "box").rename(desk.path / "box")
    desk.sync()
    assert desk.file("box/plan.dwg").sha256 == sha256(REAL)
    (desk.path / ".Trash-1000").rmdir()


def test_a_folder_that_is_not_sent_yet_takes_no_document_along(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=60")
    desk.mounted.expect_warning("is tried again in")
    plan = desk.path / "plan.dwg"
    plan.write_bytes(b"the plan")
    desk.sync()
    desk.sandbox.faults(rules=[{"kind": "error", "route": "POST /rest/v1.0/folders", "status": 503}])
    (desk.path / "box").mkdir()
    plan.rename(desk.path / "box" / "plan.dwg")
    (desk.path / "box" / "plan.dwg").write_bytes(b"newer")
    (desk.path / ".Trash-1000").mkdir()
    for place in (".Trash-1000/box", "__MACOSX"):
        assert errno_name(partial((desk.path / "box").rename, desk.path / place)) == "EACCES"
    desk.sandbox.faults(clear=True)
    desk.sync()
    assert desk.file("box/plan.dwg").numbers == [2, 1]
    assert desk.file("box/plan.dwg").sha256 == sha256(b"newer")


def test_what_junk_keep_promised_outlives_a_kill(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("junk=keep,write_back=60")
    (desk.path / "desktop.ini").write_bytes(b"[.ShellClassInfo]\r\n")
    (desk.path / "macro.swp").write_bytes(REAL)
    desk.mounted.kill()
    desk.mount_again("junk=skip")
    assert (desk.path / "desktop.ini").read_bytes() == b"[.ShellClassInfo]\r\n"
    desk.sync()
    assert set(desk.files()) == {"macro.swp"}
    assert desk.mounted.status()["outbox"]["local"]["junk"] == 1


@pytest.mark.parametrize(
    "name", ["._a: b.txt", "._Icon\r", ".~lock.a:b.odt#", "Icon\r", ".#a|b", ".plan: a.dwg.x4Kp2Q"]
)
def test_check_and_the_copy_agree(desk: Desk, tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / name).touch()
    assert desk.mounted.home.procorefs("check", source).returncode == 0
    assert errno_name(lambda: (desk.path / name).touch()) == ""
    (desk.path / name).unlink()
    if not name.startswith(".plan"):
        (source / name).write_bytes(REAL)
        assert desk.mounted.home.procorefs("check", source).returncode == 1
