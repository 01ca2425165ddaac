"""How a mount was told to write: through, synced remotely, in little room; and how it empties itself."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounting import Programs, ThreadOf, state_of, wait_until
from tests.support.writing import Desk, errno_name, run, sha256

MIB = 1 << 20


def refuse(desk: Desk, route: str, status: int = 403, **more: object) -> None:
    desk.sandbox.faults(rules=[{"kind": "error", "route": route, "status": status, **more}])


# write_mode=through


def test_through_returns_when_procore_has_it(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_mode=through")
    (desk.path / "folder").mkdir()
    assert desk.folders() == {"folder"}
    (desk.path / "folder" / "a.txt").write_bytes(b"one")
    assert desk.file("folder/a.txt").sizes == [3]
    (desk.path / "folder" / "a.txt").rename(desk.path / "b.txt")
    assert set(desk.files()) == {"b.txt"}
    os.truncate(desk.path / "b.txt", 1)
    assert desk.file("b.txt").sizes == [1, 3]
    (desk.path / "b.txt").unlink()
    (desk.path / "folder").rmdir()
    assert (desk.files(), desk.folders()) == ({}, set())
    assert desk.waiting() == []


def test_through_hands_errors_on(write_desk: Callable[..., Desk]) -> None:
    """To close, rename, mkdir and unlink; the tree shows what Procore has where nothing would be lost by it."""
    desk = write_desk("write_mode=through")
    (desk.path / "a.txt").write_bytes(b"one")
    (desk.path / "folder").mkdir()
    desk.mounted.expect_warning("refused|Procore does not permit it")
    refuse(desk, "P* */f*")
    refuse(desk, "DELETE *")
    handle = os.open(desk.path / "a.txt", os.O_WRONLY | os.O_APPEND)
    os.write(handle, b" and two")
    assert errno_name(lambda: os.close(handle)) == "EACCES"
    assert (desk.path / "a.txt").read_bytes() == b"one and two"
    assert errno_name(lambda: (desk.path / "made").mkdir()) == "EACCES"
    assert errno_name(lambda: (desk.path / "folder").rename(desk.path / "moved")) == "EACCES"
    assert errno_name(lambda: (desk.path / "folder").rmdir()) == "EACCES"
    wait_until(lambda: "folder" in os.listdir(desk.path), "the folder to be shown again")
    assert "moved" not in os.listdir(desk.path)
    desk.sandbox.faults(clear=True)
    assert desk.mounted.home.procorefs("retry", desk.path).returncode == 0
    desk.sync()
    assert desk.file("a.txt").sizes == [11, 3]


def test_through_keeps_temporary_names_here(write_desk: Callable[..., Desk], tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_bytes(b"one")
    desk = write_desk("write_mode=through")
    with desk.counted() as calls:
        run("rsync", "-a", f"{tmp_path}/source/", desk.path)
    assert desk.file("a.txt").numbers == [1]
    assert calls.writes == 2, calls.by_route
    (tmp_path / "source" / "a.txt").write_bytes(b"three")
    before = desk.file("a.txt")
    run("rsync", "-a", f"{tmp_path}/source/", desk.path)
    desk.assert_saved("a.txt", before, b"three")


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
    write_desk: Callable[..., Desk], programs: Programs, option: str, program: str, content: bytes
) -> None:
    """At once, not when Procore answers; what it wrote goes on. Who is ending already can't be: soon it is let go."""
    desk = write_desk(option, "write_back=0")
    path = desk.path / "plan.dwg"
    if program is CUTS:
        path.write_bytes(b"before")
    desk.sandbox.faults(rules=[{"kind": "silence", "route": "POST *uploads"}])
    waiting = programs.start(sys.executable, "-c", program, path)
    desk.sandbox.wait_for_silent_calls()
    wait_until(lambda: state_of(waiting.pid) in "SD", "the program to wait")
    waiting.kill()
    programs.await_end(15.0 if program is EXITS else 5.0)
    desk.sandbox.release()
    desk.sync()
    assert desk.file("plan.dwg").sha256 == sha256(content)


# fsync


