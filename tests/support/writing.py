"""A mount that is written to, and what becomes of it in Procore: bytes, versions, ids, and the calls that it took.

project = mount_project("freshness=3600")    a mount of an empty project, listed
with project.counted() as calls: …           what the sandbox counted meanwhile
project.sync()                               everything is in Procore, without waiting its time
project.assert_same(source)                  Procore has these folders and files, byte for byte, and nothing else
"""

import ctypes
import errno
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from procorefs.service.control_socket import Left, StatusRequest, SyncRequest, WaitingRequest, ask
from procorefs.service.status import MountStatus
from procorefs.upload.items import Item
from tests.support.mounting import PATIENCE, UNLISTED, Mounted, list_all, wait_until
from tests.support.sandbox import SandboxHandle

AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2
SYNC_TIMEOUT_S = 60.0 * PATIENCE


@dataclass(slots=True)
class Counted:
    """API calls, by route; downloads and uploads of bytes beside them."""

    by_route: dict[str, int] = field(default_factory=dict)
    other: dict[str, int] = field(default_factory=dict)
    bytes_read: int = 0

    @property
    def total(self) -> int:
        return sum(self.by_route.values())

    @property
    def reads(self) -> int:
        return sum(count for route, count in self.by_route.items() if route.startswith("GET "))

    @property
    def polls(self) -> int:
        """Those of the list of all documents, which come due by time: more of them the longer the rest takes."""
        return sum(count for route, count in self.by_route.items() if route.endswith("/documents"))

    @property
    def writes(self) -> int:
        return self.total - self.reads

    @property
    def uploads(self) -> int:
        """Transfers of bytes to the storage."""
        return sum(count for route, count in self.other.items() if route.startswith(("storage P",)))


@dataclass(frozen=True, slots=True)
class InProcore:
    """A file as the sandbox has it."""

    id: int
    numbers: list[int]
    sizes: list[int]
    sha256: str
    description: str

    @property
    def version(self) -> int:
        return self.numbers[0]


