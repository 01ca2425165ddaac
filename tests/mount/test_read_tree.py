"""A project through the mount: what is listed, read, walked, and what that costs in calls."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.mounting import Mounted
from tests.support.sandbox import SandboxHandle


def test_a_tree_comes_out_as_it_went_in(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "a b" / "ünï ✓").mkdir(parents=True)
    (source / "a b" / "ünï ✓" / "empty").touch()
    (source / "a b" / "-rf").write_bytes(b"\0" * 100_000 + b"end")
    (source / ".hidden.txt").write_text("x")
    sandbox.reset(0)
    sandbox.import_tree(source)
    mounted = mount(sandbox)
    copy = tmp_path / "copy"
    subprocess.run(["rsync", "-a", f"{mounted.path}/", copy], check=True, timeout=60)
    subprocess.run(["diff", "-r", source, copy], check=True, timeout=60)


def test_first_ls_and_walks_cost_few_calls(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    sandbox.reset(1500)
    sandbox.reset_calls()
    mounted = mount(sandbox)
    assert list(mounted.path.iterdir())
    assert sandbox.calls()["total"] <= 4
    assert len(list(mounted.path.rglob("*"))) == 1500
    assert sandbox.calls()["total"] <= 2 + 5
    sandbox.reset_calls()
    assert len(list(mounted.path.rglob("*"))) == 1500
    mounted.unmount()
    again = mount(sandbox, at=mounted.path)
    assert len(list(again.path.rglob("*"))) == 1500
    assert sandbox.calls()["total"] <= 2


def test_a_server_without_v2_is_found_out_once(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    sandbox.reset(150)
    sandbox.faults(dialect={"documents_lists": "none"})
    mounted = mount(sandbox)
    assert len(list(mounted.path.rglob("*"))) == 150
    mounted.unmount()
    sandbox.reset_calls()
    again = mount(sandbox, at=mounted.path)
    assert len(list(again.path.rglob("*"))) == 150
    assert sandbox.calls()["total"] <= 2
