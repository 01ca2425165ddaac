"""Files that Procore refuses for what they are: empty ones, and types that a company has blocked."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject


@pytest.mark.parametrize("at", ["refused_at_upload", "refused_at_file"])
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_names_the_rule_and_later_files_cost_no_call(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject], at: str, status: int
) -> None:
    project = mount_project("freshness=3600")
    project.mounted.expect_warning("was refused")
    sandbox.faults(dialect={"empty_files": at, "strict_types": at, "invalid_status": status})
    (project.path / "empty.txt").touch()
    (project.path / "setup.exe").write_text("x")
    left = {item.path: item.reason for item in project.settle()}
    assert "Procore does not take empty files" in left["empty.txt"]
    assert "Procore does not take files of the type .exe" in left["setup.exe"]

    with project.counted() as calls:
        (project.path / "another.txt").touch()
        (project.path / "script.PS1").write_text("x")
        left = {item.path: item.reason for item in project.settle()}
    assert calls.writes == 0, calls.by_route
    assert len(left) == 4
    assert "Procore does not take empty files" in left["another.txt"]
    assert "Procore does not take files of the type .PS1" in left["script.PS1"]
    assert project.files() == {}

    # Bytes, or another name, are all that is missing.
    for name in ("empty.txt", "another.txt"):
        (project.path / name).write_text("y")
    for name in ("setup.exe", "script.PS1"):
        (project.path / name).rename(project.path / f"{name}.txt")
    project.sync()
    assert len(project.files()) == 4


def test_an_empty_version_is_refused_and_the_document_stays(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject]
) -> None:
    project = mount_project("freshness=3600")
    project.mounted.expect_warning("was refused")
    (project.path / "plan.txt").write_text("first")
    project.sync()
    dialect: dict[str, Any] = {"empty_files": "refused_at_file", "refusals_name_rule": False}
    sandbox.faults(dialect=dialect)
    (project.path / "plan.txt").write_text("")
    (item,) = project.settle()
    assert "it is empty, which Procore may refuse" in item.reason
    assert project.file("plan.txt").sizes == [5]
    sandbox.faults(dialect={"empty_files": "taken"})
    assert project.mounted.home.procorefs("retry", project.path / "plan.txt").returncode == 0
    project.sync()
    assert project.file("plan.txt").sizes == [0, 5]
