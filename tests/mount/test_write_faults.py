"""Refusals of Procore and changes by colleagues while writes wait: nothing is lost or doubled, and users are told."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import make_unlisted, wait_until
from tests.support.writing import MountedProject, sha256

GOES_AGAIN = r"is tried again in|cannot be polled|was created by another user"


def listed(mount_project: Callable[..., MountedProject], *options: str) -> MountedProject:
    """From the beginning looks tell what others do."""
    project = mount_project(*options, prepare=make_unlisted)
    project.list_all()
    return project


# Procore refuses for a while


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "error", "status": 429, "retry_after": 1},
        {"kind": "error", "status": 503, "retry_after": 1},
        {"kind": "error", "status": 503},
        {"kind": "error", "status": 500, "when": "after"},
        {"kind": "not_json"},
        {"kind": "drop"},
        {"kind": "cut", "after_bytes": 10},
    ],
    ids=lambda rule: "-".join(str(value) for value in rule.values()),
)
def test_trouble_for_a_while(mount_project: Callable[..., MountedProject], rule: dict[str, object]) -> None:
    """Every changing call of the first try meets it."""
    project = mount_project("write_back=0")
    for method in ("POST /rest/*", "PATCH /rest/*", "storage P*"):
        project.sandbox.faults(rules=[{"route": method, "count": 1, **rule}])
    project.mounted.expect_warning(GOES_AGAIN)
    (project.path / "folder").mkdir()
    (project.path / "folder" / "plan.dwg").write_bytes(b"the plan")
    project.sync()
    (project.path / "folder" / "plan.dwg").write_bytes(b"the next plan")
    project.sync()
    found = project.file("folder/plan.dwg")
    assert (found.sizes, found.sha256) == ([13, 8], sha256(b"the next plan"))
    assert project.folders() == {"folder"}
    assert project.binned() == []


@pytest.mark.parametrize("status", [404, 408, 409, 413, 423, 425])
@pytest.mark.parametrize("route", ["POST /rest/*", "PATCH /rest/*", "DELETE /rest/*"])
def test_a_refusal_that_passes(mount_project: Callable[..., MountedProject], route: str, status: int) -> None:
    """Of the API's own words, but for those that say for good what is wrong."""
    project = mount_project("write_back=0")
    project.mounted.expect_warning(GOES_AGAIN)
    (project.path / "old").mkdir()
    for name in ("old/gone.dwg", "plan.dwg", "name.dwg"):
        (project.path / name).write_bytes(b"before")
    project.sync()
    is_final = status == 413
    project.sandbox.faults(rules=[{"kind": "error", "route": route, "status": status, "count": 1}])
    if route.startswith("POST"):
        (project.path / "new").mkdir()
        (project.path / "new.dwg").write_bytes(b"the plan")
    elif route.startswith("PATCH"):
        (project.path / "name.dwg").rename(project.path / "renamed.dwg")
        (project.path / "plan.dwg").write_bytes(b"the next plan")
    else:
        (project.path / "old" / "gone.dwg").unlink()
        (project.path / "old").rmdir()
    if is_final:
        project.mounted.expect_warning("was refused")
        (left,) = project.settle()
        assert left.state == "failed"
        assert "list" not in left.why
        return
    project.sync()
    expected = {"plan.dwg", "name.dwg", "old/gone.dwg"}
    if route.startswith("POST"):
        assert project.folders() == {"old", "new"}
        expected |= {"new.dwg"}
    elif route.startswith("PATCH"):
        expected = expected - {"name.dwg"} | {"renamed.dwg"}
        assert project.file("plan.dwg").sizes == [13, 6]
    else:
        expected -= {"old/gone.dwg"}
        assert project.folders() == set()
    assert set(project.files()) == expected


@pytest.mark.parametrize("status", [403, 404, 413])
def test_a_gateway_refuses_for_a_while(mount_project: Callable[..., MountedProject], status: int) -> None:
    """It does not speak as the API does, and says nothing of any document."""
    project = mount_project("write_back=0")
    project.mounted.expect_warning(GOES_AGAIN)
    (project.path / "old").mkdir()
    for name in ("old/gone.dwg", "plan.dwg", "name.dwg"):
        (project.path / name).write_bytes(b"before")
    project.sync()
    before = project.file("plan.dwg")
    for route in ("POST /rest/*", "PATCH /rest/*", "DELETE /rest/*", "GET /rest/*"):
        project.sandbox.faults(
            rules=[{"kind": "gateway", "route": route, "status": status, "count": 2, "when": "before"}]
        )
    (project.path / "new").mkdir()
    (project.path / "new" / "new.dwg").write_bytes(b"the plan")
    (project.path / "name.dwg").rename(project.path / "renamed.dwg")
    (project.path / "plan.dwg").write_bytes(b"the next plan")
    (project.path / "old" / "gone.dwg").unlink()
    (project.path / "old").rmdir()
    project.sync()
    project.assert_saved("plan.dwg", before, b"the next plan")
    assert set(project.files()) == {"new/new.dwg", "plan.dwg", "renamed.dwg"}
    assert project.folders() == {"new"}


