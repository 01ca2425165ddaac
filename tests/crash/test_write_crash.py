"""kill -9 of a daemon that writes: at random moments, and at each step of the journal by holding it there.

Whatever the moment: what was closed arrives byte for byte, once, and nothing else does.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.forked import forks
from tests.support.mounting import Home, Mounted, ThreadOf, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, sha256
from tests.support.xattrs import getfattr

KILLS = 50
LONGEST_S = 0.6
"""A round of rsync and what it starts takes about so long; kills come at any moment of it."""

LEFT_BY_CRASHES = r"was being written when the daemon ended|can't be reached|guard"


class Source:
    """A tree that changes between two runs of rsync; every state of a file has a size of its own."""

    def __init__(self, root: Path, chance: random.Random, files: int) -> None:
        self.root = root
        self._chance = chance
        self.states: dict[str, list[bytes]] = {}
        self._serial = 0
        for number in range(files):
            self.write(f"folder {number % 4}/deep {number % 3}/file {number:02}.txt")

    def write(self, path: str) -> None:
        self._serial += 1
        size_bytes = 200 + 7 * self._serial
        data = (f"{path} in state {self._serial}\n".encode() * size_bytes)[:size_bytes]
        self.states.setdefault(path, []).append(data)
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        moment_s = 1_600_000_000 + self._serial
        os.utime(place, (moment_s, moment_s))

    def change_some(self) -> None:
        for path in self._chance.sample(sorted(self.states), 4):
            self.write(path)
        self.write(f"folder {self._chance.randrange(4)}/new {self._serial}.txt")


@contextmanager
def killed(home: Home, sandbox: SandboxHandle, place: Path, log: Path) -> Iterator[None]:
    """A mount in the foreground that answers within, and is killed at the end."""
    with (
        log.open("ab") as told,
        forks().start(
            "mount", "-f", "-o", "write_back=0", place, env=home.environment | sandbox.env(), stderr=told
        ) as daemon,
    ):
        wait_until(lambda: os.path.ismount(place) or daemon.poll() is not None, "the mount")
        try:
            yield
        finally:
            daemon.kill()
            daemon.wait()
    wait_until(lambda: not is_mounted(place), "the mount to go")


def test_killed_at_any_moment_while_rsync_runs(
    sandbox: SandboxHandle, home: Home, mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    """Each round some files change and rsync carries them over, until the daemon dies under it."""
    sandbox.reset(0)
    chance = random.Random(2718)
    source = Source(tmp_path / "source", chance, files=30)
    place, log = tmp_path / "mnt", tmp_path / "daemons.log"
    place.mkdir()
    for _ in range(KILLS):
        with killed(home, sandbox, place, log):
            copying = rsync(source.root, place)
            time.sleep(chance.random() * LONGEST_S)  # the moment of the kill is drawn; nothing is waited for
        copying.wait(10)
        empty(place)
        source.change_some()
    assert "Traceback" not in log.read_text(), log.read_text()
    mounted = mount(sandbox, "write_back=0", at=place)
    mounted.expect_warning(LEFT_BY_CRASHES)
    assert rsync(source.root, place).wait(60) == 0
    discard_temporary_files(mounted)
    assert_arrived(sandbox, mounted, source)
    mounted.unmount()


def is_mounted(place: Path) -> bool:
    """Also of a mount whose daemon is dead, which answers no stat."""
    return f" {place} " in Path("/proc/self/mountinfo").read_text()


def rsync(source: Path, target: Path) -> "subprocess.Popen[bytes]":
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(["rsync", "-a", f"{source}/", f"{target}/"], stdout=nowhere, stderr=nowhere)


def empty(place: Path) -> None:
    """A copy that began after the end has written to the bare mount point."""
    assert not is_mounted(place)
    for entry in place.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def discard_temporary_files(mounted: Mounted) -> None:
    """What rsync was just writing when the daemon died is kept, shown and named; people throw it away."""
    told = mounted.home.procorefs("sync", mounted.path)
    left = sorted(path for path in mounted.path.rglob(".*") if path.is_file())
    states = {getfattr(path, "user.procore.state") for path in left}
    assert states <= {"held", "incomplete"}, (told, states)
    assert told.returncode == ("incomplete" in states), told  # what is only held is named, and no failure
    if left:
        assert all(str(path) in told.stderr or path.name in told.stderr for path in left), told.stderr
        answer = mounted.home.procorefs("discard", *left)
        assert answer.returncode == 0, answer.stderr
    answer = mounted.home.procorefs("sync", mounted.path)
    assert answer.returncode == 0, answer.stderr


def assert_arrived(sandbox: SandboxHandle, mounted: Mounted, source: Source) -> None:
    """Each file exactly as written, no document too many, and each version one of the states, in their order."""
    inventory = sandbox.inventory()
    newest = {f"/{path}": sha256(states[-1]) for path, states in source.states.items()}
    assert {path: file["sha256"] for path, file in inventory["files"].items()} == newest
    for path, states in source.states.items():
        assert (mounted.path / path).read_bytes() == states[-1]
        sizes = list(reversed(inventory["files"][f"/{path}"]["sizes"]))
        written = [len(state) for state in states]
        assert sizes == [size for size in written if size in sizes], f"{path}: {sizes} of {written}"
    folders = {f"/{p.relative_to(source.root)}" for p in source.root.rglob("*") if p.is_dir()}
    assert set(inventory["folders"]) == folders
    assert inventory["binned"] == []


# Each step, held by the sandbox


class Step:
    """Where the daemon is held, and whether Procore has done by then what was asked."""

    def __init__(self, name: str, route: str, when: str, *, size_bytes: int = 5000) -> None:
        self.name, self.route, self.when, self.size_bytes = name, route, when, size_bytes

    def __str__(self) -> str:
        return f"{self.when} {self.name}"


LARGE = 33 << 20
STEPS = [
    *(Step("begin", "POST *uploads", when) for when in ("before", "after")),
    *(Step("the bytes", "storage POST", when) for when in ("before", "after")),
    *(Step("the last call", "POST /rest/v1.0/files", when) for when in ("before", "after")),
    *(Step("putting together", "PATCH *uploads/*", when, size_bytes=LARGE) for when in ("before", "after")),
    Step("a segment", "storage PUT", "after", size_bytes=LARGE),
]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_killed_at_a_step_of_a_new_file(mount_project: Callable[..., MountedProject], step: Step) -> None:
    project = mount_project("write_back=0")
    data = random.Random(1).randbytes(step.size_bytes)
    hold(project, step)
    (project.path / "plan.dwg").write_bytes(data)
    project.sandbox.wait_for_silent_calls()
    crash(project)
    with project.counted() as calls:
        project.sync()
    assert project.file("plan.dwg").sizes == [len(data)]
    project.assert_saved("plan.dwg", None, data)
    assert project.binned() == []
    if step.size_bytes == LARGE:
        assert calls.other.get("storage PUT", 0) < 3, "segments that had arrived were sent again"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["storage POST", "PATCH /rest/v1.0/files/{id}"])
def test_killed_at_a_step_of_a_new_version(
    mount_project: Callable[..., MountedProject], what: str, when: str
) -> None:
    project = mount_project("write_back=0")
    (project.path / "plan.dwg").write_bytes(b"first")
    project.sync()
    before = project.file("plan.dwg")
    hold(project, Step("", what, when))
    (project.path / "plan.dwg").write_bytes(b"second state")
    project.sandbox.wait_for_silent_calls()
    crash(project)
    project.sync()
    project.assert_saved("plan.dwg", before, b"second state")


@pytest.mark.parametrize("is_new", [False, True])
def test_killed_after_the_last_call_and_a_colleague_was_faster(
    mount_project: Callable[..., MountedProject], is_new: bool
) -> None:
    """Ours is in the history, beneath the colleague's: it is found there and not sent once more."""
    project = mount_project("write_back=0")
    if not is_new:
        (project.path / "plan.dwg").write_bytes(b"first")
        project.sync()
    route = "POST /rest/v1.0/files" if is_new else "PATCH /rest/v1.0/files/{id}"
    hold(project, Step("", route, "after"))
    (project.path / "plan.dwg").write_bytes(b"second state")
    project.sandbox.wait_for_silent_calls()
    project.sandbox.act("put", path="/plan.dwg", text="a colleague's on top of it")
    project.sandbox.act("put", path="/plan.dwg", text="a colleague's second")
    crash(project)
    project.mounted.expect_warning("was created by another user")
    project.sync()
    sizes = [20, 26, 12] if is_new else [20, 26, 12, 5]
    assert project.file("plan.dwg").sizes == sizes
    assert (project.path / "plan.dwg").read_bytes() == b"a colleague's second"
    wait_until(lambda: project.staged() == [], "the staged file to go")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["mkdir", "rename", "move", "unlink", "rmdir"])
