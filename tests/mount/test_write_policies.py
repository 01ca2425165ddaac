"""How a mount was told to write: through, synced remotely, in little room; and how it empties itself."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import Programs, ThreadOf, state_of, wait_until
from tests.support.writing import MountedProject, errno_name, sha256

MIB = 1 << 20


def refuse(project: MountedProject, route: str, status: int = 403, **more: object) -> None:
    project.sandbox.faults(rules=[{"kind": "error", "route": route, "status": status, **more}])


# write_mode=through


def test_through_returns_when_procore_has_it(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_mode=through")
    (project.path / "folder").mkdir()
    assert project.folders() == {"folder"}
    (project.path / "folder" / "a.txt").write_bytes(b"one")
    assert project.file("folder/a.txt").sizes == [3]
    (project.path / "folder" / "a.txt").rename(project.path / "b.txt")
    assert set(project.files()) == {"b.txt"}
    os.truncate(project.path / "b.txt", 1)
    assert project.file("b.txt").sizes == [1, 3]
    (project.path / "b.txt").unlink()
    (project.path / "folder").rmdir()
    assert (project.files(), project.folders()) == ({}, set())
    assert project.waiting() == []


def test_through_hands_errors_on(mount_project: Callable[..., MountedProject]) -> None:
    """To close, rename, mkdir and unlink; the tree shows what Procore has where nothing would be lost by it."""
    project = mount_project("write_mode=through")
    (project.path / "a.txt").write_bytes(b"one")
    (project.path / "folder").mkdir()
    project.mounted.expect_warning("refused|Procore does not permit it")
    refuse(project, "P* */f*")
    refuse(project, "DELETE *")
    handle = os.open(project.path / "a.txt", os.O_WRONLY | os.O_APPEND)
    os.write(handle, b" and two")
    assert errno_name(lambda: os.close(handle)) == "EACCES"
    assert (project.path / "a.txt").read_bytes() == b"one and two"
    assert errno_name(lambda: (project.path / "made").mkdir()) == "EACCES"
    assert errno_name(lambda: (project.path / "folder").rename(project.path / "moved")) == "EACCES"
    assert errno_name(lambda: (project.path / "folder").rmdir()) == "EACCES"
    wait_until(lambda: "folder" in os.listdir(project.path), "the folder to be shown again")
    assert "moved" not in os.listdir(project.path)
    project.sandbox.faults(clear=True)
    assert project.mounted.home.procorefs("retry", project.path).returncode == 0
    project.sync()
    assert project.file("a.txt").sizes == [11, 3]


def test_through_keeps_temporary_names_here(
    mount_project: Callable[..., MountedProject], tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_bytes(b"one")
    project = mount_project("write_mode=through")
    with project.counted() as calls:
        run("rsync", "-a", f"{tmp_path}/source/", project.path)
    assert project.file("a.txt").numbers == [1]
    assert calls.writes == 2, calls.by_route
    (tmp_path / "source" / "a.txt").write_bytes(b"three")
    before = project.file("a.txt")
    run("rsync", "-a", f"{tmp_path}/source/", project.path)
    project.assert_saved("a.txt", before, b"three")


OPENS = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); os.write(fd, b'the plan'); "
CLOSES, SYNCS, EXITS = OPENS + "os.close(fd)", OPENS + "os.fsync(fd)", OPENS
CUTS = "import os, sys; os.truncate(sys.argv[1], 4)"


@pytest.mark.parametrize(
    ("option", "program", "content"),
    [
        ("write_mode=through", CLOSES, b"the plan"),
        ("write_mode=through", SYNCS, b"the plan"),
        ("write_mode=through", EXITS, b"the plan"),
        ("write_mode=through", CUTS, b"befo"),
        ("fsync=remote", SYNCS, b"the plan"),
    ],
)
def test_who_waits_for_a_silent_procore_can_be_killed(
    mount_project: Callable[..., MountedProject],
    programs: Programs,
    option: str,
    program: str,
    content: bytes,
) -> None:
    """At once, not when Procore answers; what it wrote goes on. Who is ending already can't be: soon it is let go."""
    project = mount_project(option, "write_back=0")
    path = project.path / "plan.dwg"
    if program is CUTS:
        path.write_bytes(b"before")
    project.sandbox.faults(rules=[{"kind": "silence", "route": "POST *uploads"}])
    waiting = programs.start(sys.executable, "-c", program, path)
    project.sandbox.wait_for_silent_calls()
    wait_until(lambda: state_of(waiting.pid) in "SD", "the program to wait")
    waiting.kill()
    programs.await_end(15.0 if program is EXITS else 5.0)
    project.sandbox.release()
    project.sync()
    assert project.file("plan.dwg").sha256 == sha256(content)


# fsync


