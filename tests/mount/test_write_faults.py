"""What goes wrong between a write and Procore: nothing is lost, nothing is doubled, and whoever must act is told."""

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.mounting import Home, make_unlisted, wait_until
from tests.support.writing import MountedProject, errno_name, run, sha256

GOES_AGAIN = r"is tried again in|cannot be polled|was created by another user"


def listed(mount_project: Callable[..., MountedProject], *options: str) -> MountedProject:
    """From the beginning looks tell what others do."""
    project = mount_project(*options, prepare=make_unlisted)
    project.list_all()
    return project


def drop_answers(project: MountedProject, route: str, count: int = 1) -> None:
    """The work is done, and nobody hears of it."""
    project.sandbox.faults(rules=[{"kind": "drop", "route": route, "when": "after", "count": count}])


# Answers that are lost after the work was done


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "route", ["POST *uploads", "storage POST", "POST /rest/v1.0/files", "POST /rest/v1.0/folders"]
)
def test_a_lost_answer_about_something_new(
    mount_project: Callable[..., MountedProject], route: str, count: int
) -> None:
    project = mount_project("write_back=0")
    drop_answers(project, route, count)
    (project.path / "folder").mkdir()
    (project.path / "folder" / "plan.dwg").write_bytes(b"the plan")
    project.sync()
    project.assert_saved("folder/plan.dwg", None, b"the plan")
    assert project.folders() == {"folder"}
    assert len(project.files()) == 1
    assert project.binned() == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_lost_answer_about_a_new_version(mount_project: Callable[..., MountedProject], count: int) -> None:
    project = mount_project("write_back=0")
    (project.path / "plan.dwg").write_bytes(b"first")
    project.sync()
    before = project.file("plan.dwg")
    drop_answers(project, "PATCH /rest/v1.0/files/{id}", count)
    (project.path / "plan.dwg").write_bytes(b"second state")
    project.sync()
    project.assert_saved("plan.dwg", before, b"second state")


@pytest.mark.parametrize("how", ["in place", "anew", "behind"])
@pytest.mark.parametrize("is_new", [False, True])
def test_written_again_while_an_answer_was_lost(
    mount_project: Callable[..., MountedProject], how: str, is_new: bool
) -> None:
    """What the storage has by then are the bytes of before: the same call again must not bring those for the new."""
    project = mount_project("write_back=0")
    path, name = project.path / "plan.dwg", "/rest/v1.0/files"
    if not is_new:
        path.write_bytes(b"first")
        project.sync()
    route = f"POST {name}" if is_new else f"PATCH {name}/{{id}}"
    rules: list[dict[str, object]] = [{"kind": "drop", "route": route, "when": "after", "count": 1}]
    project.sandbox.faults(rules=[*rules, {"kind": "error", "route": route, "status": 503, "skip": 1}])
    project.mounted.expect_warning(GOES_AGAIN)
    project.sandbox.reset_calls()
    path.write_bytes(b"second state")
    wait_until(lambda: project.sandbox.calls()["by_route"].get(route, 0) >= 2, "the second try")
    match how:
        case "in place":
            with path.open("r+b") as file:
                file.write(b"SECOND")
        case "anew":
            path.write_bytes(b"a third one!")
        case "behind":
            with path.open("ab") as file:
                file.write(b", and more")
    expected = path.read_bytes()
    project.sandbox.faults(clear=True)
    project.sync()
    assert path.read_bytes() == expected
    assert project.file("plan.dwg").sha256 == sha256(expected)
    assert project.file("plan.dwg").sizes[1:] == ([12] if is_new else [12, 5])


@pytest.mark.parametrize("how", ["removed", "renamed over another"])
def test_gone_while_the_answer_about_its_version_was_lost(
    mount_project: Callable[..., MountedProject], how: str
) -> None:
    """The version that nobody has heard of is ours: it does not look like somebody else's and keep the document."""
    project = mount_project("write_back=0")
    for name in ("plan.dwg", "other.dwg"):
        (project.path / name).write_bytes(b"first")
    project.sync()
    route = "PATCH /rest/v1.0/files/{id}"
    rules: list[dict[str, object]] = [{"kind": "drop", "route": route, "when": "after", "count": 1}]
    project.sandbox.faults(rules=[*rules, {"kind": "error", "route": route, "status": 503, "skip": 1}])
    project.mounted.expect_warning(GOES_AGAIN)
    project.sandbox.reset_calls()
    (project.path / "plan.dwg").write_bytes(b"second state")
    wait_until(lambda: project.sandbox.calls()["by_route"].get(route, 0) >= 2, "the second try")
    if how == "removed":
        (project.path / "plan.dwg").unlink()
    else:
        (project.path / "plan.dwg").rename(project.path / "other.dwg")
    project.sandbox.faults(clear=True)
    project.sync()
    assert project.file("other.dwg").sizes == ([5] if how == "removed" else [12, 5])
    assert set(project.files()) == {"other.dwg"}