def test_killed_at_a_change_of_the_tree(
    mount_project: Callable[..., MountedProject], what: str, when: str
) -> None:
    project = mount_project("write_back=0")
    place = project.path
    (place / "folder").mkdir()
    (place / "empty").mkdir()
    (place / "plan.dwg").write_bytes(b"bytes")
    project.sync()
    before = project.file("plan.dwg")
    route = {
        "mkdir": "POST /rest/v1.0/folders",
        "rmdir": "DELETE /rest/v1.0/folders/{id}",
        "unlink": "DELETE /rest/v1.0/files/{id}",
    }.get(what, "PATCH /rest/v1.0/files/{id}")
    hold(project, Step(what, route, when))
    match what:
        case "mkdir":
            (place / "new").mkdir()
            (place / "new" / "inside.txt").write_bytes(b"inside")
        case "rename":
            (place / "plan.dwg").rename(place / "renamed.dwg")
        case "move":
            (place / "plan.dwg").rename(place / "folder" / "moved.dwg")
        case "unlink":
            (place / "plan.dwg").unlink()
        case "rmdir":
            (place / "empty").rmdir()
    with ThreadOf(project.settle):
        project.sandbox.wait_for_silent_calls()
        crash(project)
    project.sync()
    names = {"rename": "renamed.dwg", "move": "folder/moved.dwg"}
    files, folders = project.files(), project.folders()
    assert folders == {
        "folder",
        *(["empty"] if what != "rmdir" else []),
        *(["new"] if what == "mkdir" else []),
    }
    assert project.binned() == {"unlink": ["plan.dwg"], "rmdir": ["empty"]}.get(what, [])
    if what == "unlink":
        assert not files
    else:
        assert files.pop(names.get(what, "plan.dwg")) == before
        assert set(files) == ({"new/inside.txt"} if what == "mkdir" else set())


