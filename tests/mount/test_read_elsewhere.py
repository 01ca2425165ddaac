"""What others did to names is true at the next open: no name that the kernel remembers outlives a due look."""

from collections.abc import Callable

import pytest

from tests.support.mounting import Mounted, mount_followed
from tests.support.sandbox import SandboxHandle

NOW = "freshness=0"


@pytest.fixture
def mounted(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> Mounted:
    """A followed mount with /plans/a.txt and /plans/deep/b.txt, whose names and pages the kernel remembers."""
    sandbox.reset(0)
    for folder in ("/plans", "/plans/deep", "/other"):
        sandbox.act("create_folder", path=folder)
    for path in ("/plans/a.txt", "/plans/deep/b.txt"):
        sandbox.act("create_file", path=path, text=path)
    mounted = mount_followed(sandbox, mount, NOW)
    assert (mounted.path / "plans/a.txt").read_text() == "/plans/a.txt"
    assert (mounted.path / "plans/deep/b.txt").read_text() == "/plans/deep/b.txt"
    return mounted


def test_a_new_file_opens_by_its_name(sandbox: SandboxHandle, mounted: Mounted) -> None:
    assert not (mounted.path / "plans/new.txt").exists()
    sandbox.act("create_file", path="/plans/new.txt", text="new")
    assert (mounted.path / "plans/new.txt").read_text() == "new"


def test_a_file_that_went_elsewhere_leaves_its_name(sandbox: SandboxHandle, mounted: Mounted) -> None:
    sandbox.act("rename", path="/plans/a.txt", name="c.txt")
    with pytest.raises(FileNotFoundError):
        (mounted.path / "plans/a.txt").read_text()
    assert (mounted.path / "plans/c.txt").read_text() == "/plans/a.txt"
    sandbox.act("move", path="/plans/c.txt", to="/other")
    with pytest.raises(FileNotFoundError):
        (mounted.path / "plans/c.txt").read_text()
    assert (mounted.path / "other/c.txt").read_text() == "/plans/a.txt"


def test_a_folder_that_went_elsewhere_leaves_the_names_below(
    sandbox: SandboxHandle, mounted: Mounted
) -> None:
    sandbox.act("rename", path="/plans", name="drawings")
    with pytest.raises(FileNotFoundError):
        (mounted.path / "plans/deep/b.txt").read_text()
    assert (mounted.path / "drawings/deep/b.txt").read_text() == "/plans/deep/b.txt"


def test_files_that_swapped_their_names(sandbox: SandboxHandle, mounted: Mounted) -> None:
    sandbox.act("create_file", path="/plans/other.txt", text="other")
    assert (mounted.path / "plans/other.txt").read_text() == "other"
    for path, name in (("a.txt", "swap"), ("other.txt", "a.txt"), ("swap", "other.txt")):
        sandbox.act("rename", path=f"/plans/{path}", name=name)
    assert (mounted.path / "plans/a.txt").read_text() == "other"
    assert (mounted.path / "plans/other.txt").read_text() == "/plans/a.txt"


def test_a_file_deleted_and_made_anew(sandbox: SandboxHandle, mounted: Mounted) -> None:
    sandbox.act("delete", path="/plans/a.txt")
    sandbox.act("create_file", path="/plans/a.txt", text="anew")
    assert (mounted.path / "plans/a.txt").read_text() == "anew"
    assert sorted(entry.name for entry in (mounted.path / "plans").iterdir()) == ["a.txt", "deep"]
