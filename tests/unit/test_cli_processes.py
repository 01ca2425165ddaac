"""What the kernel shows of mounts and processes, and what the commands read from it."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.bounded_call import errno_of
from procorefs.cli.mounts.locate import NoCurrentDirectory, locate
from procorefs.cli.mounts.processes import birth, holders, signal_process, wait_for_end
from procorefs.cli.mounts.registry import AlreadyStarted, registered
from procorefs.config import MountOptions, Paths, ResolvedMount, find_paths, private_dir
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import CompanyId, ProjectId
from procorefs.storage.mountinfo import Mount, mount_at, parse_mountinfo
from procorefs.storage.private_files import replace_private_file

INFO = rb"""25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
80 25 0:40 / /mnt/My\040Project\011x rw,nosuid,nodev shared:2 master:3 - fuse.procorefs Acme\040Inc./Tower rw,user_id=0
81 25 0:41 / /mnt/My\040Project\011x rw - fuse.sshfs host: rw
broken line
82 25 0:42 / /mnt/raw rw - fuse /dev/fuse rw
"""


def test_mountinfo() -> None:
    mounts = parse_mountinfo(INFO)
    place = Path("/mnt/My Project\tx")
    assert mounts[1] == Mount(
        place, "fuse.procorefs", "Acme Inc./Tower", device=b"0:40", escaped=rb"/mnt/My\040Project\011x"
    )
    assert [(mount.is_ours, mount.is_fuse) for mount in mounts] == [
        (False, False), (True, True), (False, True), (False, True),
    ]  # fmt: skip
    assert mount_at(place, mounts) == mounts[2]
    assert mount_at(Path("/mnt"), mounts) is None


def test_locate_follows_links_to_a_mount_but_not_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "twice").symlink_to("link")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    mounts = [Mount(tmp_path / "real", "fuse.procorefs", "1/2")]
    for name in ("real", "link", "twice", "./real/", "real/../link"):
        assert locate(Path(name), mounts) == tmp_path / "real"
    assert locate(Path(), []) == tmp_path
    assert locate(Path("none/x"), []) == tmp_path / "none/x"
    assert locate(Path("loop"), []).name == "loop"
    # a mount at a link's own name is not read as a link
    assert locate(Path("link"), [Mount(tmp_path / "link", "fuse.procorefs", "1/2")]) == tmp_path / "link"


def test_a_relative_path_from_a_directory_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(NoCurrentDirectory, match="the current directory is gone, and 'x' with it"):
        locate(Path("x"), [])
    assert locate(tmp_path / "x", []) == tmp_path / "x"


def test_a_call_that_hangs_is_left_behind() -> None:
    reader, writer = os.pipe()
    assert errno_of(lambda: time.sleep(600), 0.05) == errno.ETIMEDOUT
    os.close(writer)
    # it holds none of our files: whoever reads what we write is not kept waiting
    with os.fdopen(reader, "rb") as end:
        assert end.read() == b""
    assert errno_of(lambda: None, 5) == 0
    assert errno_of(lambda: os.stat("/nowhere"), 5) == errno.ENOENT


def test_a_process_is_told_from_a_later_one() -> None:
    ours = birth(os.getpid())
    assert ours is not None
    assert not wait_for_end(os.getpid(), ours, 0)
    assert wait_for_end(os.getpid(), "another boot:1", 0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        born = birth(child.pid)
        assert born is not None
        child.send_signal(signal.SIGKILL)
        assert wait_for_end(child.pid, born, 10)
        # a zombie has ended, though its id is still taken
        assert birth(child.pid) is None
    assert wait_for_end(child.pid, born, 10)


CODE = """
import ctypes, os, sys
what, path = sys.argv[1:]
if what == "cwd": os.chdir(os.path.dirname(path))
if what in ("fd", "map"): f = open(path, "rb")
if what == "map": ctypes.CDLL(None).mmap(None, 4096, 1, 2, f.fileno(), 0); f.close()  # mmap.mmap keeps f open
print("here", flush=True); input()
"""


@pytest.mark.parametrize(("what", "says"), [("cwd", "works in"), ("fd", "open"), ("map", "mapped")])
def test_who_holds_a_folder(tmp_path: Path, what: str, says: str) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "file").write_text("x")
    command = [sys.executable, "-c", CODE, what, str(folder / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert holders(tmp_path / "a", mapped=True) == []
        [found] = holders(folder, mapped=what == "map")
        assert (found.pid, says in found.what) == (child.pid, True)
        assert holders(folder, without=frozenset({child.pid}), mapped=True) == []
        child.communicate(b"\n")


@pytest.fixture
def mount(tmp_path: Path) -> ResolvedMount:
    paths = find_paths({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)})
    api = ApiSettings(client_id="c", client_secret="s", company_id=CompanyId(1), project_id=ProjectId(2))
    return ResolvedMount(api, tmp_path / "mnt", MountOptions(), paths, "1/2")


def test_a_running_daemon_is_registered_once(mount: ResolvedMount) -> None:
    with registered(mount):
        entry = registry.find(mount.mountpoint, mount.paths)
        assert entry is not None
        assert (entry.pid, entry.source, entry.company_id) == (os.getpid(), "1/2", 1)
        assert registry.running(mount.paths) == [entry]
        with pytest.raises(AlreadyStarted, match=f"process {os.getpid()}"), registered(mount):
            pass
    assert registry.running(mount.paths) == []


def test_a_daemon_without_its_mount_point_leaves_that_to_others(mount: ResolvedMount) -> None:
    socket = mount.detached_socket(os.getpid())
    with registered(mount) as registration:
        before = registry.find(mount.mountpoint, mount.paths)
        assert before is not None
        registration.detach()
        assert registry.find(mount.mountpoint, mount.paths) is None
        detached = registry.find_detached(mount.mountpoint, mount.paths)
        assert detached is not None
        assert (detached.detached, detached.socket, detached.pid) == (True, str(socket), before.pid)
        assert registry.find_again(before, mount.paths) == detached
        with registered(mount):
            assert registry.find(mount.mountpoint, mount.paths) == before
            assert sorted(entry.detached for entry in registry.running(mount.paths)) == [False, True]
        assert registry.running(mount.paths) == [detached]
    assert registry.running(mount.paths) == []


def test_a_session_without_runtime_directory_finds_what_was_left_in_the_state_directory(
    mount: ResolvedMount, tmp_path: Path
) -> None:
    elsewhere = msgspec.structs.replace(mount, paths=find_paths({"HOME": str(tmp_path)}))
    with registered(elsewhere):
        assert registry.find(mount.mountpoint, mount.paths) is not None


def leave_entry(paths: Paths, mount: ResolvedMount, **changes: object) -> Path:
    with registered(mount):
        [file] = paths.runtime_dir.glob("*.mount")
        entry = msgspec.json.decode(file.read_bytes(), type=registry.Entry)
    replace_private_file(file, msgspec.json.encode(msgspec.structs.replace(entry, **changes)))
    return file


def test_what_a_dead_daemon_left_is_removed(mount: ResolvedMount, monkeypatch: pytest.MonkeyPatch) -> None:
    # the id is taken again, by this very process
    file = leave_entry(mount.paths, mount, born="another boot:1")
    with socket.socket(socket.AF_UNIX) as left:
        monkeypatch.chdir(mount.control_socket.parent)  # an absolute path may be too long for a socket
        left.bind(mount.control_socket.name)
    assert registry.find(mount.mountpoint, mount.paths) is None
    assert not file.exists()
    assert not mount.control_socket.exists()
    leave_entry(mount.paths, mount, born="another boot:1")
    with registered(mount):
        assert registry.find(mount.mountpoint, mount.paths) is not None


def test_an_entry_has_nothing_deleted_but_its_own_socket(mount: ResolvedMount, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = leave_entry(mount.paths, mount, born="another boot:1", socket=str(victim))
    file.with_suffix(".sock").symlink_to(victim)
    assert registry.running(mount.paths) == []
    assert victim.read_text() == "precious"
    assert file.with_suffix(".sock").is_symlink()


def test_the_lock_of_the_entries_is_never_made_through_a_link(mount: ResolvedMount, tmp_path: Path) -> None:
    private_dir(mount.paths.runtime_dir)
    (mount.paths.runtime_dir / ".lock").symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="symbolic links"), registered(mount):
        pass
    assert not (tmp_path / "made").exists()


def test_entries_that_others_could_have_written_are_not_read(mount: ResolvedMount) -> None:
    with registered(mount):
        assert len(registry.running(mount.paths)) == 1
        mount.paths.runtime_dir.chmod(0o777)
        assert registry.running(mount.paths) == []
        mount.paths.runtime_dir.chmod(0o700)


def test_a_signal_reaches_that_very_process_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        born = birth(sleeping.pid)
        assert born is not None
        signal_process(sleeping.pid, "another boot:1", signal.SIGTERM)
        assert sleeping.poll() is None
        signal_process(sleeping.pid, born, signal.SIGTERM)
        assert sleeping.wait(10) == -signal.SIGTERM


def test_a_damaged_entry_is_nobody(mount: ResolvedMount) -> None:
    file = leave_entry(mount.paths, mount)
    file.write_text("{")
    assert registry.running(mount.paths) == []
    with registered(mount):
        assert len(registry.running(mount.paths)) == 1