def test_fsync_waits_for_procore_when_told_so(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("fsync=remote", "write_back=60")
    with (project.path / "a.txt").open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        assert project.file("a.txt").sizes == [3]
        file.write(b"two")
    assert project.file("a.txt").sizes == [3]
    project.mounted.expect_warning("refused|Procore does not permit it")
    refuse(project, "PATCH */files/*")
    with (project.path / "a.txt").open("ab", buffering=0) as file:
        file.write(b"three")
        for _ in range(2):  # nothing has got better meanwhile
            assert errno_name(lambda: os.fsync(file.fileno())) == "EACCES"
    project.mounted.unmount(leaves=True)
    project.mount_again("fsync=remote")
    with (project.path / "a.txt").open("ab", buffering=0) as file:
        assert errno_name(lambda: os.fsync(file.fileno())) == "EIO"


def test_who_goes_on_after_an_fsync_costs_nothing(mount_project: Callable[..., MountedProject]) -> None:
    """Procore has everything, and the file is still open for writing: the daemon has nothing to do."""
    project = mount_project("fsync=remote", "write_back=0")
    with (project.path / "a.txt").open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        busy_s, began_s = project.mounted.cpu_s(), time.monotonic()
        project.mounted.status()
        time.sleep(0.3)
        assert project.mounted.cpu_s() - busy_s < (time.monotonic() - began_s) / 3
        file.write(b"two")
    project.sync()
    assert project.file("a.txt").sizes == [6, 3]


def test_fsync_is_local_otherwise(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=60")
    with project.counted() as calls, (project.path / "a.txt").open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        folder = os.open(project.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    assert calls.total == 0


# Room


def test_a_writer_waits_for_room(mount_project: Callable[..., MountedProject], tmp_path: Path) -> None:
    """More goes through the mount than may be staged; slower, but it goes."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"{number}.bin").write_bytes(os.urandom(2 * MIB))
    project = mount_project("staging_size=5M", "write_back=0")
    run("cp", "-r", f"{source}/.", project.path)
    project.sync()
    project.assert_same(source)


def test_what_never_fits_is_refused_at_once(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("staging_size=4M")
    project.mounted.expect_warning("more than staging_size allows|bytes wait for their upload")
    with (project.path / "large.bin").open("wb", buffering=0) as file:
        assert errno_name(lambda: [file.write(bytes(MIB)) for _ in range(6)]) == "ENOSPC"
    (project.path / "large.bin").unlink()
    (project.path / "small.bin").write_bytes(bytes(MIB))
    project.sync()
    assert set(project.files()) == {"small.bin"}


# Emptying


def test_sync_waits_for_what_lies_below(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=60")
    (project.path / "folder").mkdir()
    (project.path / "folder" / "a.txt").write_bytes(b"a")
    (project.path / "b.txt").write_bytes(b"b")
    assert project.mounted.home.procorefs("sync", project.path / "folder").returncode == 0
    assert set(project.files()) == {"folder/a.txt"}
    answer = project.mounted.home.procorefs("sync", project.path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert set(project.files()) == {"folder/a.txt", "b.txt"}
    run("sync", "-f", project.path)


def test_sync_waits_out_a_network_that_is_gone(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=0")
    project.sandbox.faults(rules=[{"kind": "drop", "route": "POST *"}])
    (project.path / "a.txt").write_bytes(b"a")
    with ThreadOf(project.settle) as sync:
        wait_until(lambda: bool(project.mounted.status()["outbox"]["warning"]), "the warning to be shown")
        assert sync.is_waiting()
        project.sandbox.faults(clear=True)
        assert sync.result(40) == []
    assert project.file("a.txt").numbers == [1]


def test_unmounting_empties_the_outbox(mount_project: Callable[..., MountedProject], tmp_path: Path) -> None:
    project = mount_project("write_back=600")
    (project.path / "folder").mkdir()
    for number in range(30):
        (project.path / "folder" / f"{number}.txt").write_bytes(b"%d" % number)
    (project.path / "folder" / "0.txt").unlink()
    project.mounted.unmount()
    assert set(project.files()) == {f"folder/{number}.txt" for number in range(1, 30)}


def test_what_could_not_be_sent_waits_for_the_next_mount(
    mount_project: Callable[..., MountedProject],
) -> None:
    """Also on a mount that is read-only: it shows what waits, and sends nothing."""
    project = mount_project("write_back=600")
    (project.path / "old.txt").write_bytes(b"old")
    project.sync()
    refuse(project, "POST *")
    project.mounted.expect_warning("refused")
    (project.path / "folder").mkdir()
    (project.path / "folder" / "a.txt").write_bytes(b"a")
    (project.path / "old.txt").write_bytes(b"newer")
    told = project.mounted.unmount(leaves=True)
    assert "folder/a.txt" in told or "folder" in told
    project.sandbox.faults(clear=True)

    project.mount_again("ro")
    assert (project.path / "folder" / "a.txt").read_bytes() == b"a"
    assert (project.path / "old.txt").read_bytes() == b"newer"
    assert errno_name(lambda: (project.path / "b.txt").write_bytes(b"x")) == "EROFS"
    with project.counted() as calls:
        os.listdir(project.path / "folder")
    assert calls.writes == 0
    project.mounted.unmount(leaves=True)

    project.mount_again()
    assert project.mounted.home.procorefs("retry", project.path).returncode == 0
    project.sync()
    assert project.file("folder/a.txt").sizes == [1]
    assert project.file("old.txt").sizes == [5, 3]


def test_a_read_only_mount_says_what_it_does_not_send(
    mount_project: Callable[..., MountedProject],
) -> None:
    """And nobody waits for that: neither sync nor umount."""
    project = mount_project("write_back=600")
    for name in ("one.txt", "other.txt"):
        (project.path / name).write_bytes(b"waits")
    project.mounted.expect_warning("guard")
    project.mounted.kill()
    project.mount_again("ro")
    status = project.mounted.status()["outbox"]
    assert (status["pending"], status["uploading"], status["held"], status["failed"]) == (0, 0, 2, 0)
    assert {(item["path"], item["reason"]) for item in status["held_items"]} == {
        (name, "the mount is read-only") for name in ("one.txt", "other.txt")
    }
    assert os.getxattr(project.path / "one.txt", "user.procore.state") == b"pending"
    with project.counted() as calls:
        told = project.mounted.home.procorefs("sync", project.path)
        assert told.returncode == 1
        assert "one.txt is not in Procore: the mount is read-only" in told.stderr
        assert "other.txt" in project.mounted.unmount(leaves=True)
    assert calls.writes == 0
    project.mount_again()
    project.sync()
    assert set(project.files()) == {"one.txt", "other.txt"}


def test_discard_shows_what_procore_has(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=0")
    (project.path / "old.txt").write_bytes(b"old")
    project.sync()
    refuse(project, "P* */files*")
    project.mounted.expect_warning("refused")
    (project.path / "old.txt").write_bytes(b"newer")
    (project.path / "fresh.txt").write_bytes(b"fresh")
    (project.path / "held.part").write_bytes(b"held")
    wait_until(lambda: project.mounted.status()["outbox"]["failed"] == 2, "both to be refused")
    answer = project.mounted.home.procorefs("discard", project.path / "old.txt", project.path / "fresh.txt")
    assert answer.returncode == 0, answer.stderr
    wait_until(lambda: set(os.listdir(project.path)) == {"old.txt", "held.part"}, "the discarded to go")
    wait_until(lambda: (project.path / "old.txt").read_bytes() == b"old", "Procore's bytes to be shown")
    assert (project.path / "old.txt").stat().st_size == 3
    assert not (project.path / "fresh.txt").exists()
    assert [item.path for item in project.waiting()] == ["held.part"]


def test_discarding_a_folder_leaves_nothing_behind(
    mount_project: Callable[..., MountedProject],
) -> None:
    """Neither what waits in it, nor what is held in it."""
    project = mount_project("write_back=60")
    refuse(project, "POST */folders*")
    project.mounted.expect_warning("refused")
    (project.path / "folder" / "deep").mkdir(parents=True)
    (project.path / "folder" / "deep" / "a.txt").write_bytes(b"a")
    (project.path / "folder" / "b.part").write_bytes(b"b")
    (project.path / ".~tmp~").mkdir()
    (project.path / ".~tmp~" / "c.txt").write_bytes(b"c")
    wait_until(lambda: project.mounted.status()["outbox"]["failed"] > 0, "the folder to be refused")
    for name in ("folder", ".~tmp~"):
        answer = project.mounted.home.procorefs("discard", project.path / name)
        assert answer.returncode == 0, answer.stderr
    wait_until(lambda: os.listdir(project.path) == [], "the discarded to go")
    assert project.waiting() == []
    project.sandbox.faults(clear=True)
    (project.path / "folder").mkdir()
    assert os.listdir(project.path / "folder") == []
    project.sync()
    wait_until(lambda: not project.staged(), "the staged files to go")  # by themselves


def test_sync_ends_while_a_file_is_written_on_and_on(
    mount_project: Callable[..., MountedProject],
) -> None:
    """It waits for what was written before it was asked."""
    project = mount_project("write_back=0")
    over = threading.Event()

    def write_on() -> None:
        while not over.is_set():
            with (project.path / "log.txt").open("ab") as file:
                file.write(b"line\n")

    with ThreadOf(write_on) as writer:
        try:
            wait_until(lambda: (project.path / "log.txt").exists(), "the first line")
            size = (project.path / "log.txt").stat().st_size
            project.settle()
            assert project.file("log.txt").sizes[0] >= size
            assert writer.is_waiting()
        finally:
            over.set()
    project.sync()
    assert project.file("log.txt").sizes[0] == (project.path / "log.txt").stat().st_size