def hold(project: MountedProject, step: Step) -> None:
    """The next such call gets no answer until the release."""
    project.sandbox.faults(rules=[{"kind": "silence", "route": step.route, "when": step.when, "count": 1}])


def crash(project: MountedProject) -> None:
    """kill -9, and a mount in the same place; whoever was held may go on meanwhile."""
    project.mounted.expect_warning(LEFT_BY_CRASHES)
    project.mounted.kill()
    wait_until(lambda: not is_mounted(project.path), "the mount to go")
    project.sandbox.release()
    project.mount_after_end()
    project.mounted.expect_warning(LEFT_BY_CRASHES)


# What lies on disk


def test_what_was_never_closed_is_shown_and_not_sent(
    mount_project: Callable[..., MountedProject],
) -> None:
    project = mount_project("write_back=0")
    with open_and_write(project.path / "half.dwg", b"half a pl"):
        crash(project)
    [item] = project.settle()
    assert (item.path, item.state) == ("half.dwg", "incomplete")
    assert (project.path / "half.dwg").read_bytes() == b"half a pl"
    assert project.files() == {}
    assert project.mounted.home.procorefs("retry", project.path / "half.dwg").returncode == 0
    project.sync()
    project.assert_saved("half.dwg", None, b"half a pl")


def test_a_new_name_does_not_send_what_was_cut_off(
    mount_project: Callable[..., MountedProject],
) -> None:
    project = mount_project("write_back=0")
    (project.path / "plan.dwg").write_bytes(b"the plan as it was saved")
    project.sync()
    saved = project.file("plan.dwg")
    with (
        open_and_write(project.path / "half.dwg", b"half"),
        open_and_write(project.path / "plan.dwg", b"torn"),
    ):
        crash(project)
    for name in ("half.dwg", "plan.dwg"):
        (project.path / name).rename(project.path / f"new {name}")
    assert {item.path: item.state for item in project.settle()} == dict.fromkeys(
        ("new half.dwg", "new plan.dwg"), "incomplete"
    )
    assert project.files() == {"new plan.dwg": saved}
    assert (project.path / "new plan.dwg").read_bytes() == b"torn"
    assert project.mounted.home.procorefs("retry", project.path / "new half.dwg").returncode == 0
    assert project.mounted.home.procorefs("discard", project.path / "new plan.dwg").returncode == 0
    project.sync()
    project.assert_saved("new half.dwg", None, b"half")
    assert (project.path / "new plan.dwg").read_bytes() == b"the plan as it was saved"