def _size_bytes(path: Path) -> int:
    """Nothing for one that has just gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class MountedProject:
    """One mount and its project."""

    def __init__(self, sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
        """`mount(options…)` makes a mount of the sandbox."""
        self.sandbox = sandbox
        self._mount = mount
        self.mounted = mount()

    def remount(self, *options: str) -> None:
        """Unmount by the command, and mount again where it was."""
        self.mounted.unmount()
        self.mount_again(*options)

    def mount_again(self, *options: str) -> None:
        """Where it was; what may stand in the log may stand there still."""
        before = self.mounted
        self.mounted = self._mount(*options, at=before.path)
        self.mounted.expect_warnings_of(before)

    def mount_after_end(self, *options: str, at: Path | None = None) -> None:
        """Mount after the daemon was killed or has ended, where it was or elsewhere."""
        self.mounted = self._mount(*options, at=at or self.path)

    @property
    def path(self) -> Path:
        return self.mounted.path

    @contextmanager
    def counted(self) -> Iterator[Counted]:
        """Counts what is called within; complete when it is left. The first listing of the project is over before."""
        self.await_listed()
        self.sandbox.reset_calls()
        counted = Counted()
        yield counted
        report = self.sandbox.calls()
        counted.by_route, counted.other = report["by_route"], report["other"]
        counted.bytes_read = report["storage_bytes_sent"]

    def await_listed(self) -> None:
        """Return when the whole project was listed: that begins by itself, some seconds after the mount."""
        wait_until(lambda: self._tree_state() == "complete", "the project to be listed")

    def _tree_state(self) -> str:
        return ask(self._socket, StatusRequest(), MountStatus).tree.state

    @property
    def _socket(self) -> Path:
        return control_socket(self.mounted)

    def settle(self, *paths: str) -> list[Item]:
        """What `procorefs sync` waits for; returns what can't move, and what stays here because of its name."""
        request = SyncRequest(paths or ("",))
        left = ask(self._socket, request, Left, timeout_s=SYNC_TIMEOUT_S)
        return left.items + left.staying.items

    def sync(self, *paths: str) -> None:
        """The same, and nothing may be left."""
        left = self.settle(*paths)
        assert not left, left

    def waiting(self, *paths: str) -> list[Item]:
        left = ask(self._socket, WaitingRequest(paths or ("",)), Left)
        return left.items + left.staying.items

    def list_all(self) -> None:
        """From now on looks tell what others do. Only after `make_unlisted`, whose folders are gone then."""
        list_all(self.path)
        assert self.mounted.status()["tree"]["state"] == "complete"
        for name in UNLISTED:
            (self.path / name).rmdir()
        self.sync()

    def await_nothing_staged(self) -> None:
        """What is superfluous goes with the next group commit: fsync makes it come now."""
        folder = os.open(self.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        wait_until(lambda: not self.staged(), "the staged files to go")

    def staged(self) -> list[Path]:
        """The files in the staging folder: bytes that are not, or not yet known to be, in Procore.

        Empty ones are not told from those made ahead.
        """
        folders = self.mounted.home.state.rglob("staging")
        return [path for folder in folders for path in folder.iterdir() if _size_bytes(path)]

    def files(self) -> dict[str, InProcore]:
        """By path from the project's root, without the first slash."""
        found: dict[str, Any] = self.sandbox.inventory()["files"]
        return {path[1:]: InProcore(**file) for path, file in found.items()}

    def file(self, path: str) -> InProcore:
        return self.files()[path]

    def folders(self) -> set[str]:
        return {path[1:] for path in self.sandbox.inventory()["folders"]}

    def binned(self) -> list[str]:
        found: list[str] = self.sandbox.inventory()["binned"]
        return found

    def assert_same(self, source: Path, below: str = "") -> None:
        """Procore has what lies in a local directory, in its folder `below`, and nothing else."""
        inventory = self.sandbox.inventory()
        prefix = f"/{below}/" if below else "/"
        folders = {path.removeprefix(prefix) for path in inventory["folders"] if path.startswith(prefix)}
        files = {
            path.removeprefix(prefix): file["sha256"]
            for path, file in inventory["files"].items()
            if path.startswith(prefix)
        }
        assert folders == {str(p.relative_to(source)) for p in source.rglob("*") if p.is_dir()}
        assert files == {
            str(path.relative_to(source)): sha256(path.read_bytes())
            for path in source.rglob("*")
            if path.is_file()
        }

    def assert_saved(self, path: str, before: InProcore | None, data: bytes, *, versions: int = 1) -> None:
        """Procore has these bytes under that name, in the document of before, and so many versions more."""
        now = self.file(path)
        assert now.sha256 == sha256(data), f"{path} has {now.sizes[0]} bytes instead of {len(data)}"
        if before is not None:
            assert now.id == before.id
            assert now.version == before.version + versions, now.numbers
        else:
            assert now.numbers == [1]
        assert (self.path / path).read_bytes() == data


def control_socket(mounted: Mounted) -> Path:
    """The daemon's ear."""
    sockets = list(Path(mounted.home.environment["XDG_RUNTIME_DIR"]).rglob("*.sock"))
    named = [path for path in sockets if is_of(path, mounted)]
    assert len(named) == 1, sockets
    return named[0]


def is_of(socket: Path, mounted: Mounted) -> bool:
    from procorefs.service.control_socket import ControlError, StatusRequest
    from procorefs.service.status import MountStatus

    try:
        return ask(socket, StatusRequest(), MountStatus).mountpoint == str(mounted.path)
    except ControlError:
        return False


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def errno_name(attempt: Callable[[], object]) -> str:
    """What an attempt is refused with: 'ENOENT'; '' when it is not."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def renameat2(source: Path, target: Path, flags: int) -> None:
    """renameat2(2), with NOREPLACE or EXCHANGE."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def make_tree(root: Path, *, files: int, folders: int, largest_bytes: int = 200 << 10, seed: int = 1) -> Path:
    """Files of 1 KiB to `largest_bytes` in folders of several depths; times lie in the past and have nanoseconds."""
    chance = random.Random(seed)
    places = [root]
    root.mkdir(parents=True)
    for number in range(folders):
        place = chance.choice(places[:8]) / f"folder {number:02}"
        place.mkdir()
        places.append(place)
    for number in range(files):
        path = places[1 + number % folders] / f"file {number:03}.{chance.choice(('pdf', 'dwg', 'txt'))}"
        path.write_bytes(chance.randbytes(chance.randint(1 << 10, largest_bytes)))
        moment_ns = 1_600_000_000_000_000_000 + chance.randrange(10**17)
        os.utime(path, ns=(moment_ns, moment_ns))
    for place in sorted(places, reverse=True):
        os.utime(place, ns=(moment_ns, moment_ns))
    return root


@pytest.fixture
def mount_project(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> Callable[..., MountedProject]:
    """`mount_project("fsync=remote", prepare=…)`: a mount of a project of so many `documents`, and what it prepares."""

    def make(
        *options: str,
        documents: int = 0,
        prepare: Callable[[SandboxHandle], object] = lambda _sandbox: None,
    ) -> MountedProject:
        sandbox.reset(documents)
        prepare(sandbox)

        def make_mount(*others: str, **places: Any) -> Mounted:
            return mount(sandbox, *(others or options), **places)

        return MountedProject(sandbox, make_mount)

    return make
