"""A daemon for the commands to talk to: a real control socket and register, an outbox that tests fill by hand."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio

from procorefs.cli.commands import status, umount
from procorefs.cli.main import procorefs, run
from procorefs.cli.mounts import locate
from procorefs.cli.mounts.registry import registered
from procorefs.config import MountOptions, ResolvedMount, find_paths
from procorefs.journal.states import STUCK, ChangeState
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import CompanyId, ProjectId
from procorefs.service.control_socket import serve
from procorefs.service.details import MountDetails
from procorefs.service.file_facts import FileFactsReader
from procorefs.service.request_handler import RequestHandler
from procorefs.service.running_settings import RunningSettings
from procorefs.service.status import MountStatus, Named
from procorefs.storage.mountinfo import Mount
from procorefs.upload.commands import Commands
from procorefs.upload.items import Counts, Item, is_at_or_below

END_S = 10.0


class FakeCommands(Commands):
    """Answers from the items that a test gave it; nothing moves but by the test's hand."""

    def __init__(self) -> None:
        self.listed: list[Item] = []
        self.bytes_pending = 0
        self.eta_seconds: float | None = None
        self.warning = ""
        self.hurried: list[tuple[str, ...]] = []
        self.synced = threading.Event()
        #: called at every question for counts, in the daemon's thread
        self.on_counts: Callable[[], None] = lambda: None
        self._moved = trio.Event()

    def counts(self) -> Counts:
        self.on_counts()
        states = Counter(item.state for item in self.listed)
        return Counts(
            pending=states[ChangeState.PENDING],
            uploading=states[ChangeState.UPLOADING],
            held=states[ChangeState.HELD] + states[ChangeState.CHECKED_OUT],
            failed=states[ChangeState.FAILED] + states[ChangeState.INCOMPLETE],
            bytes_pending=self.bytes_pending,
            eta_seconds=self.eta_seconds,
            warning=self.warning,
            local=states[ChangeState.LOCAL],
            local_bytes=sum(item.bytes for item in self.listed if item.state == "local"),
        )

    def stuck(self, states: Collection[ChangeState], most: int) -> list[Item]:
        return [item for item in self.listed if item.state in states][:most]

    def waiting(self, below: Sequence[str]) -> list[Item]:
        return [item for item in self.listed if is_at_or_below(item.path, below)]

    def hurry(self, below: Sequence[str]) -> None:
        if below:
            self.hurried.append(tuple(below))

    async def settled(self, below: Sequence[str]) -> list[Item]:
        self.hurry(below)
        self.synced.set()
        while any(item.state not in STUCK for item in self.waiting(below)):
            await self._moved.wait()
        return self.waiting(below)

    async def retry(self, below: Sequence[str]) -> list[Item]:
        return self._take(below, {"failed", "incomplete", "checked_out"})

    async def discard(self, below: Sequence[str]) -> list[Item]:
        return self._take(below, {"failed", "incomplete", "held"})

    def move(self, items: list[Item]) -> None:
        """From now on these are waiting."""
        self.listed = items
        self._moved.set()
        self._moved = trio.Event()

    def _take(self, below: Sequence[str], states: set[str]) -> list[Item]:
        taken = [item for item in self.waiting(below) if item.state in states]
        self.listed = [item for item in self.listed if item not in taken]
        return taken


class Served:
    """One mount as far as commands see it."""

    def __init__(self, place: Path, socket: Path) -> None:
        self.place = place
        self.outbox = FakeCommands()
        self.stopped = threading.Event()
        #: what it was told last about the time after its mount point
        self.continues = True
        self._socket = socket
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))
        self._scope = trio.CancelScope()

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(END_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """The daemon is no more."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(END_S)
        assert not self._thread.is_alive()

    def act(self, call: Callable[[], None]) -> None:
        """Do something in the daemon's thread."""
        trio.from_thread.run_sync(call, trio_token=self._token)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        status = MountStatus(str(self.place), Named(2, "Tower"), Named(1, "Acme"))

        async def answered() -> MountStatus:
            return status

        def unmounting(continues: bool) -> None:
            self.continues = continues

        async def detailed() -> MountDetails:
            return MountDetails(status)

        answers = RequestHandler(
            answered,
            detailed,
            self.stopped.set,
            unmounting,
            self.outbox,
            cast(RunningSettings, None),
            cast(FileFactsReader, None),
        )
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(_serve, self._socket, answers))
                self._ready.set()


async def _serve(socket: Path, answers: RequestHandler, *, task_status: trio.TaskStatus[None]) -> None:
    await serve(socket, answers, task_status=task_status)


Start = Callable[[str], Served]


@contextmanager
def starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Gives `start(name)`: a daemon that seems to be mounted at tmp_path/name."""
    for variable in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / "xdg" / variable.lower()))
    runtime = tmp_path / "xdg" / "run"
    runtime.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    mounts: list[Mount] = [Mount(Path("/"), "ext4", "/dev/sda1")]
    monkeypatch.setattr(locate, "read_mounts", lambda: list(mounts))
    monkeypatch.setattr(umount, "read_mounts", lambda: list(mounts))
    monkeypatch.setattr(status, "read_mounts", lambda: list(mounts))
    paths = find_paths(os.environ)
    with ExitStack() as stack:

        def begin(name: str) -> Served:
            place = tmp_path / name
            place.mkdir()
            mounts.append(Mount(place, "fuse.procorefs", "1/2"))
            api = ApiSettings(
                client_id="c", client_secret="s", company_id=CompanyId(1), project_id=ProjectId(2)
            )
            mount = ResolvedMount(api, place, MountOptions(), paths, "1/2")
            stack.enter_context(registered(mount))
            return stack.enter_context(Served(place, mount.control_socket))

        yield begin


FAILED = Item("a/b.pdf", ChangeState.FAILED, "Procore forbids it (403).", 1.7e9)
HELD = Item("a/.b.pdf.x4Kp2Q", ChangeState.HELD)
LOCAL = Item(
    "__MACOSX/plan.dwg",
    ChangeState.LOCAL,
    "it lies in '__MACOSX', and nothing there goes to Procore",
    1.7e9,
    3 << 20,
)
CHECKED_OUT = Item("c.dwg", ChangeState.CHECKED_OUT, "Jane Doe has it checked out")
CUT_OFF = Item("d.ifc", ChangeState.INCOMPLETE)
MOVING = Item("e.pdf", ChangeState.UPLOADING)
LATER = Item("f.pdf", ChangeState.PENDING)


class Running:
    """A command on a thread, for as long as the test acts as Procore meanwhile."""

    def __init__(self, *arguments: str) -> None:
        self.result: int | None = None
        self._thread = threading.Thread(target=self._run, args=(arguments,))
        self._thread.start()

    def _run(self, arguments: tuple[str, ...]) -> None:
        self.result = run(procorefs, arguments)

    @property
    def is_waiting(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> int | None:
        self._thread.join(END_S)
        assert not self._thread.is_alive()
        return self.result


def staying_lines(m: Path) -> list[str]:
    """What `sync` and `umount` say of HELD."""
    return [
        f"procorefs: {m}/a/.b.pdf.x4Kp2Q (0 bytes) stays on this machine: it has a temporary name: programs write "
        "under such names, and an interrupted copy leaves one; to upload it, rename it, or leave it unchanged "
        "for an hour"
    ]
