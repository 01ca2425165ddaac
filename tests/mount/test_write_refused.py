"""What can't be: the errno that Linux users expect, nothing changed, and the reason in the log and in `status`."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounting import wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import Desk, errno_name

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
def desk(write_desk: Callable[..., Desk]) -> Desk:
    desk = write_desk("freshness=3600", prepare=fill)
    os.listdir(desk.path / "folder")
    os.listdir(desk.path / "locked folder")
    return desk


def makings(desk: Desk, name: bytes | str) -> dict[str, str]:
    """The errno of each way to give an entry that name, in a folder and in the root."""
    folder, name = os.fsencode(desk.path), os.fsencode(name)
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


def test_names_that_procore_does_not_take(desk: Desk) -> None:
    before = desk.sandbox.inventory()
    for character in FORBIDDEN + CONTROL:
        for name in (character, f"{character}a", f"a{character}b.txt", f"a{character}", f"ä.t{character}t"):
            assert set(makings(desk, name).values()) == {"EINVAL"}, name
    for space in SPACES:
        for name in (space, f"a{space}", f"a{space}.txt", f"{space}.txt", f"a.b{space}.c", f"a.txt{space}"):
            assert set(makings(desk, name).values()) == {"EINVAL"}, name
    for raw in (b"\xff", b"a\xc3", b"\xe4.txt", b"a\xed\xa0\x80"):
        assert set(makings(desk, raw).values()) == {"EILSEQ"}, raw
    for name in ("n" * 256, "ü" * 128):
        assert set(makings(desk, name).values()) == {"ENAMETOOLONG"}, name
    with desk.counted() as calls:
        desk.sync()
    assert calls.total == 0
    assert desk.sandbox.inventory() == before
    assert set(os.listdir(desk.path)) == {"folder", "plan.txt", "locked.txt", "locked folder"}


def test_the_reason_is_told(desk: Desk) -> None:
    assert errno_name(lambda: (desk.path / "folder" / "a:b.txt").write_bytes(b"x")) == "EINVAL"
    refusal = desk.mounted.status()["refusals"][0]
    assert refusal["path"].endswith("folder") or refusal["path"].endswith("a:b.txt"), refusal
    assert "':', U+003A" in refusal["reason"]
    assert "a:b.txt" in refusal["reason"]
    assert refusal["reason"] in desk.mounted.log


def test_the_longest_names_and_paths(desk: Desk) -> None:
    """A path from the root of the project of 255 characters goes, of whatever bytes; one of 256 does not."""
    longest = "n" * 255
    (desk.path / longest).write_bytes(b"x")
    wide = "ü" * 120
    (desk.path / wide).mkdir()
    (desk.path / wide / ("ö" * 120)).mkdir()
    deep = desk.path / wide / ("ö" * 120)
    name = "f" * (255 - 242)
    (deep / name).write_bytes(b"deep")
    assert errno_name(lambda: (deep / f"{name}g").write_bytes(b"x")) == "ENAMETOOLONG"
    assert errno_name(lambda: (deep / f"{name}g").mkdir()) == "ENAMETOOLONG"
    assert errno_name(lambda: (desk.path / wide).rename(desk.path / ("ü" * 121))) == "ENAMETOOLONG"
    assert errno_name(lambda: (desk.path / wide).rename(desk.path / "folder" / wide)) == "ENAMETOOLONG"
    (deep / f".{name}.x4Kp2Q").write_bytes(b"rsync needs eight more")
    (deep / f".{name}.x4Kp2Q").rename(deep / name)
    desk.sync()
    assert {longest, f"{wide}/{'ö' * 120}/{name}"} <= set(desk.files())


def test_places_that_are_not_there(desk: Desk) -> None:
    path = desk.path
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
    before = desk.sandbox.inventory()
    wrong = {}
    for name, (attempt, wanted) in cases.items():
        found = errno_name(attempt)
        if found != wanted:
            wrong[name] = (found, wanted)
    assert not wrong
    desk.sync()
    assert desk.sandbox.inventory() == before


def test_handles_that_do_not_write(desk: Desk) -> None:
    handle = os.open(desk.path / "plan.txt", os.O_RDONLY)
    try:
        assert errno_name(lambda: os.write(handle, b"x")) == "EBADF"
        assert errno_name(lambda: os.ftruncate(handle, 0)) in {"EINVAL", "EBADF"}
    finally:
        os.close(handle)
    handle = os.open(desk.path / "plan.txt", os.O_WRONLY)
    try:
        assert errno_name(lambda: os.read(handle, 1)) == "EBADF"
    finally:
        os.close(handle)
    desk.sync()
    assert desk.file("plan.txt").numbers == [1]


def test_what_documents_can_not_be(desk: Desk) -> None:
    path = desk.path

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


def test_what_procore_has_read_only(desk: Desk) -> None:
    """Checked by us, for root too."""
    path = desk.path
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
    before = desk.sandbox.inventory()
    assert [errno_name(attempt) for attempt in attempts] == ["EACCES"] * len(attempts)
    assert (path / "locked.txt").read_bytes() == b"locked"
    desk.sync()
    assert desk.sandbox.inventory() == before


def test_names_are_mapped_to_twins_and_back(write_desk: Callable[..., Desk], tmp_path: Path) -> None:
    desk = write_desk("invalid_names=encode")
    names = {"a:b?.txt", "c*|d", "ends ", "before .txt", "plain.txt", "\uff1aalready", "tab\t"}
    for name in names:
        (desk.path / name).write_bytes(name.encode())
    (desk.path / "folder<1>").mkdir()
    (desk.path / "folder<1>" / "q?").write_bytes(b"inside")
    desk.sync()
    assert not [path for path in desk.files() if set(path) & set(FORBIDDEN + CONTROL)]
    desk.remount("invalid_names=encode")
    assert set(os.listdir(desk.path)) == {*names, "folder<1>"}
    for name in names:
        assert (desk.path / name).read_bytes() == name.encode()
    (desk.path / "a:b?.txt").rename(desk.path / "e:f")
    (desk.path / "folder<1>" / "q?").unlink()
    desk.sync()
    assert (desk.path / "e:f").read_bytes() == b"a:b?.txt"
    assert errno_name(lambda: (desk.path / "a:b?.txt").stat()) == "ENOENT"
    assert "folder\uff1c1\uff1e" in desk.folders()


def test_a_project_where_nothing_may_be_written(desk: Desk) -> None:
    """Found out when it is sent: the bytes stay, the reason is told, and `retry` works once it is allowed again."""
    desk.mounted.expect_warning("was refused")
    desk.sandbox.act("membership", user="first", level="read")
    (desk.path / "fresh.txt").write_bytes(b"fresh")
    (desk.path / "plan.txt").write_bytes(b"changed")
    (desk.path / "folder" / "inside.txt").unlink()
    left = {item.path: item for item in desk.settle()}
    assert {path: item.state for path, item in left.items()} == {
        "fresh.txt": "failed",
        "plan.txt": "failed",
        "folder/inside.txt": "failed",
    }
    assert "403" in left["fresh.txt"].reason
    assert (desk.path / "fresh.txt").read_bytes() == b"fresh"
    assert (desk.path / "plan.txt").read_bytes() == b"changed"
    wait_until(lambda: (desk.path / "folder" / "inside.txt").exists(), "the removed file to be shown again")
    failures = desk.mounted.status()["outbox"]["failures"]
    assert {failure["path"] for failure in failures} == set(left)

    desk.sandbox.act("membership", user="first", level="standard")
    answer = desk.mounted.home.procorefs("retry", desk.path)
    assert answer.returncode == 0, answer.stderr
    desk.sync()
    assert desk.file("fresh.txt").sizes == [5]
    assert desk.file("plan.txt").sizes == [7, 4]
    assert "folder/inside.txt" in desk.files()
    assert desk.waiting() == []