def test_the_network_is_gone_for_a_while(mount_project: Callable[..., MountedProject]) -> None:
    """Programs go on; status says what is wrong; everything arrives afterwards."""
    project = mount_project("write_back=0")
    project.mounted.expect_warning(GOES_AGAIN)
    (project.path / "old.dwg").write_bytes(b"old")
    project.sync()
    old = project.file("old.dwg")
    project.sandbox.faults(rules=[{"kind": "drop", "route": "*"}])
    (project.path / "folder").mkdir()
    for number in range(10):
        (project.path / "folder" / f"{number}.txt").write_bytes(b"%d" % number)
    (project.path / "old.dwg").write_bytes(b"newer")
    (project.path / "folder" / "9.txt").rename(project.path / "nine.txt")
    wait_until(lambda: project.mounted.status()["outbox"]["warning"] != "", "the warning to be shown")
    assert (project.path / "nine.txt").read_bytes() == b"9"
    project.sandbox.faults(clear=True)
    project.sync()
    project.assert_saved("old.dwg", old, b"newer")
    assert set(project.files()) == {"old.dwg", "nine.txt", *(f"folder/{number}.txt" for number in range(9))}


def test_tokens_and_uploads_expire_in_mid_flight(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=0")
    project.sandbox.faults(rules=[{"kind": "silence", "route": "storage POST", "count": 1}])
    (project.path / "plan.dwg").write_bytes(b"the plan")
    project.sandbox.wait_for_silent_calls()
    project.sandbox.faults(
        expire_tokens=True,
        rules=[{"kind": "error", "route": "storage POST", "status": 403, "count": 1}],
    )
    project.sandbox.faults(clock_shift_s=2 * 3600.0)  # what was begun may not be sent any more
    project.sandbox.release()
    project.sync()
    project.assert_saved("plan.dwg", None, b"the plan")


def test_no_permission_to_write_any_more(mount_project: Callable[..., MountedProject]) -> None:
    """The bytes stay, whoever looks is told, and `retry` sends them when it is there again."""
    project = mount_project("write_back=0")
    (project.path / "plan.dwg").write_bytes(b"first")
    project.sync()
    before = project.file("plan.dwg")
    project.mounted.expect_warning("was refused|is tried again|permit")
    project.sandbox.act("membership", user="first", level="read")
    (project.path / "new.dwg").write_bytes(b"new")
    (project.path / "plan.dwg").write_bytes(b"second")
    left = {item.path: item for item in project.settle()}
    assert {item.state for item in left.values()} == {"failed"}
    assert set(left) == {"new.dwg", "plan.dwg"}
    status = project.mounted.status()["outbox"]
    assert {failure["path"] for failure in status["failures"]} == {"new.dwg", "plan.dwg"}
    assert (project.path / "new.dwg").read_bytes() == b"new"
    assert (project.path / "plan.dwg").read_bytes() == b"second"
    project.sandbox.act("membership", user="first", level="admin")
    answer = project.mounted.home.procorefs("retry", project.path)
    assert answer.returncode == 0, answer.stderr
    project.sync()
    project.assert_saved("new.dwg", None, b"new")
    project.assert_saved("plan.dwg", before, b"second")


# Somebody else


@pytest.mark.parametrize("deed", ["put", "delete", "rename", "check_out", "folder deleted", "folder renamed"])
def test_somebody_else_meanwhile(mount_project: Callable[..., MountedProject], deed: str) -> None:
    """Ours waits, theirs is done: ours comes on top, or is made anew, or waits for them."""
    project = listed(mount_project, "write_back=600", "freshness=0")
    (project.path / "folder").mkdir()
    (project.path / "folder" / "plan.dwg").write_bytes(b"first")
    project.sync()
    before = project.file("folder/plan.dwg")
    (project.path / "folder" / "plan.dwg").write_bytes(b"ours, the second")
    project.mounted.expect_warning("is tried again|checked out")
    act = project.sandbox.act
    path = "/folder/plan.dwg"
    match deed:
        case "put":
            act("put", path=path, text="theirs")
        case "delete":
            act("delete", path=path)
        case "rename":
            act("rename", path=path, name="theirs.dwg")
        case "check_out":
            act("check_out", path=path)
        case "folder deleted":
            act("delete", path="/folder")
        case _:
            act("rename", path="/folder", name="theirs")
    left = project.settle()
    if deed == "check_out":
        assert [item.state for item in left] == ["checked_out"]
        act("check_in", path=path)
        project.sync()
    else:
        assert not left
    [(place, found)] = project.files().items()
    assert found.sha256 == sha256(b"ours, the second")
    assert (project.path / place).read_bytes() == b"ours, the second"
    match deed:
        case "put":
            assert (found.id, found.sizes) == (before.id, [16, 6, 5])
        case "delete" | "folder deleted":
            assert (place, found.sizes) == ("folder/plan.dwg", [16])
        case "rename":
            assert (place, found.id) == ("folder/theirs.dwg", before.id)
        case "check_out":
            assert (found.id, found.sizes) == (before.id, [16, 5])
        case _:
            assert (place, found.id) == ("theirs/plan.dwg", before.id)


@pytest.mark.parametrize(
    ("how", "deed"),
    [
        ("rm -rf", "new file"),
        ("rm -rf", "newer version"),
        ("rm -rf", "new file deep below"),
        ("rsync --delete", "newer version"),
    ],
)
def test_a_colleagues_work_in_a_folder_that_is_removed_here(
    mount_project: Callable[..., MountedProject], tmp_path: Path, deed: str, how: str
) -> None:
    """It survives, and whoever removed the folder is told."""
    project = listed(mount_project, "write_back=0", "freshness=3600")
    (project.path / "folder" / "deep").mkdir(parents=True)
    (project.path / "folder" / "deep" / "plan.dwg").write_bytes(b"plan")
    (project.path / "folder" / "list.txt").write_bytes(b"list")
    project.sync()
    match deed:
        case "new file":
            theirs = "folder/theirs.txt"
        case "newer version":
            theirs = "folder/deep/plan.dwg"
        case _:
            theirs = "folder/deep/theirs.txt"
    project.sandbox.act("put", path=f"/{theirs}", text="theirs")
    project.mounted.expect_warning("not deleted|was refused")
    if how == "rm -rf":
        run("rm", "-rf", project.path / "folder")
    else:
        empty = tmp_path / "empty"
        empty.mkdir()
        run("rsync", "-a", "--delete", f"{empty}/", f"{project.path}/")
    left = project.settle()
    assert [item.state for item in left] == ["failed"] * len(left)
    assert left
    assert any("not deleted" in item.reason for item in left), left
    files = project.files()
    assert set(files) == {theirs}
    assert files[theirs].sha256 == sha256(b"theirs")
    assert (project.path / theirs).read_bytes() == b"theirs"


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_newer_version_of_a_file_that_is_removed_here(
    mount_project: Callable[..., MountedProject], is_listed: bool
) -> None:
    """Its folder stays, and nobody has looked since, or nobody could."""
    options = ("write_back=0", "freshness=3600")
    project = listed(mount_project, *options) if is_listed else mount_project(*options)
    (project.path / "plan.dwg").write_bytes(b"plan")
    project.sync()
    project.sandbox.act("put", path="/plan.dwg", text="theirs")
    project.mounted.expect_warning("not deleted|was refused")
    (project.path / "plan.dwg").unlink()
    [item] = project.settle()
    assert item.state == "failed"
    assert project.file("plan.dwg").sha256 == sha256(b"theirs")
    assert (project.path / "plan.dwg").read_bytes() == b"theirs"


@pytest.mark.parametrize("why", ["a newer version", "no permission"])
def test_what_is_written_to_a_removed_file_is_never_sent(
    mount_project: Callable[..., MountedProject], why: str
) -> None:
    """The removal is refused while somebody has the file open: it shows again, and without what they write to it."""
    project = mount_project("write_back=0", "freshness=0")
    project.mounted.expect_warning("newer version|does not permit it")
    plan = project.path / "plan.dwg"
    plan.write_bytes(b"first state")
    os.setxattr(plan, "user.rating", b"5")
    with plan.open("r+b", buffering=0) as inside:
        inside.write(b"F")
        project.sync()
        number = plan.stat().st_ino
        plan.unlink()
        inside.write(b"SCRATCH")
        if why == "a newer version":
            project.sandbox.act("put", path="/plan.dwg", text="theirs")
        else:
            project.sandbox.faults(rules=[{"kind": "error", "status": 403, "route": "DELETE */files/{id}"}])
        assert [item.state for item in project.settle()] == ["failed"]
        before = project.file("plan.dwg")
        inside.write(b"MORE")
        os.fsync(inside.fileno())
        assert os.fstat(inside.fileno()).st_ino == number
        assert os.pread(inside.fileno(), 100, 0) == b"FSCRATCHMORE"
        assert plan.stat().st_ino != number
    project.sandbox.faults(clear=True)
    project.settle()
    assert project.file("plan.dwg") == before
    assert plan.read_bytes() == (b"theirs" if why == "a newer version" else b"First state")
    assert os.getxattr(plan, "user.rating") == b"5"
    project.mounted.unmount(leaves=True)
    project.mount_again()
    assert plan.read_bytes() == (b"theirs" if why == "a newer version" else b"First state")
