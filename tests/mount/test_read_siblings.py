"""Files in a row through the mount: what comes next is downloaded before it is asked for, and only then."""

from collections.abc import Callable
from pathlib import Path

from tests.support.mounting import Mounted, wait_until
from tests.support.sandbox import SandboxHandle


def downloads(sandbox: SandboxHandle) -> int:
    return int(sandbox.calls()["other"].get("storage GET", 0))


def test_a_copy_tool_has_the_next_files_at_hand(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for folder in ("a", "b"):
        (source / folder).mkdir(parents=True)
        for number in range(30):
            (source / folder / f"{number:02}.txt").write_text(f"{folder} {number}")
    sandbox.reset(0)
    sandbox.import_tree(source)
    mounted = mount(sandbox)
    list(mounted.path.rglob("*"))
    sandbox.reset_calls()
    files = sorted((mounted.path / "a").iterdir())
    for file in files[:2]:
        file.read_bytes()
    assert downloads(sandbox) == 2
    files[2].read_bytes()
    wait_until(lambda: downloads(sandbox) >= 3 + 4, "the next four files to be downloaded")
    for file in [*files[3:], *sorted((mounted.path / "b").iterdir())]:
        assert file.read_text() == f"{file.parent.name} {int(file.stem)}"
    wait_until(lambda: downloads(sandbox) >= 60, "all files to be downloaded")
    assert downloads(sandbox) == 60
    assert sandbox.calls()["total"] == 0
