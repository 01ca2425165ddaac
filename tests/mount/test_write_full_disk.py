"""A full disk under the staging area: programs are told, and nothing that was written is lost."""

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import Home, wait_until
from tests.support.writing import MountedProject, errno_name, sha256


@pytest.fixture
def small_disk(home: Home) -> Iterator[Path]:
    """The state directory lies on a disk of 24 MiB."""
    state = Path(home.environment["XDG_STATE_HOME"])
    state.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", state)
    yield state
    subprocess.run(["umount", "--lazy", state], check=True)


def test_the_disk_of_the_staging_area_is_full(
    small_disk: Path, mount_project: Callable[..., MountedProject]
) -> None:
    """Whoever writes is told; what was closed before arrives; and there is room again afterwards."""
    project = mount_project("write_back=600")
    project.mounted.expect_warning("disk|room|full")
    written = 0
    while (
        told := errno_name(partial((project.path / f"{written}.bin").write_bytes, os.urandom(4 << 20)))
    ) == "":
        written += 1
    assert told == "ENOSPC"
    assert 2 <= written < 6
    (project.path / f"{written}.bin").unlink()
    project.sync()
    assert {file.sizes[0] for file in project.files().values()} == {4 << 20}
    assert len(project.files()) == written
    (project.path / "after.bin").write_bytes(b"there is room again")
    project.sync()
    project.assert_saved("after.bin", None, b"there is room again")


def fill_up(disk: Path) -> Path:
    """To the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while errno_name(lambda: file.write(bytes(1024))) == "":
            pass
    return filler


def test_closes_that_a_full_disk_refuses_leave_nothing_pending(
    small_disk: Path, mount_project: Callable[..., MountedProject]
) -> None:
    """The programs were told so; when there is room again, what they wrote goes nevertheless."""
    project = mount_project("write_back=0")
    project.mounted.expect_warning("disk|room|full|can't be|space")
    files = {project.path / f"{number}.dwg": b"plan %d" % number for number in range(40)}
    handles = []
    for path, content in files.items():
        handles.append(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.write(handles[-1], content)
    filler = fill_up(small_disk)
    refused = [errno_name(partial(os.close, handle)) for handle in handles]
    assert refused.count("ENOSPC") > 10
    descriptors = Path(f"/proc/{project.mounted.pid}/fd")
    before = len(os.listdir(descriptors))
    for number in range(20):
        errno_name(partial((project.path / f"late {number}.dwg").touch))
    wait_until(lambda: len(os.listdir(descriptors)) <= before + 5, "files that were not made to be closed")
    filler.unlink()
    project.sync()
    wait_until(lambda: project.mounted.status()["outbox"]["pending"] == 0, "all of it to arrive")
    assert {project.path / name for name in project.files()} >= set(files)
    for path, content in files.items():
        assert project.file(path.name).sha256 == sha256(content)


def test_a_full_disk_fills_no_log_and_names_what_it_refused(
    small_disk: Path, mount_project: Callable[..., MountedProject]
) -> None:
    project = mount_project("write_back=600")
    project.mounted.expect_warning("disk|room|full|can't be|space")
    removed = os.open(project.path / "removed.dwg", os.O_CREAT | os.O_WRONLY)
    (project.path / "removed.dwg").unlink()
    filler = fill_up(small_disk)
    told = [errno_name(partial(os.pwrite, removed, bytes(8192), 8192 * number)) for number in range(50)]
    assert told.count("ENOSPC") > 40
    os.close(removed)
    lines = [line for line in project.mounted.log.splitlines() if "of removed.dwg (deleted)" in line]
    assert len(lines) == 1, "\n".join(lines)
    assert "the root" not in project.mounted.log
    filler.unlink()


def test_not_even_the_journal_has_room(
    small_disk: Path, mount_project: Callable[..., MountedProject]
) -> None:
    """Somebody else fills the disk to the last byte: changes are refused, the mount lives, nothing closed is lost."""
    project = mount_project("write_back=600")
    project.mounted.expect_warning("disk|room|full|can't be")
    (project.path / "closed.dwg").write_bytes(b"closed")
    (project.path / "other.dwg").write_bytes(b"other")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while errno_name(lambda: file.write(bytes(1024))) == "":
            pass
    names = (project.path / "closed.dwg", project.path / "renamed.dwg")
    told = set()
    for turn in range(40):  # the pages that the database's log has already hold some
        told.add(errno_name((project.path / f"folder {turn}").mkdir))
        old, new = names if names[0].exists() else reversed(names)
        told.add(errno_name(partial(old.rename, new)))
    assert told in ({"", "ENOSPC"}, {"ENOSPC"}, {"", "EIO"}, {"EIO"}, {"", "EIO", "ENOSPC"})
    wait_until(lambda: project.mounted.status()["pid"] == project.mounted.pid, "the daemon to answer")
    filler.unlink()
    name = "closed.dwg" if (project.path / "closed.dwg").exists() else "renamed.dwg"
    project.sync()
    project.assert_saved(name, None, b"closed")
    project.assert_saved("other.dwg", None, b"other")
