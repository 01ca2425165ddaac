"""Who looks a name up, or holds a folder's lock, waits two seconds for Procore at most: lock files, unknown names."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.mount.test_bridge_mount import errno_of
from tests.support.api_client import put_file
from tests.support.mounting import Mounted, list_all, make_unlisted, mount_followed, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject

MOST_S = 2.0
MARGIN_S = 2.5
"""For a machine that has other things to do."""

FILE = "GET */files/{id}"
DOCUMENTS = 30


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s < seconds


def lock_files(path: os.PathLike[str] | str, number: int) -> tuple[str, str]:
    return (f"{os.fspath(path)}/.~lock.{number}.xlsx#", f"{os.fspath(path)}/~${number}.xlsx")


@pytest.fixture
def held(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> Mounted:
    """Documents that another user has checked out, and the mount knows it."""
    sandbox.reset(0)
    make_unlisted(sandbox)
    for number in range(DOCUMENTS):
        sandbox.act("check_out", id=put_file(sandbox, b"content", f"{number}.xlsx"))
    mounted = mount(sandbox)
    list_all(mounted.path)
    wait_until(lambda: os.path.exists(lock_files(mounted.path, 0)[0]), "the check-outs to show")
    return mounted


def test_lock_files_that_are_shown_are_not_listed_and_cost_no_call(
    held: Mounted, sandbox: SandboxHandle
) -> None:
    sandbox.reset_calls()
    names = sorted(os.listdir(held.path))
    assert not [name for name in names if name.startswith((".~lock", "~$"))]
    for _ in range(3):
        for number in range(DOCUMENTS):
            for path in lock_files(held.path, number):
                assert os.stat(path).st_size > 0
    assert sandbox.calls()["total"] <= 4, sandbox.calls()["by_route"]  # a look may be due
    assert FILE not in sandbox.calls()["by_route"]


def test_only_who_opens_or_creates_a_lock_file_asks(held: Mounted, sandbox: SandboxHandle) -> None:
    libre, office = lock_files(held.path, 7)
    with open(libre, "rb") as file:
        assert file.read()
    sandbox.act("check_in", path="/7.xlsx")
    assert os.path.exists(office)
    wait_until(
        lambda: errno_of(lambda: os.close(os.open(office, os.O_RDONLY))) in (errno.ENOENT, errno.ESTALE),
        "the end of the two seconds that the last look serves",
        MOST_S + 1,
    )
    assert not os.path.exists(office)
    sandbox.act("check_out", path="/7.xlsx")
    time.sleep(2.1)  # the last look serves two seconds, and asking again earlier would create the file
    assert errno_of(lambda: os.open(libre, os.O_CREAT | os.O_EXCL | os.O_WRONLY)) == errno.EEXIST


def test_a_lock_file_is_made_while_procore_is_silent_and_nobody_else_waits(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    put_file(sandbox, b"content", "0.xlsx")
    mounted = mount_followed(sandbox, mount, "freshness=3600")
    mounted.expect_warning("silen|answer")
    (mounted.path / "0.xlsx").read_bytes()
    sandbox.faults(rules=[{"kind": "silence", "route": "*"}])
    try:
        for path in lock_files(mounted.path, 0):
            with within(MOST_S + MARGIN_S):
                assert not os.path.exists(path)
            with within(MOST_S + MARGIN_S):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        with within(MARGIN_S):
            os.listdir(mounted.path)
            for path in lock_files(mounted.path, 0):
                os.unlink(path)
    finally:
        sandbox.release()
        sandbox.faults(clear=True)


def test_with_the_hour_spent_nobody_waits_for_a_lock_file(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    put_file(sandbox, b"content", "0.xlsx")
    mounted = mount_followed(sandbox, mount, "freshness=0")
    mounted.expect_warning("limit")
    sandbox.faults(hourly_calls=1)
    with within(MOST_S + MARGIN_S):
        assert not (mounted.path / "unknown").exists()  # the mount hears of it
    assert mounted.status()["limiter"]["paused_until"] is not None
    for path in lock_files(mounted.path, 0):
        with within(MOST_S):
            assert not os.path.exists(path)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.listdir(mounted.path)
    for path in lock_files(mounted.path, 0):
        os.unlink(path)


def test_a_name_in_a_folder_that_nobody_has_listed_is_not_waited_for_long(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    """It is neither there nor not there: a program that took it for free would write beside it."""
    sandbox.act("create_folder", path="/deep")
    put_file(sandbox, b"content", "plan.pdf")
    sandbox.act("move", path="/plan.pdf", to="/deep")
    mounted = mount(sandbox, "freshness=3600")
    mounted.expect_warning("Procore must be asked first; try again|Listing the project failed")
    sandbox.faults(rules=[{"kind": "silence", "route": "*"}])
    path = mounted.path / "deep" / "plan.pdf"
    try:
        with within(MOST_S + MARGIN_S):
            assert errno_of(path.stat) == errno.ETIMEDOUT
        with within(MOST_S + MARGIN_S):
            assert errno_of(lambda: path.open("xb")) == errno.ETIMEDOUT
        with within(MARGIN_S):
            os.listdir(mounted.path)
    finally:
        sandbox.release()
        sandbox.faults(clear=True)
    wait_until(path.exists, "the folder to be listed")
    assert path.read_bytes() == b"content"


def test_many_folders_are_looked_into_by_path_before_the_project_is_listed(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    """The pages take longer than a lookup may wait: each folder on the way is fetched by itself."""
    for path in ("/a", "/a/b", "/a/b/c", "/a/b/c/d"):
        sandbox.act("create_folder", path=path)
    mounted = mount(sandbox, "freshness=3600")
    sandbox.faults(rules=[{"kind": "latency", "route": "GET /rest/v*documents", "seconds": 5.0}])
    with within(4.0):
        assert (mounted.path / "a/b/c/d").is_dir()


def test_through_holds_a_folder_for_no_longer(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_mode=through")
    project.mounted.expect_warning("silen|answer")
    project.sandbox.faults(rules=[{"kind": "silence", "route": "POST */folders*"}])
    try:
        with within(MOST_S + MARGIN_S):
            (project.path / "made").mkdir()
        with within(MARGIN_S):
            os.listdir(project.path)
    finally:
        project.sandbox.release()
        project.sandbox.faults(clear=True)
    project.sync()
    assert project.folders() == {"made"}
