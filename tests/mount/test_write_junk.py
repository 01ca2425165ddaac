"""What stays here and what does not: by name and content, named and counted by `status`, `sync` and `umount`."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.writing import MountedProject, errno_name, sha256

REAL = b"PK\3\4" + b"somebody's work" * 50
APPLE = b"\0\5\x16\7".ljust(4096, b"\0")


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    return mount_project("write_back=0.2")


def test_files_with_content_of_their_own_go_to_procore(project: MountedProject) -> None:
    names = ["~$budget.xlsx", "macro.swp", "._survey.jpg", "desktop.ini"]
    (project.path / "old.swp").mkdir()
    for name in [*names, "old.swp/plan.dwg"]:
        (project.path / name).write_bytes(REAL)
    project.sync()
    assert set(project.files()) == {*names, "old.swp/plan.dwg"}
    assert {file.sha256 for file in project.files().values()} == {sha256(REAL)}
    assert project.mounted.status()["outbox"]["local"]["count"] == 0


def test_what_stays_is_named_and_counted_and_there_again(project: MountedProject) -> None:
    (project.path / "__MACOSX").mkdir()
    (project.path / "__MACOSX" / "a: b.dwg").write_bytes(REAL)
    (project.path / "__MACOSX" / "._plan.dwg").write_bytes(APPLE)
    (project.path / "._a: b.txt").write_bytes(APPLE)
    (project.path / ".plan.dwg.x4Kp2Q").write_bytes(b"half")
    with project.counted() as calls:
        answer = project.mounted.home.procorefs("sync", project.path)
    assert (answer.returncode, calls.total) == (0, 0)
    kept, held = project.path / "__MACOSX" / "a: b.dwg", project.path / ".plan.dwg.x4Kp2Q"
    for path, words in ((kept, "it lies in '__MACOSX'"), (held, "an interrupted copy leaves one")):
        assert [line for line in answer.stderr.splitlines() if str(path) in line and words in line]
    assert len(answer.stderr.splitlines()) == 2
    outbox = project.mounted.status()["outbox"]
    assert [item["path"] for item in outbox["local"]["items"]] == ["__MACOSX/a: b.dwg"]
    assert (outbox["local"]["count"], outbox["local"]["bytes"], outbox["local"]["junk"]) == (1, len(REAL), 2)
    assert (outbox["held"], outbox["failed"], outbox["pending"]) == (1, 0, 0)
    assert os.getxattr(kept, "user.procore.state") == b"local"

    answer = project.mounted.home.procorefs("umount", project.path)
    assert answer.returncode == 0
    assert "__MACOSX/a: b.dwg" in answer.stderr
    assert ".plan.dwg.x4Kp2Q" in answer.stderr
    project.mount_again()
    assert kept.read_bytes() == REAL
    assert held.read_bytes() == b"half"
    assert os.listdir(project.path / "__MACOSX") == ["a: b.dwg"]
    kept.rename(project.path / "b.dwg")
    held.unlink()
    (project.path / "__MACOSX").rmdir()
    project.sync()
    assert set(project.files()) == {"b.dwg"}


def test_content_under_a_name_that_procore_does_not_take_is_a_failure(project: MountedProject) -> None:
    """Only when the file was closed it turned out to be no junk: the program was told that it is written."""
    (project.path / "~$a?.xlsx").write_bytes(REAL)
    project.mounted.expect_warning("was refused: its name has a character")
    (left,) = project.settle()
    assert (left.path, left.state) == ("~$a?.xlsx", "failed")
    assert "'?', U+003F" in left.reason
    assert project.mounted.home.procorefs("sync", project.path).returncode == 1
    (project.path / "~$a?.xlsx").rename(project.path / "a.xlsx")
    project.sync()
    assert project.file("a.xlsx").sha256 == sha256(REAL)


def test_a_folder_that_goes_to_the_trash_takes_its_unsent_files_along(
    mount_project: Callable[..., MountedProject],
) -> None:
    project = mount_project("write_back=60")
    (project.path / "box").mkdir()
    (project.path / "box" / "plan.dwg").write_bytes(REAL)
    (project.path / ".Trash-1000").mkdir()
    (project.path / "box").rename(project.path / ".Trash-1000" / "box")
    (left,) = project.settle()
    assert (left.path, left.state) == (".Trash-1000/box/plan.dwg", "local")
    assert project.mounted.status()["outbox"]["pending"] == 0
    (project.path / ".Trash-1000" / "box").rename(project.path / "box")
    project.sync()
    assert project.file("box/plan.dwg").sha256 == sha256(REAL)
    (project.path / ".Trash-1000").rmdir()


def test_a_folder_that_is_not_sent_yet_takes_no_document_along(
    mount_project: Callable[..., MountedProject],
) -> None:
    project = mount_project("write_back=60")
    project.mounted.expect_warning("is tried again in")
    plan = project.path / "plan.dwg"
    plan.write_bytes(b"the plan")
    project.sync()
    project.sandbox.faults(rules=[{"kind": "error", "route": "POST /rest/v1.0/folders", "status": 503}])
    (project.path / "box").mkdir()
    plan.rename(project.path / "box" / "plan.dwg")
    (project.path / "box" / "plan.dwg").write_bytes(b"newer")
    (project.path / ".Trash-1000").mkdir()
    for place in (".Trash-1000/box", "__MACOSX"):
        assert errno_name(partial((project.path / "box").rename, project.path / place)) == "EACCES"
    project.sandbox.faults(clear=True)
    project.sync()
    assert project.file("box/plan.dwg").numbers == [2, 1]
    assert project.file("box/plan.dwg").sha256 == sha256(b"newer")


def test_what_junk_keep_promised_outlives_a_kill(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("junk=keep,write_back=60")
    (project.path / "desktop.ini").write_bytes(b"[.ShellClassInfo]\r\n")
    (project.path / "macro.swp").write_bytes(REAL)
    project.mounted.kill()
    project.mount_again("junk=skip")
    assert (project.path / "desktop.ini").read_bytes() == b"[.ShellClassInfo]\r\n"
    project.sync()
    assert set(project.files()) == {"macro.swp"}
    assert project.mounted.status()["outbox"]["local"]["junk"] == 1


@pytest.mark.parametrize(
    "name", ["._a: b.txt", "._Icon\r", ".~lock.a:b.odt#", "Icon\r", ".#a|b", ".plan: a.dwg.x4Kp2Q"]
)
def test_check_and_the_copy_agree(project: MountedProject, tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / name).touch()
    assert project.mounted.home.procorefs("check", source).returncode == 0
    assert errno_name(lambda: (project.path / name).touch()) == ""
    (project.path / name).unlink()
    if not name.startswith(".plan"):
        (source / name).write_bytes(REAL)
        assert project.mounted.home.procorefs("check", source).returncode == 1
