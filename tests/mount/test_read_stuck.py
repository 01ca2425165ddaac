"""Nobody is ever stuck because of us: programs wait for a silent server, the project changes, the mount ends."""

import base64
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Literal

import pytest

from tests.support.mounting import Mounted, Programs, guard_of, is_running, mount_followed, wait_until
from tests.support.patterns import pattern
from tests.support.sandbox import SandboxHandle
from tests.support.writing import errno_name

MIB = 1 << 20
STORAGE = {"kind": "silence", "route": "storage GET"}
FOLDERS = {"kind": "silence", "route": "GET /rest/v1.0/folders/{id}"}
INDEX = {"kind": "silence", "route": "GET /rest/v*documents"}
End = Literal["SIGTERM", "SIGKILL", "umount"]

MAPPED = (
    "import mmap, sys; f = open(sys.argv[1], 'rb'); "
    "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); print(m[int(sys.argv[2])], flush=True)"
)


def put(sandbox: SandboxHandle, path: str, data: bytes) -> None:
    sandbox.act("put", path=path, base64=base64.b64encode(data).decode())


def end_mount(mounted: Mounted, how: End, programs: Programs) -> None:
    """End it in that way while programs are inside, and see that they, the daemon and its guard end."""
    guard = guard_of(mounted)
    if how == "umount":
        refused = mounted.home.procorefs("umount", mounted.path)
        assert (refused.returncode, "is busy" in refused.stderr) == (1, True), refused
        assert is_running(mounted.pid)
        for program in programs.running:
            # dd and Python catch SIGINT, and no signal that is caught ends a wait for the page cache
            os.killpg(program.pid, signal.SIGKILL if program.catches else signal.SIGINT)
        programs.await_end()
        mounted.unmount()
    else:
        os.kill(mounted.pid, signal.Signals[how])
        programs.await_end()
        mounted.await_end()
    wait_until(lambda: not is_running(guard), "the guard to end")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "umount"])
def test_readers_wait_while_everything_changes(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs, how: End
) -> None:
    """Reads, page faults and read-ahead wait for the storage; each file meets another change."""
    sandbox.reset(0)
    sandbox.act("create_folder", path="/f")
    sandbox.act("create_folder", path="/g")
    for name in ("version", "renamed", "deleted", "moved", "mapped"):
        put(sandbox, f"/f/{name}.bin", pattern(1, 3 * MIB))
    mounted = mount_followed(sandbox, mount, "freshness=0")
    folder = mounted.path / "f"
    list(folder.iterdir())
    sandbox.faults(rules=[STORAGE])
    for name in ("version", "renamed", "deleted", "moved"):
        programs.start("cat", folder / f"{name}.bin")
        programs.start("dd", f"if={folder / name}.bin", "bs=4k", "skip=500", "of=/dev/null")
    programs.start(sys.executable, "-c", MAPPED, folder / "mapped.bin", str(2 * MIB))
    sandbox.wait_for_silent_calls(5)  # readers of one file may share a download
    programs.await_inside(mounted.path)

    put(sandbox, "/f/version.bin", pattern(2, MIB))
    put(sandbox, "/f/mapped.bin", pattern(2, 4 * MIB))
    sandbox.act("rename", path="/f/renamed.bin", name="other.bin")
    sandbox.act("delete", path="/f/deleted.bin")
    sandbox.act("move", path="/f/moved.bin", to="/g")
    sandbox.act("rename", path="/g", name="h")
    see(mounted)
    assert sorted(os.listdir(folder)) == ["mapped.bin", "other.bin", "version.bin"]
    assert os.listdir(mounted.path / "h") == ["moved.bin"]
    assert not (folder / "deleted.bin").exists()
    assert (folder / "version.bin").stat().st_size == MIB
    sandbox.act("delete", path="/f")

    def is_gone() -> bool:
        see(mounted)
        return not folder.exists()

    wait_until(is_gone, "the folder to be gone", 5)
    end_mount(mounted, how, programs)


