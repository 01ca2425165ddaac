"""Damaged files, full and forbidden disks, a network that goes: the mount says so, and shows no wrong byte."""

import base64
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounting import Home, Mounted, mount_followed, wait_until
from tests.support.patterns import pattern
from tests.support.sandbox import SandboxHandle, running_sandbox

MIB = 1 << 20


def put(sandbox: SandboxHandle, name: str, data: bytes) -> None:
    sandbox.act("put", path=f"/{name}", base64=base64.b64encode(data).decode())


def flip_page(file: Path) -> None:
    """What a bad disk does: a page in the middle holds something else."""
    data = bytearray(file.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = random.Random(7).randbytes(4096)
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda file: file.write_bytes(b"this is no database\n" * 1000),
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "page": flip_page,
    "empty": lambda file: os.truncate(file, 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tree(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home, damage: str
) -> None:
    """Moved aside, listed anew, and the log says so."""
    sandbox.reset(400)
    mounted = mount(sandbox)
    before = sorted(str(path) for path in mounted.path.rglob("*"))
    mounted.unmount()
    (tree,) = home.state.rglob("tree.sqlite")
    DAMAGES[damage](tree)
    again = mount(sandbox, at=mounted.path)
    for one in (mounted, again):
        one.expect_warning("The tree .* is damaged")
    assert sorted(str(path) for path in again.path.rglob("*")) == before
    assert damage == "empty" or list(tree.parent.glob("tree.sqlite.damaged-*"))
    assert damage == "empty" or "is damaged" in again.log


def test_a_tree_damaged_while_it_is_used(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home
) -> None:
    """Programs get an error or the truth; the next mount begins anew by itself."""
    sandbox.reset(3000)
    mounted = mount(sandbox)
    before = sorted(str(path) for path in mounted.path.rglob("*"))
    mounted.unmount()
    again = mount(sandbox, at=mounted.path)
    for one in (mounted, again):
        one.expect_warning("malformed|damaged|readdir|lookup|getattr|open|Traceback|statfs|tree")
    (tree,) = home.state.rglob("tree.sqlite")
    with tree.open("r+b") as file:
        size = tree.stat().st_size
        for at in range(8192, size, 8192):
            file.seek(at)
            file.write(random.Random(at).randbytes(4096))
    walked = subprocess.run(["find", again.path], capture_output=True, text=True, check=False, timeout=30)
    assert set(walked.stdout.splitlines()[1:]) <= set(before)
    again.kill()
    third = mount(sandbox, at=mounted.path)
    third.expect_warning("The tree .* is damaged|malformed|readdir|lookup|getattr")
    assert sorted(str(path) for path in third.path.rglob("*")) == before


@pytest.mark.parametrize(
    ("of", "damage"),
    [("everything", "garbage"), ("everything", "truncated"), ("chunks", "page"), ("chunks", "empty")],
)
def test_a_damaged_chunk_cache(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home, damage: str, of: str
) -> None:
    """What it held comes from the storage again, and never a wrong byte."""
    sandbox.reset(0)
    files = {"a.bin": pattern(1, 3 * MIB), "b.bin": pattern(2, 100), "c.bin": pattern(3, MIB)}
    for name, data in files.items():
        put(sandbox, name, data)
    mounted = mount(sandbox)
    for name, data in files.items():
        assert (mounted.path / name).read_bytes() == data
    mounted.unmount()
    damaged = [file for file in (home.directory / "cache").rglob("*") if file.is_file()]
    if of == "chunks":
        damaged = [file for file in damaged if "cache.db" not in file.name]
    assert any(file.stat().st_size > MIB // 4 for file in damaged)
    for file in damaged:
        DAMAGES[damage](file)
    again = mount(sandbox, at=mounted.path)
    for one in (mounted, again):
        one.expect_warning("cache|chunk")
    for name, data in files.items():
        assert (again.path / name).read_bytes() == data


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A disk of so many bytes, or one that can't be written."""
    made: list[Path] = []

    def make(size_bytes: int, *, read_only: bool = False) -> Path:
        place = tmp_path / f"disk{len(made)}"
        place.mkdir()
        words = f"size={size_bytes}" + (",ro" if read_only else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", words, "tmpfs", place], check=False)
        if done.returncode:
            pytest.skip("only root may mount a small disk")
        made.append(place)
        return place

    yield make
    for place in made:
        subprocess.run(["umount", "--lazy", place], check=False)


def test_a_full_cache_disk(
    small_disk: Callable[..., Path], sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home
) -> None:
    """No cache then, and every byte."""
    home.environment["XDG_CACHE_HOME"] = str(small_disk(2 * MIB))
    sandbox.reset(0)
    data = pattern(1, 12 * MIB + 3)
    put(sandbox, "big.bin", data)
    mounted = mount_followed(sandbox, mount)
    mounted.expect_warning("cache")
    for _ in range(2):
        assert (mounted.path / "big.bin").read_bytes() == data
    assert "cache" in mounted.log


@pytest.mark.parametrize("read_only", [True, False], ids=["read-only", "full"])
def test_a_cache_disk_that_takes_nothing(
    sandbox: SandboxHandle,
    mount: Callable[..., Mounted],
    home: Home,
    small_disk: Callable[..., Path],
    tmp_path: Path,
    read_only: bool,
) -> None:
    """Either it goes without a cache, or it says what is the matter; here the first."""
    disk = small_disk(MIB, read_only=read_only)
    if not read_only:
        fill(disk)
    home.environment["XDG_CACHE_HOME"] = str(disk)
    sandbox.reset(0)
    put(sandbox, "file.bin", pattern(1, MIB))
    place = tmp_path / "mnt"
    place.mkdir()
    answer = home.procorefs("mount", place, env=sandbox.env())
    try:
        assert answer.returncode == 0 or str(disk) in answer.stderr, answer.stderr
        assert answer.stderr.count("\n") <= 1
        if not answer.returncode:
            assert (place / "file.bin").read_bytes() == pattern(1, MIB)
    finally:
        home.procorefs("umount", place)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


@pytest.mark.parametrize("how", ["read-only", "full", "a file"])
def test_a_state_disk_that_takes_nothing(
    sandbox: SandboxHandle, home: Home, small_disk: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    disk = small_disk(MIB, read_only=how == "read-only") if how != "a file" else tmp_path / "file" / "below"
    if how == "full":
        fill(disk)
    if how == "a file":
        (tmp_path / "file").touch()
    home.environment["XDG_STATE_HOME"] = str(disk)
    place = tmp_path / "mnt"
    place.mkdir()
    answer = home.procorefs("mount", place, env=sandbox.env())
    assert answer.returncode != 0
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    assert "should not have happened" not in answer.stderr, answer.stderr
    assert not os.path.ismount(place)


def test_a_state_disk_that_fills_up(
    small_disk: Callable[..., Path], sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home
) -> None:
    """What is known is served, a look's changes come when there is room again."""
    disk = small_disk(8 * MIB)
    home.environment["XDG_STATE_HOME"] = str(disk)
    sandbox.reset(0)
    put(sandbox, "a.txt", b"known")
    mounted = mount_followed(sandbox, mount, "freshness=0")
    mounted.expect_warning("full|cannot be polled|ended|tree")
    fill(disk)
    for number in range(150):
        sandbox.act("create_folder", path=f"/{number:05} {'x' * 100}")
    for _ in range(2):
        os.listdir(mounted.path)
        assert (mounted.path / "a.txt").read_bytes() == b"known"
    (disk / "filler").unlink()
    wait_until(lambda: len(os.listdir(mounted.path)) == 153, "the changes to be seen", 10)
    mounted.unmount()


def test_a_first_listing_that_does_not_fit(
    small_disk: Callable[..., Path], sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home
) -> None:
    disk = small_disk(MIB)
    home.environment["XDG_STATE_HOME"] = str(disk)
    sandbox.reset(8000)
    mounted = mount(sandbox)
    # The log lies on the same disk, so any of its lines may break off.
    mounted.expect_warning("full|Listing the project failed|tree|ended|operations:|logging")
    walked = subprocess.run(["find", mounted.path], capture_output=True, check=False, timeout=30)
    assert walked.returncode != 0
    assert os.listdir(mounted.path)
    assert mounted.status()["tree"]["state"] == "listing"


def test_the_network_goes_and_comes_back(mount: Callable[..., Mounted], home: Home, tmp_path: Path) -> None:
    options = ("--hourly", "0", "--spike", "0", "--data", str(tmp_path / "procore"))
    with running_sandbox(*options, "--seed", "0") as first:
        put(first, "a.bin", pattern(1, MIB))
        put(first, "unread.bin", pattern(2, 100_000))
        mounted = mount_followed(first, mount, "freshness=0")
        mounted.expect_warning("Procore cannot be polled|unread.bin")
        assert (mounted.path / "a.bin").read_bytes() == pattern(1, MIB)
        port = first.url.rpartition(":")[2]
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    assert sorted(os.listdir(mounted.path)) == ["a.bin", "unread.bin", "walked 1", "walked 2"]
    assert (mounted.path / "a.bin").read_bytes() == pattern(1, MIB)
    handle = os.open(mounted.path / "unread.bin", os.O_RDONLY | os.O_DIRECT)  # one request, no read-ahead
    with pytest.raises(OSError, match="Input/output"):
        os.preadv(handle, [bytearray(100)], 0)
    os.close(handle)
    with running_sandbox(*options, "--port", port) as second:
        put(second, "new.bin", b"after")
        wait_until(lambda: "new.bin" in os.listdir(mounted.path), "the new file", 10)
        assert (mounted.path / "unread.bin").read_bytes() == pattern(2, 100_000)
        assert (mounted.path / "new.bin").read_bytes() == b"after"
        mounted.unmount()


def test_two_users_side_by_side(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """Two accounts of one project in one home: each with a tree of its own, each sees what the other may not."""
    sandbox.reset(0)
    put(sandbox, "shared.txt", b"both")
    sandbox.act("create_folder", path="/private")
    sandbox.act("put", path="/private/mine.txt", text="mine")
    sandbox.act("private", path="/private", on=True)
    sandbox.act("membership", user="first", level="standard")
    first = mount(sandbox, "freshness=0")
    second = mount(sandbox, "freshness=0", second_user=True)
    assert first.pid != second.pid
    assert (first.path / "shared.txt").read_bytes() == (second.path / "shared.txt").read_bytes() == b"both"
    assert not (first.path / "private").exists()
    assert (second.path / "private" / "mine.txt").read_text() == "mine"
    assert len(list(first.home.state.rglob("tree.sqlite"))) == 2
    second.unmount()
    assert (first.path / "shared.txt").read_bytes() == b"both"