def test_fsync_waits_for_procore_when_told_so(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("fsync=remote", "write_back=60")
    with (desk.path / "a.txt").open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        assert desk.file("a.txt").sizes == [3]
        file.write(b"two")
    assert desk.file("a.txt").sizes == [3]
    desk.mounted.expect_warning("refused|Procore does not permit it")
    refuse(desk, "PATCH */files/*")
    with (desk.path / "a.txt").open("ab", buffering=0) as file:
        file.write(b"three")
        for _ in range(2):  # nothing has got better meanwhile
            assert errno_name(lambda: os.fsync(file.fileno())) == "EACCES"
    desk.mounted.unmount(leaves=True)
    desk.mount_again("fsync=remote")
    with (desk.path / "a.txt").open("ab", buffering=0) as file:
        assert errno_name(lambda: os.fsync(file.fileno())) == "EIO"


def test_who_goes_on_after_an_fsync_costs_nothing(write_desk: Callable[..., Desk]) -> None:
    """Procore has everything, and the file is still open for writing: the daemon has nothing to do."""
    desk = write_desk("fsync=remote", "write_back=0")
    with (desk.path / "a.txt").open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        busy_s, began_s = desk.mounted.cpu_s(), time.monotonic()
        desk.mounted.status()
        time.sleep(0.3)
        assert desk.mounted.cpu_s() - busy_s < (time.monotonic() - began_s) / 3
        file.write(b"two")
    desk.sync()
    assert desk.file("a.txt").sizes == [6, 3]


def test_fsync_is_local_otherwise(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=60")
    with desk.counted() as calls, (desk.path / "a.txt").open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        folder = os.open(desk.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    assert calls.total == 0


# Room


def test_a_writer_waits_for_room(write_desk: Callable[..., Desk], tmp_path: Path) -> None:
    """More goes through the mount than may be staged; slower, but it goes."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"{number}.bin").write_bytes(os.urandom(2 * MIB))
    desk = write_desk("staging_size=5M", "write_back=0")
    run("cp", "-r", f"{source}/.", desk.path)
    desk.sync()
    desk.assert_same(source)


def test_what_never_fits_is_refused_at_once(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("staging_size=4M")
    desk.mounted.expect_warning("more than staging_size allows|bytes wait for their upload")
    with (desk.path / "large.bin").open("wb", buffering=0) as file:
        assert errno_name(lambda: [file.write(bytes(MIB)) for _ in range(6)]) == "ENOSPC"
    (desk.path / "large.bin").unlink()
    (desk.path / "small.bin").write_bytes(bytes(MIB))
    desk.sync()
    assert set(desk.files()) == {"small.bin"}


# Emptying


def test_sync_waits_for_what_lies_below(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=60")
    (desk.path / "folder").mkdir()
    (desk.path / "folder" / "a.txt").write_bytes(b"a")
    (desk.path / "b.txt").write_bytes(b"b")
    assert desk.mounted.home.procorefs("sync", desk.path / "folder").returncode == 0
    assert set(desk.files()) == {"folder/a.txt"}
    answer = desk.mounted.home.procorefs("sync", desk.path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert set(desk.files()) == {"folder/a.txt", "b.txt"}
    run("sync", "-f", desk.path)


def test_sync_waits_out_a_network_that_is_gone(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=0")
    desk.sandbox.faults(rules=[{"kind": "drop", "route": "POST *"}])
    (desk.path / "a.txt").write_bytes(b"a")
    with ThreadOf(desk.settle) as sync:
        wait_until(lambda: bool(desk.mounted.status()["outbox"]["warning"]), "the warning to be shown")
        assert sync.is_waiting()
        desk.sandbox.faults(clear=True)
        assert sync.result(40) == []
    assert desk.file("a.txt").numbers == [1]


def test_unmounting_empties_the_outbox(write_desk: Callable[..., Desk], tmp_path: Path) -> None:
    desk = write_desk("write_back=600")
    (desk.path / "folder").mkdir()
    for number in range(30):
        (desk.path / "folder" / f"{number}.txt").write_bytes(b"%d" % number)
    (desk.path / "folder" / "0.txt").unlink()
    desk.mounted.unmount()
    assert set(desk.files()) == {f"folder/{number}.txt" for number in range(1, 30)}


def test_what_could_not_be_sent_waits_for_the_next_mount(write_desk: Callable[..., Desk]) -> None:
    """Also on a mount that is read-only: it shows what waits, and sends nothing."""
    desk = write_desk("write_back=600")
    (desk.path / "old.txt").write_bytes(b"old")
    desk.sync()
    refuse(desk, "POST *")
    desk.mounted.expect_warning("refused")
    (desk.path / "folder").mkdir()
    (desk.path / "folder" / "a.txt").write_bytes(b"a")
    (desk.path / "old.txt").write_bytes(b"newer")
    told = desk.mounted.unmount(leaves=True)
    assert "folder/a.txt" in told or "folder" in told
    desk.sandbox.faults(clear=True)

    desk.mount_again("ro")
    assert (desk.path / "folder" / "a.txt").read_bytes() == b"a"
    assert (desk.path / "old.txt").read_bytes() == b"newer"
    assert errno_name(lambda: (desk.path / "b.txt").write_bytes(b"x")) == "EROFS"
    with desk.counted() as calls:
        os.listdir(desk.path / "folder")
    assert calls.writes == 0
    desk.mounted.unmount(leaves=True)

    desk.mount_again()
    assert desk.mounted.home.procorefs("retry", desk.path).returncode == 0
    desk.sync()
    assert desk.file("folder/a.txt").sizes == [1]
    assert desk.file("old.txt").sizes == [5, 3]


def test_a_read_only_mount_says_what_it_does_not_send(write_desk: Callable[..., Desk]) -> None:
    """And nobody waits for that: neither sync nor umount."""
    desk = write_desk("write_back=600")
    for name in ("one.txt", "other.txt"):
        (desk.path / name).write_bytes(b"waits")
    desk.mounted.expect_warning("guard")
    desk.mounted.kill()
    desk.mount_again("ro")
    status = desk.mounted.status()["outbox"]
    assert (status["pending"], status["uploading"], status["held"], status["failed"]) == (0, 0, 2, 0)
    assert {(item["path"], item["reason"]) for item in status["held_items"]} == {
        (name, "the mount is read-only") for name in ("one.txt", "other.txt")
    }
    assert os.getxattr(desk.path / "one.txt", "user.procore.state") == b"pending"
    with desk.counted() as calls:
        told = desk.mounted.home.procorefs("sync", desk.path)
        assert told.returncode == 1
        assert "one.txt is not in Procore: the mount is read-only" in told.stderr
        assert "other.txt" in desk.mounted.unmount(leaves=True)
    assert calls.writes == 0
    desk.mount_again()
    desk.sync()
    assert set(desk.files()) == {"one.txt", "other.txt"}


def test_discard_shows_what_procore_has(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=0")
    (desk.path / "old.txt").write_bytes(b"old")
    desk.sync()
    refuse(desk, "P* */files*")
    desk.mounted.expect_warning("refused")
    (desk.path / "old.txt").write_bytes(b"newer")
    (desk.path / "fresh.txt").write_bytes(b"fresh")
    (desk.path / "held.part").write_bytes(b"held")
    wait_until(lambda: desk.mounted.status()["outbox"]["failed"] == 2, "both to be refused")
    answer = desk.mounted.home.procorefs("discard", desk.path / "old.txt", desk.path / "fresh.txt")
    assert answer.returncode == 0, answer.stderr
    wait_until(lambda: set(os.listdir(desk.path)) == {"old.txt", "held.part"}, "the discarded to go")
    wait_until(lambda: (desk.path / "old.txt").read_bytes() == b"old", "Procore's bytes to be shown")
    assert (desk.path / "old.txt").stat().st_size == 3
    assert not (desk.path / "fresh.txt").exists()
    assert [item.path for item in desk.waiting()] == ["held.part"]


def test_discarding_a_folder_leaves_nothing_behind(write_desk: Callable[..., Desk]) -> None:
    """Neither what waits in it, nor what is held in it."""
    desk = write_desk("write_back=60")
    refuse(desk, "POST */folders*")
    desk.mounted.expect_warning("refused")
    (desk.path / "folder" / "deep").mkdir(parents=True)
    (desk.path / "folder" / "deep" / "a.txt").write_bytes(b"a")
    (desk.path / "folder" / "b.part").write_bytes(b"b")
    (desk.path / ".~tmp~").mkdir()
    (desk.path / ".~tmp~" / "c.txt").write_bytes(b"c")
    wait_until(lambda: desk.mounted.status()["outbox"]["failed"] > 0, "the folder to be refused")
    for name in ("folder", ".~tmp~"):
        answer = desk.mounted.home.procorefs("discard", desk.path / name)
        assert answer.returncode == 0, answer.stderr
    wait_until(lambda: os.listdir(desk.path) == [], "the discarded to go")
    assert desk.waiting() == []
    desk.sandbox.faults(clear=True)
    (desk.path / "folder").mkdir()
    assert os.listdir(desk.path / "folder") == []
    desk.sync()
    wait_until(lambda: not desk.staged(), "the staged files to go")  # by themselves


def test_sync_ends_while_a_file_is_written_on_and_on(write_desk: Callable[..., Desk]) -> None:
    """It waits for what was written before it was asked."""
    desk = write_desk("write_back=0")
    over = threading.Event()

    def write_on() -> None:
        while not over.is_set():
            with (desk.path / "log.txt").open("ab") as file:
                file.write(b"line\n")

    with ThreadOf(write_on) as writer:
        try:
            wait_until(lambda: (desk.path / "log.txt").exists(), "the first line")
            size = (desk.path / "log.txt").stat().st_size
            desk.settle()
            assert desk.file("log.txt").sizes[0] >= size
            assert writer.is_waiting()
        finally:
            over.set()
    desk.sync()
    assert desk.file("log.txt").sizes[0] == (desk.path / "log.txt").stat().st_size