def see(mounted: Mounted) -> None:
    """Open something, so that the changes before are looked for."""
    os.close(os.open(mounted.path, os.O_RDONLY))


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "umount"])
def test_listings_and_lookups_wait_while_everything_changes(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs, how: End
) -> None:
    """A folder's listing never comes. Meanwhile it, and what is known in it, is renamed, moved and deleted."""
    sandbox.reset(0)
    for name in ("a", "b", "c"):
        sandbox.act("create_folder", path=f"/{name}")
        put(sandbox, f"/{name}/known.txt", b"x")
    sandbox.faults(rules=[FOLDERS, INDEX])
    mounted = mount(sandbox, "freshness=0")
    mounted.expect_warning("Listing the project failed|Procore cannot be polled")
    programs.start("ls", "-l", mounted.path / "a")
    programs.start("find", mounted.path / "b")
    programs.start("stat", mounted.path / "c" / "known.txt")
    programs.start("stat", mounted.path / "c" / "known.txt")
    programs.start("stat", mounted.path / "c" / "unknown.txt")
    programs.start("mkdir", mounted.path / "c" / "new")
    programs.start("touch", mounted.path / "c" / "new")
    sandbox.wait_for_silent_calls(2)
    sandbox.act("rename", path="/a", name="a2")
    sandbox.act("move", path="/c", to="/b")
    sandbox.act("rename", path="/b", name="b2")
    sandbox.act("delete", path="/b2/known.txt")
    assert sorted(os.listdir(mounted.path)) == ["a", "b", "c"]
    end_mount(mounted, how, programs)


def test_lookups_end_when_the_answer_comes(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs
) -> None:
    sandbox.reset(0)
    for name in ("a", "b", "c"):
        sandbox.act("create_folder", path=f"/{name}")
        put(sandbox, f"/{name}/known.txt", b"x")
    sandbox.faults(rules=[FOLDERS, INDEX])
    mounted = mount(sandbox, "freshness=0")
    ends = [
        programs.start("ls", "-l", mounted.path / "a"),
        programs.start("stat", mounted.path / "b" / "known.txt"),
        programs.start("stat", mounted.path / "c" / "known.txt"),
        programs.start("stat", mounted.path / "c" / "unknown.txt"),
        programs.start("mkdir", mounted.path / "c" / "new"),
    ]
    sandbox.wait_for_silent_calls(2)
    sandbox.act("move", path="/c/known.txt", to="/a")
    sandbox.act("rename", path="/b/known.txt", name="else.txt")
    sandbox.release()
    programs.await_end()
    assert [end.returncode for end in ends] == [0, 1, 1, 1, 0]
    mounted.unmount()


def test_a_folder_need_not_wait_for_its_own_answer(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs
) -> None:
    """The folder's own call stays silent; the pages of the project bring what is in it. Then changes come to it."""
    sandbox.reset(0)
    sandbox.act("create_folder", path="/a")
    for number in range(4):
        put(sandbox, f"/a/{number}.txt", b"x")
    sandbox.faults(rules=[FOLDERS])
    mounted = mount(sandbox, "freshness=0")
    programs.start("ls", "-l", mounted.path / "a")
    sandbox.wait_for_silent_calls()
    programs.start("stat", mounted.path / "a" / "1.txt")
    programs.start("stat", mounted.path / "a" / "1.txt")
    programs.await_end()
    assert [program.returncode for program in programs.running] == [0, 0, 0]
    sandbox.act("rename", path="/a/2.txt", name="two.txt")
    sandbox.act("delete", path="/a/3.txt")
    assert sorted(os.listdir(mounted.path / "a")) == ["0.txt", "1.txt", "two.txt"]
    sandbox.release()
    mounted.unmount()


def test_a_crowd_that_opens_one_file_can_be_killed(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs
) -> None:
    """None of them may wait where no signal reaches, for pages that another is just reading."""
    sandbox.reset(0)
    put(sandbox, "/crowded.bin", pattern(1, MIB))
    mounted = mount(sandbox)
    sandbox.faults(rules=[STORAGE])
    for _ in range(24):
        programs.start("cat", mounted.path / "crowded.bin")
    sandbox.wait_for_silent_calls()
    programs.await_inside(mounted.path)
    for program in programs.running:
        program.send_signal(signal.SIGINT)
    programs.await_end(3)
    sandbox.release()
    assert (mounted.path / "crowded.bin").read_bytes() == pattern(1, MIB)


def test_a_read_without_network_ends_within_half_a_minute(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    """The look of the open, the download and what the kernel asks again by itself, all together."""
    sandbox.reset(0)
    put(sandbox, "/a.bin", pattern(1, MIB))
    mounted = mount_followed(sandbox, mount, "freshness=0")
    mounted.expect_warning("no byte|did not|Procore cannot be polled")
    sandbox.faults(rules=[{"kind": "silence", "route": "*"}])
    began_s = time.monotonic()
    assert errno_name(lambda: (mounted.path / "a.bin").read_bytes()) == "EIO"
    assert time.monotonic() - began_s < 31
    sandbox.release()
    sandbox.faults(clear=True)
