"""Finding a connection in mountinfo, and that only our own is ever aborted."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest
import trio

from procorefs.kernel.bridge.connection import Connection, Guard, NotMounted, find_connection
from procorefs.kernel.bridge.native import abort_connection
from procorefs.storage.blocking_work import loop_waits
from procorefs.storage.mountinfo import parse_mountinfo

MOUNTS = parse_mountinfo(
    rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:28 / /sys/fs/fuse/connections rw - fusectl fusectl rw
40 22 0:41 / /mnt/project rw,nosuid - fuse.procorefs procorefs rw,user_id=0
41 22 0:43 / /mnt/odd\040name\134x rw,nosuid shared:7 master:3 - fuse x rw
42 22 0:44 / /mnt/project rw,nosuid - fuse.procorefs procorefs rw,user_id=0
43 22 0:45 / /mnt/disk rw - ext4 fuse rw
"""
)


def test_the_topmost_mount_counts() -> None:
    connection = find_connection(Path("/mnt/project"), MOUNTS)
    assert (connection.number, connection.device) == (44, b"0:44")
    assert connection.fields[3] == b"/sys/fs/fuse/connections/44/abort"


def test_a_name_is_compared_unescaped_and_kept_escaped() -> None:
    connection = find_connection(Path("/mnt/odd name\\x"), MOUNTS)
    assert connection == Connection(b"0:43", rb"/mnt/odd\040name\134x", b"/mnt/odd name\\x")


@pytest.mark.parametrize("path", ["/mnt/disk", "/mnt", "/", "/sys/fs/fuse/connections", "/nowhere"])
def test_only_fuse_mounts_are_found(path: str) -> None:
    with pytest.raises(NotMounted, match=f"mounted at {path}"):
        find_connection(Path(path), MOUNTS)


def real_mount(path: bytes) -> bytes:
    """The device of a real mount, which is not a FUSE one."""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        if line.split(b" ")[4] == path:
            return line.split(b" ")[2]
    pytest.fail(f"{path!r} is not mounted")


def test_a_number_that_another_mount_has_now_is_left_alone(tmp_path: Path) -> None:
    abort_file = tmp_path / "abort"
    abort_file.write_text("untouched")
    stranger = Connection(real_mount(b"/proc"), b"/mnt/ours", b"/mnt/ours")
    assert not stranger.abort()
    assert abort_connection(*stranger.fields[:3], os.fsencode(abort_file)) == errno.ENOENT
    assert abort_file.read_text() == "untouched"


def test_a_connection_that_is_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    assert not Connection(b"0:1048575", b"/mnt/gone", b"/mnt/gone").abort()
    assert caplog.records == []


def test_a_detached_mount_is_aborted_by_its_number(tmp_path: Path) -> None:
    abort_file = tmp_path / "abort"
    abort_file.touch()
    assert abort_connection(b"0:1048575", b"/mnt/gone", b"/mnt/gone", os.fsencode(abort_file)) == 0
    assert abort_file.read_text() == "1"


GONE = Connection(b"0:1048575", b"/mnt/gone", b"/mnt/gone")


def test_a_guard_is_buried_when_it_is_dismissed() -> None:
    with Guard(GONE) as guard:
        assert Path(f"/proc/{guard.pid}").exists()
    assert not Path(f"/proc/{guard.pid}").exists()
    guard.dismiss()


def test_a_guard_watches_the_main_thread_only() -> None:
    raised: list[BaseException] = []

    def start() -> None:
        try:
            Guard(GONE).dismiss()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("waits_for_disk", [False, True])
def test_only_a_loop_that_waits_for_no_disk_is_taken_for_hanging(waits_for_disk: bool) -> None:
    timeout_s = 0.6
    with Guard(GONE, timeout_s) as guard:

        async def hang() -> str:
            async with trio.open_nursery() as nursery:
                await nursery.start(guard.run)
                await trio.sleep(timeout_s / 2)
                if waits_for_disk:
                    loop_waits.begins(time.perf_counter())
                time.sleep(4 * timeout_s)  # noqa: ASYNC251 - this is the hang
                loop_waits.ends()
                state = state_of(guard.pid)
                nursery.cancel_scope.cancel()
            return state

        assert (trio.run(hang) != "Z") == waits_for_disk