@pytest.mark.parametrize("what", ["file", "folder", "large file"])
def test_a_lost_answer_about_other_things(mount_project: Callable[..., MountedProject], what: str) -> None:
    """Removals, and the call that puts segments together."""
    project = mount_project("write_back=0")
    if what == "large file":
        data = os.urandom(33 << 20)
        drop_answers(project, "PATCH *uploads/*")
        (project.path / "large.dwg").write_bytes(data)
        project.sync()
        project.assert_saved("large.dwg", None, data)
        return
    (project.path / "folder").mkdir()
    (project.path / "plan.dwg").write_bytes(b"the plan")
    project.sync()
    drop_answers(project, f"DELETE /rest/v1.0/{what}s/*")
    if what == "file":
        (project.path / "plan.dwg").unlink()
    else:
        (project.path / "folder").rmdir()
    project.sync()
    assert (set(project.files()), project.folders()) == (
        (set(), {"folder"}) if what == "file" else ({"plan.dwg"}, set())
    )
    assert len(project.binned()) == 1


@pytest.mark.parametrize("then", ["renamed", "moved", "removed", "replaced", "renamed over another"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_changed_here_while_the_answer_about_its_making_was_lost(
    mount_project: Callable[..., MountedProject], what: str, then: str
) -> None:
    """Procore has it under a name that nobody wants any more: no stray document is left there."""
    project = mount_project("write_back=0")
    place = project.path
    (place / "other").mkdir()
    (place / "old.dwg").write_bytes(b"old")
    project.sync()
    old = project.file("old.dwg")
    no_answer_yet(project, what)
    make(place / "new", what)
    wait_for_second_try(project, what)
    kept = {"other", "old.dwg"}
    match then:
        case "renamed":
            (place / "new").rename(place / "renamed")
            kept |= {"renamed"}
        case "moved":
            (place / "new").rename(place / "other" / "moved")
            kept |= {"other/moved"}
        case "removed":
            (place / "new").unlink() if what == "file" else (place / "new").rmdir()
        case "replaced":
            (place / "new").unlink() if what == "file" else (place / "new").rmdir()
            make(place / "new", what)
            kept |= {"new"}
        case _:
            if what == "folder":
                return
            (place / "new").rename(place / "old.dwg")
    project.mounted.expect_warning(GOES_AGAIN)
    project.sandbox.faults(clear=True)
    project.sync()
    assert {*project.files(), *project.folders()} == kept
    assert {str(path.relative_to(place)) for path in place.rglob("*")} == kept
    if then == "renamed over another":
        project.assert_saved("old.dwg", old, b"made new")


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("then", ["kept", "renamed"])
def test_procore_has_another_time_when_an_answer_is_lost(
    mount_project: Callable[..., MountedProject], what: str, then: str, ahead_s: float
) -> None:
    """Its answers tell its clock: what our call has made is recognised by that."""
    project = mount_project("write_back=0", prepare=lambda sandbox: sandbox.faults(clock_shift_s=ahead_s))
    no_answer_yet(project, what)
    project.mounted.expect_warning(GOES_AGAIN)
    make(project.path / "new", what)
    wait_for_second_try(project, what)
    if then == "renamed":
        (project.path / "new").rename(project.path / "renamed")
    project.sandbox.faults(clear=True)
    project.sandbox.faults(clock_shift_s=ahead_s)
    project.sync()
    assert {*project.files(), *project.folders()} == {"renamed" if then == "renamed" else "new"}


SECOND_TRY = {"file": "POST /rest/v1.0/files", "folder": "GET /rest/v1.0/folders"}
"""A file is made again with the same upload; a folder is looked for."""


def no_answer_yet(project: MountedProject, what: str) -> None:
    """The answer about the making of the next one is lost, and the second try finds Procore away."""
    drop = {"kind": "drop", "route": f"POST /rest/v1.0/{what}s", "when": "after", "count": 1}
    away = {"kind": "error", "route": SECOND_TRY[what], "status": 503, "skip": 1 if what == "file" else 0}
    project.sandbox.reset_calls()
    project.sandbox.faults(rules=[drop, away])


def wait_for_second_try(project: MountedProject, what: str) -> None:
    calls = 2 if what == "file" else 1
    wait_until(
        lambda: project.sandbox.calls()["by_route"].get(SECOND_TRY[what], 0) >= calls, "the second try"
    )


def make(path: Path, what: str) -> None:
    if what == "file":
        path.write_bytes(b"made new")
    else:
        path.mkdir()


def test_a_colleagues_file_of_the_same_size_where_an_answer_was_lost(
    mount_project: Callable[..., MountedProject],
) -> None:
    """Theirs has the name by the time ours is sent again: both survive, as two versions."""
    project = mount_project("write_back=0")
    project.sandbox.faults(
        rules=[
            {"kind": "drop", "route": "POST /rest/v1.0/files", "when": "before", "count": 1},
            {"kind": "silence", "route": "POST /rest/v1.0/files", "count": 1, "skip": 1},
        ]
    )
    project.mounted.expect_warning(GOES_AGAIN)
    (project.path / "plan.dwg").write_bytes(b"ours...")
    project.sandbox.wait_for_silent_calls()
    project.sandbox.act("put", path="/plan.dwg", text="theirs.")
    project.sandbox.release()
    project.sync()
    found = project.file("plan.dwg")
    assert found.sizes == [7, 7]
    assert found.sha256 == sha256(b"ours...")


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


# The disk of the staging area


@pytest.fixture
def small_disk(home: Home) -> Iterator[Path]:
    """The state directory lies on a disk of 24 MiB."""
    state = Path(home.environment["XDG_STATE_HOME"])
    state.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", state)
    yield state
    subprocess.run(["umount", "--lazy", state], check=True)


def test_the_disk_of_the_staging_area_is_full(
    small_disk: Path, mount_project: Callable[..., MountedProject]
) -> None:
    """Whoever writes is told; what was closed before arrives; and there is room again afterwards."""
    project = mount_project("write_back=600")
    project.mounted.expect_warning("disk|room|full")
    written = 0
    while (
        told := errno_name(partial((project.path / f"{written}.bin").write_bytes, os.urandom(4 << 20)))
    ) == "":
        written += 1
    assert told == "ENOSPC"
    assert 2 <= written < 6
    (project.path / f"{written}.bin").unlink()
    project.sync()
    assert {file.sizes[0] for file in project.files().values()} == {4 << 20}
    assert len(project.files()) == written
    (project.path / "after.bin").write_bytes(b"there is room again")
    project.sync()
    project.assert_saved("after.bin", None, b"there is room again")


def fill_up(disk: Path) -> Path:
    """To the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while errno_name(lambda: file.write(bytes(1024))) == "":
            pass
    return filler


def test_closes_that_a_full_disk_refuses_leave_nothing_pending(
    small_disk: Path, mount_project: Callable[..., MountedProject]
) -> None:
    """The programs were told so; when there is room again, what they wrote goes nevertheless."""
    project = mount_project("write_back=0")
    project.mounted.expect_warning("disk|room|full|can't be|space")
    files = {project.path / f"{number}.dwg": b"plan %d" % number for number in range(40)}
    handles = []
    for path, content in files.items():
        handles.append(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.write(handles[-1], content)
    filler = fill_up(small_disk)
    refused = [errno_name(partial(os.close, handle)) for handle in handles]
    assert refused.count("ENOSPC") > 10
    descriptors = Path(f"/proc/{project.mounted.pid}/fd")
    before = len(os.listdir(descriptors))
    for number in range(20):
        errno_name(partial((project.path / f"late {number}.dwg").touch))
    wait_until(lambda: len(os.listdir(descriptors)) <= before + 5, "files that were not made to be closed")
    filler.unlink()
    project.sync()
    wait_until(lambda: project.mounted.status()["outbox"]["pending"] == 0, "all of it to arrive")
    assert {project.path / name for name in project.files()} >= set(files)
    for path, content in files.items():
        assert project.file(path.name).sha256 == sha256(content)


def test_a_full_disk_fills_no_log_and_names_what_it_refused(
    small_disk: Path, mount_project: Callable[..., MountedProject]
) -> None:
    project = mount_project("write_back=600")
    project.mounted.expect_warning("disk|room|full|can't be|space")
    removed = os.open(project.path / "removed.dwg", os.O_CREAT | os.O_WRONLY)
    (project.path / "removed.dwg").unlink()
    filler = fill_up(small_disk)
    told = [errno_name(partial(os.pwrite, removed, bytes(8192), 8192 * number)) for number in range(50)]
    assert told.count("ENOSPC") > 40
    os.close(removed)
    lines = [line for line in project.mounted.log.splitlines() if "of removed.dwg (deleted)" in line]
    assert len(lines) == 1, "\n".join(lines)
    assert "the root" not in project.mounted.log
    filler.unlink()


def test_not_even_the_journal_has_room(
    small_disk: Path, mount_project: Callable[..., MountedProject]
) -> None:
    """Somebody else fills the disk to the last byte: changes are refused, the mount lives, nothing closed is lost."""
    project = mount_project("write_back=600")
    project.mounted.expect_warning("disk|room|full|can't be")
    (project.path / "closed.dwg").write_bytes(b"closed")
    (project.path / "other.dwg").write_bytes(b"other")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while errno_name(lambda: file.write(bytes(1024))) == "":
            pass
    names = (project.path / "closed.dwg", project.path / "renamed.dwg")
    told = set()
    for turn in range(40):  # the pages that the database's log has already hold some
        told.add(errno_name((project.path / f"folder {turn}").mkdir))
        old, new = names if names[0].exists() else reversed(names)
        told.add(errno_name(partial(old.rename, new)))
    assert told in ({"", "ENOSPC"}, {"ENOSPC"}, {"", "EIO"}, {"EIO"}, {"", "EIO", "ENOSPC"})
    wait_until(lambda: project.mounted.status()["pid"] == project.mounted.pid, "the daemon to answer")
    filler.unlink()
    name = "closed.dwg" if (project.path / "closed.dwg").exists() else "renamed.dwg"
    project.sync()
    project.assert_saved(name, None, b"closed")
    project.assert_saved("other.dwg", None, b"other")