def test_what_was_closed_and_is_written_anew_when_the_daemon_dies(
    mount_project: Callable[..., MountedProject],
) -> None:
    """`cp` over a file that still waits: neither an empty version nor half a one."""
    project = mount_project("write_back=600")
    (project.path / "plan.dwg").write_bytes(b"the state that was closed")
    with open_and_write(project.path / "plan.dwg", b"the new st"):
        crash(project)
    [item] = project.settle()
    assert item.state == "incomplete"
    assert (project.path / "plan.dwg").read_bytes() == b"the new st"
    assert project.files() == {}


@contextmanager
def open_and_write(path: Path, data: bytes) -> Iterator[None]:
    """Open for writing anew while the daemon dies; the close can only fail."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, data)
    try:
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


@pytest.mark.parametrize("is_new", [True, False])
def test_the_tree_knows_the_answer_and_the_journal_does_not(
    mount_project: Callable[..., MountedProject], tmp_path: Path, is_new: bool
) -> None:
    """Killed between the two: the journal and the staged bytes are as they were before the upload."""
    project = mount_project("write_back=600")
    before = None
    if not is_new:
        (project.path / "plan.dwg").write_bytes(b"first")
        project.sync()
        before = project.file("plan.dwg")
    (project.path / "plan.dwg").write_bytes(b"the plan")
    [journal] = project.mounted.home.state.rglob("journal.sqlite")
    earlier = tmp_path / "earlier"
    os.kill(project.mounted.pid, signal.SIGSTOP)
    shutil.copytree(journal.parent, earlier)
    os.kill(project.mounted.pid, signal.SIGCONT)
    project.sync()
    project.mounted.expect_warning(LEFT_BY_CRASHES)
    project.mounted.kill()
    wait_until(lambda: not is_mounted(project.path), "the mount to go")
    shutil.rmtree(journal.parent / "staging")
    shutil.copytree(earlier / "staging", journal.parent / "staging")
    for pattern in ("journal.sqlite*", "staging.sequence"):  # else it would be an older journal, put back
        for file in journal.parent.glob(pattern):
            file.unlink()
        for file in earlier.glob(pattern):
            shutil.copy(file, journal.parent)
    project.mount_after_end()
    project.sync()
    project.assert_saved("plan.dwg", before, b"the plan")
    assert len(project.files()) == 1


@pytest.mark.parametrize("which", ["tree.sqlite", "journal.sqlite"])
def test_a_damaged_database(mount_project: Callable[..., MountedProject], which: str) -> None:
    """Without the tree the journal goes on; without the journal all that is staged is shown, and nothing of it goes."""
    project = mount_project("write_back=600")
    (project.path / "folder").mkdir()
    (project.path / "folder" / "old.dwg").write_bytes(b"old")
    project.sync()
    old = project.file("folder/old.dwg")
    (project.path / "folder" / "old.dwg").write_bytes(b"newer")
    (project.path / "folder" / "new.dwg").write_bytes(b"brand new")
    project.mounted.expect_warning(
        f"{LEFT_BY_CRASHES}|damaged|journal of what was written is lost|wait until it is"
    )
    project.mounted.kill()
    wait_until(lambda: not is_mounted(project.path), "the mount to go")
    [database] = project.mounted.home.state.rglob(which)
    for side in ("-wal", "-shm"):
        database.with_name(which + side).unlink(missing_ok=True)
    database.write_bytes(b"no database" * 1000)
    project.mount_after_end()
    project.mounted.expect_warning("damaged|journal of what was written is lost|wait until it is")
    if which == "tree.sqlite":
        project.sync()
        project.assert_saved("folder/old.dwg", old, b"newer")
        project.assert_saved("folder/new.dwg", None, b"brand new")
        assert project.folders() == {"folder"}
        return
    for _ in range(2):
        left = {item.path: item.state for item in project.settle()}
        assert left.pop("folder/old.dwg") == left.pop("folder/new.dwg") == "incomplete"
        # Of the bytes that had just gone nobody knows any more that they are not needed.
        assert all(path.startswith("Recovered folder") for path in left), left
        assert (project.path / "folder/old.dwg").read_bytes() == b"newer"
        assert (project.path / "folder/new.dwg").read_bytes() == b"brand new"
        project.mounted.unmount(leaves=True)
        project.mount_again()
    assert project.files().keys() == {"folder/old.dwg"}
    assert project.file("folder/old.dwg") == old
