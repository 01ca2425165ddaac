"""What a real mount measures: the kernel's requests, notifications, answers, uploads, and what others changed."""

import os
from collections.abc import Callable

import pytest

from procorefs.service.control_socket import DetailsRequest, ask
from procorefs.service.details import MountDetails
from tests.support.mounting import make_unlisted, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, control_socket

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

MountProject = Callable[..., MountedProject]


def details(project: MountedProject) -> MountDetails:
    return ask(control_socket(project.mounted), DetailsRequest(), MountDetails)


def test_each_request_is_counted_once_and_in_time(mount_project: MountProject) -> None:
    project = mount_project("freshness=3600")
    before = details(project).kernel.requests
    number = 300
    with (project.path / "plan.bin").open("wb", buffering=0) as file:
        for _ in range(number):
            file.write(b"x" * 100)
    found = details(project).kernel
    writes = found.requests["write"]
    assert sum(writes.counts) - sum(before["write"].counts if "write" in before else [0]) == number
    assert 0 < writes.seconds < number
    assert sum(found.requests["create"].counts) == 1
    assert sum(found.requests["flush"].counts) == 1
    assert len(writes.counts) == len(found.bounds) + 1
    assert found.bounds == sorted(found.bounds)


def test_a_request_that_waits_for_procore_is_in_a_late_bucket(
    mount_project: MountProject, sandbox: SandboxHandle
) -> None:
    project = mount_project("freshness=0")
    (project.path / "plan.txt").write_text("plan")
    project.sync()
    project.await_listed()
    sandbox.faults(settings={"latency_api_s": 0.7})
    (project.path / "plan.txt").read_text()
    sandbox.faults(clear=True)
    kernel = details(project).kernel
    late = sum(
        count
        for bound, count in zip([0.0, *kernel.bounds], kernel.requests["open"].counts, strict=True)
        if bound >= 0.5
    )
    assert late >= 1


def test_answers_and_changes_of_others_are_told(mount_project: MountProject, sandbox: SandboxHandle) -> None:
    project = mount_project("freshness=0", prepare=make_unlisted)
    project.list_all()
    (project.path / "ours.txt").write_text("ours")
    project.sync()
    assert details(project).recent == []
    sandbox.act("put", path="/Theirs.txt", text="theirs", user="other")
    assert (project.path / "Theirs.txt").read_text() == "theirs"
    sandbox.act("put", path="/ours.txt", text="changed by them", user="other")
    wait_until(lambda: (project.path / "ours.txt").read_text() == "changed by them", "the new version")
    sandbox.act("delete", path="/Theirs.txt", user="other")
    wait_until(lambda: not (project.path / "Theirs.txt").exists() or not open_all(project), "the removal")
    found = details(project)
    told = {(change.path, change.what) for change in found.recent}
    assert told == {("ours.txt", "new version"), ("Theirs.txt", "removed")}
    assert all(change.by for change in found.recent if change.what != "removed")
    assert found.kernel.notifications["entry"] >= 1
    assert {call.answer for call in found.calls} <= {"200", "201", "204"}
    assert sum(call.count for call in found.calls) >= 5


def open_all(project: MountedProject) -> bool:
    """Open a file, so that a poll comes due."""
    return bool((project.path / "ours.txt").read_text())
