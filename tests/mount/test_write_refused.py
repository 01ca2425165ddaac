"""What can't be: the errno that Linux users expect, nothing changed, and the reason in the log and in `status`."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounting import wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, errno_name

FORBIDDEN = "?<>:|\\*"
CONTROL = "\x01\t\n\x1f\x7f"
SPACES = " \u00a0\u2003\u3000"


def fill(sandbox: SandboxHandle) -> None:
    sandbox.act("create_folder", path="/folder")
    sandbox.act("put", path="/folder/inside.txt", text="inside")
    sandbox.act("put", path="/plan.txt", text="plan")
    sandbox.act("put", path="/locked.txt", text="locked")
    sandbox.act("read_only", path="/locked.txt")
    sandbox.act("create_folder", path="/locked folder")
    sandbox.act("read_only", path="/locked folder")


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    project = mount_project("freshness=3600", prepare=fill)
    os.listdir(project.path / "folder")
    os.listdir(project.path / "locked folder")
    return project


def makings(project: MountedProject, name: bytes | str) -> dict[str, str]:
    """The errno of each way to give an entry that name, in a folder and in the root."""
    folder, name = os.fsencode(project.path), os.fsencode(name)
    found = {}
    for place in (folder, folder + b"/folder"):
        path = place + b"/" + name
        attempts: dict[str, Callable[[], object]] = {
            "create": lambda path=path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),  # type: ignore[misc]
            "mkdir": lambda path=path: os.mkdir(path),  # type: ignore[misc]
            "mknod": lambda path=path: os.mknod(path, stat.S_IFREG | 0o644),  # type: ignore[misc]
            "rename": lambda path=path: os.rename(folder + b"/plan.txt", path),  # type: ignore[misc]
            "rename folder": lambda: os.rename(folder + b"/folder", folder + b"/" + name),
        }
        for kind, attempt in attempts.items():
            found[f"{kind} in {os.path.basename(place).decode()}"] = errno_name(attempt)
    return found


def test_names_that_procore_does_not_take(project: MountedProject) -> None:
    before = project.sandbox.inventory()
    for character in FORBIDDEN + CONTROL:
        for name in (character, f"{character}a", f"a{character}b.txt", f"a{character}", f"ä.t{character}t"):
            assert set(makings(project, name).values()) == {"EINVAL"}, name
    for space in SPACES:
        for name in (space, f"a{space}", f"a{space}.txt", f"{space}.txt", f"a.b{space}.c", f"a.txt{space}"):
            assert set(makings(project, name).values()) == {"EINVAL"}, name
    for raw in (b"\xff", b"a\xc3", b"\xe4.txt", b"a\xed\xa0\x80"):
        assert set(makings(project, raw).values()) == {"EILSEQ"}, raw
    for name in ("n" * 256, "ü" * 128):
        assert set(makings(project, name).values()) == {"ENAMETOOLONG"}, name
    with project.counted() as calls:
        project.sync()
    assert calls.total == 0
    assert project.sandbox.inventory() == before
    assert set(os.listdir(project.path)) == {"folder", "plan.txt", "locked.txt", "locked folder"}


def test_the_reason_is_told(project: MountedProject) -> None:
    assert errno_name(lambda: (project.path / "folder" / "a:b.txt").write_bytes(b"x")) == "EINVAL"
    refusal = project.mounted.status()["refusals"][0]
    assert refusal["path"].endswith("folder") or refusal["path"].endswith("a:b.txt"), refusal
    assert "':', U+003A" in refusal["reason"]
    assert "a:b.txt" in refusal["reason"]
    assert refusal["reason"] in project.mounted.log


def test_the_longest_names_and_paths(project: MountedProject) -> None:
    """A path from the root of the project of 255 characters goes, of whatever bytes; one of 256 does not."""
    longest = "n" * 255
    (project.path / longest).write_bytes(b"x")
    wide = "ü" * 120
    (project.path / wide).mkdir()
    (project.path / wide / ("ö" * 120)).mkdir()
    deep = project.path / wide / ("ö" * 120)
    name = "f" * (255 - 242)
    (deep / name).write_bytes(b"deep")
    assert errno_name(lambda: (deep / f"{name}g").write_bytes(b"x")) == "ENAMETOOLONG"
    assert errno_name(lambda: (deep / f"{name}g").mkdir()) == "ENAMETOOLONG"
    assert errno_name(lambda: (project.path / wide).rename(project.path / ("ü" * 121))) == "ENAMETOOLONG"
    assert errno_name(lambda: (project.path / wide).rename(project.path / "folder" / wide)) == "ENAMETOOLONG"
    (deep / f".{name}.x4Kp2Q").write_bytes(b"rsync needs eight more")
    (deep / f".{name}.x4Kp2Q").rename(deep / name)
    project.sync()
    assert {longest, f"{wide}/{'ö' * 120}/{name}"} <= set(project.files())


def test_places_that_are_not_there(project: MountedProject) -> None:
    path = project.path
    cases: dict[str, tuple[Callable[[], object], str]] = {
        "through a file": (lambda: (path / "plan.txt" / "a.txt").write_bytes(b"x"), "ENOTDIR"),
        "mkdir through a file": (lambda: (path / "plan.txt" / "a").mkdir(), "ENOTDIR"),
        "rename into a file": (lambda: (path / "folder").rename(path / "plan.txt" / "a"), "ENOTDIR"),
        "in no folder": (lambda: (path / "none" / "a.txt").write_bytes(b"x"), "ENOENT"),
        "remove nothing": (lambda: (path / "none").unlink(), "ENOENT"),
        "rmdir nothing": (lambda: (path / "none").rmdir(), "ENOENT"),
        "rename nothing": (lambda: (path / "none").rename(path / "other"), "ENOENT"),
        "mkdir what is there": (lambda: (path / "folder").mkdir(), "EEXIST"),
        "mkdir a file": (lambda: (path / "plan.txt").mkdir(), "EEXIST"),
        "create exclusively": (lambda: (path / "plan.txt").open("xb"), "EEXIST"),
        "write to a folder": (lambda: (path / "folder").write_bytes(b"x"), "EISDIR"),
        "truncate a folder": (lambda: os.truncate(path / "folder", 0), "EISDIR"),
        "rmdir a full one": (lambda: (path / "folder").rmdir(), "ENOTEMPTY"),
        "rmdir a file": (lambda: (path / "plan.txt").rmdir(), "ENOTDIR"),
        "unlink a folder": (lambda: (path / "folder").unlink(), "EISDIR"),
        "rmdir the root": (lambda: path.rmdir(), "EBUSY"),
    }
    before = project.sandbox.inventory()
    wrong = {}
    for name, (attempt, wanted) in cases.items():
        found = errno_name(attempt)
        if found != wanted:
            wrong[name] = (found, wanted)
    assert not wrong
    project.sync()
    assert project.sandbox.inventory() == before


def test_handles_that_do_not_write(project: MountedProject) -> None:
    handle = os.open(project.path / "plan.txt", os.O_RDONLY)
    try:
        assert errno_name(lambda: os.write(handle, b"x")) == "EBADF"
        assert errno_name(lambda: os.ftruncate(handle, 0)) in {"EINVAL", "EBADF"}
    finally:
        os.close(handle)
    handle = os.open(project.path / "plan.txt", os.O_WRONLY)
    try:
        assert errno_name(lambda: os.read(handle, 1)) == "EBADF"
    finally:
        os.close(handle)
    project.sync()
    assert project.file("plan.txt").numbers == [1]


def test_what_documents_can_not_be(project: MountedProject) -> None:
    path = project.path

    def bind() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(path)
            try:
                server.bind("socket")
            finally:
                os.chdir("/")

    attempts: list[Callable[[], object]] = [
        lambda: (path / "link").symlink_to("plan.txt"),
        lambda: (path / "link").hardlink_to(path / "plan.txt"),
        lambda: os.mkfifo(path / "fifo"),
        lambda: os.mknod(path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        bind,
    ]
    assert [errno_name(attempt) for attempt in attempts] == ["EPERM"] * len(attempts)
    assert set(os.listdir(path)) == {"folder", "plan.txt", "locked.txt", "locked folder"}


def test_what_procore_has_read_only(project: MountedProject) -> None:
    """Checked by us, for root too."""
    path = project.path
    assert stat.S_IMODE((path / "locked.txt").stat().st_mode) == 0o444
    attempts: list[Callable[[], object]] = [
        lambda: (path / "locked.txt").write_bytes(b"x"),
        lambda: (path / "locked.txt").open("ab"),
        lambda: (path / "locked.txt").open("r+b"),
        lambda: os.truncate(path / "locked.txt", 1),
        lambda: (path / "locked.txt").unlink(),
        lambda: (path / "locked.txt").rename(path / "other.txt"),
        lambda: (path / "plan.txt").rename(path / "locked.txt"),
        lambda: (path / "locked folder").rmdir(),
        lambda: (path / "locked folder").rename(path / "other"),
        lambda: (path / "locked folder" / "a.txt").write_bytes(b"x"),
        lambda: (path / "locked folder" / "a").mkdir(),
        lambda: (path / "plan.txt").rename(path / "locked folder" / "plan.txt"),
    ]
    before = project.sandbox.inventory()
    assert [errno_name(attempt) for attempt in attempts] == ["EACCES"] * len(attempts)
    assert (path / "locked.txt").read_bytes() == b"locked"
    project.sync()
    assert project.sandbox.inventory() == before


def test_names_are_mapped_to_twins_and_back(
    mount_project: Callable[..., MountedProject], tmp_path: Path
) -> None:
    project = mount_project("invalid_names=encode")
    names = {"a:b?.txt", "c*|d", "ends ", "before .txt", "plain.txt", "\uff1aalready", "tab\t"}
    for name in names:
        (project.path / name).write_bytes(name.encode())
    (project.path / "folder<1>").mkdir()
    (project.path / "folder<1>" / "q?").write_bytes(b"inside")
    project.sync()
    assert not [path for path in project.files() if set(path) & set(FORBIDDEN + CONTROL)]
    project.remount("invalid_names=encode")
    assert set(os.listdir(project.path)) == {*names, "folder<1>"}
    for name in names:
        assert (project.path / name).read_bytes() == name.encode()
    (project.path / "a:b?.txt").rename(project.path / "e:f")
    (project.path / "folder<1>" / "q?").unlink()
    project.sync()
    assert (project.path / "e:f").read_bytes() == b"a:b?.txt"
    assert errno_name(lambda: (project.path / "a:b?.txt").stat()) == "ENOENT"
    assert "folder\uff1c1\uff1e" in project.folders()


def test_a_project_where_nothing_may_be_written(project: MountedProject) -> None:
    """Found out when it is sent: the bytes stay, the reason is told, and `retry` works once it is allowed again."""
    project.mounted.expect_warning("was refused")
    project.sandbox.act("membership", user="first", level="read")
    (project.path / "fresh.txt").write_bytes(b"fresh")
    (project.path / "plan.txt").write_bytes(b"changed")
    (project.path / "folder" / "inside.txt").unlink()
    left = {item.path: item for item in project.settle()}
    assert {path: item.state for path, item in left.items()} == {
        "fresh.txt": "failed",
        "plan.txt": "failed",
        "folder/inside.txt": "failed",
    }
    assert "403" in left["fresh.txt"].reason
    assert (project.path / "fresh.txt").read_bytes() == b"fresh"
    assert (project.path / "plan.txt").read_bytes() == b"changed"
    wait_until(
        lambda: (project.path / "folder" / "inside.txt").exists(), "the removed file to be shown again"
    )
    failures = project.mounted.status()["outbox"]["failures"]
    assert {failure["path"] for failure in failures} == set(left)

    project.sandbox.act("membership", user="first", level="standard")
    answer = project.mounted.home.procorefs("retry", project.path)
    assert answer.returncode == 0, answer.stderr
    project.sync()
    assert project.file("fresh.txt").sizes == [5]
    assert project.file("plan.txt").sizes == [7, 4]
    assert "folder/inside.txt" in project.files()
    assert project.waiting() == []
