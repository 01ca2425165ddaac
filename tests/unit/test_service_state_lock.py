"""One daemon owns a project's state; one that has lost its mount point hands it over when it is asked."""

import fcntl
import os
import subprocess
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from procorefs.service.control_socket import Request, StopRequest, serve
from procorefs.service.state_lock import AlreadyMounted, end_detached_owner, locked_state


def test_a_second_owner_is_told_of_the_first(tmp_path: Path) -> None:
    end_detached_owner(tmp_path)
    with locked_state(tmp_path, Path("/mnt/tower")):
        end_detached_owner(tmp_path)  # it is mounted: nobody asks it to end
        refused = pytest.raises(AlreadyMounted, match="is already mounted at /mnt/tower")
        with refused, locked_state(tmp_path, Path("/mnt/other")):
            pass
    with locked_state(tmp_path, Path("/mnt/other")):
        pass


def test_an_owner_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    with (tmp_path / "owner").open("w+b") as file:
        file.write(b"/mnt/tower")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        end_detached_owner(tmp_path)
        with pytest.raises(AlreadyMounted, match="/mnt/tower"), locked_state(tmp_path, Path("/mnt/other")):
            pass


async def test_an_owner_without_mount_point_is_asked_to_end(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    may_end = trio.Event()

    async def handle(request: Request) -> None:
        assert isinstance(request, StopRequest)
        may_end.set()

    async def own(*, task_status: trio.TaskStatus[None]) -> None:
        with locked_state(tmp_path, Path("/mnt/tower")) as ownership:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(_serve, socket, handle))
                ownership.detached(socket)
                task_status.started()
                await may_end.wait()
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(own)
        with (
            pytest.raises(AlreadyMounted, match="umount --now /mnt/tower"),
            locked_state(tmp_path, Path("/mnt/other")),
        ):
            pass
        await trio.to_thread.run_sync(end_detached_owner, tmp_path)
        with locked_state(tmp_path, Path("/mnt/other")):
            pass


async def _serve(socket: Path, handler: object, *, task_status: trio.TaskStatus[None]) -> None:
    await serve(socket, handler, task_status=task_status)  # type: ignore[arg-type]


def test_a_killed_daemon_is_waited_for_until_it_lets_the_lock_go(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    held = ExitStack()
    held.enter_context(locked_state(tmp_path, tmp_path / "place"))
    file = tmp_path / "owner"
    file.write_bytes(msgspec.json.encode({"mountpoint": "/place", "pid": dead.pid}))
    released = threading.Timer(0.3, held.close)
    released.start()
    end_detached_owner(tmp_path)
    assert released.finished.is_set()
    with locked_state(tmp_path, tmp_path / "other"):
        pass
    released.join()
    dead.wait()
