"""A tree goes into the project by any copy tool for the calls that its files cost, and goes in again for none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.writing import MountedProject, make_tree

FILES, FOLDERS = 500, 40


def cp(source: Path, target: Path) -> None:
    run("cp", "-r", f"{source}/.", target)


def rsync(source: Path, target: Path) -> None:
    run("rsync", "-a", f"{source}/", target)


def tar(source: Path, target: Path) -> None:
    run("sh", "-c", 'tar c -C "$0" . | tar x -C "$1"', source, target)


def rclone(source: Path, target: Path) -> None:
    run("rclone", "copy", "--config", "/dev/null", source, target)


@pytest.mark.parametrize(
    ("tool", "files", "folders"), [(rsync, FILES, FOLDERS), (cp, 100, 12), (tar, 100, 12), (rclone, 100, 12)]
)
def test_a_tree_costs_two_calls_a_file_and_one_a_folder(
    mount_project: Callable[..., MountedProject],
    tmp_path: Path,
    tool: Callable[[Path, Path], None],
    files: int,
    folders: int,
) -> None:
    source = make_tree(tmp_path / "source", files=files, folders=folders)
    project = mount_project("freshness=600")
    with project.counted() as calls:
        tool(source, project.path)
        project.sync()
    project.assert_same(source)
    assert all(file.numbers == [1] for file in project.files().values())
    assert project.binned() == []
    assert calls.writes == 2 * files + folders, calls.by_route
    assert calls.reads - calls.polls <= 5, calls.by_route
    run("diff", "-r", source, project.path)


def test_the_same_tree_again_costs_nothing(
    mount_project: Callable[..., MountedProject], tmp_path: Path
) -> None:
    """By `rsync -a`: at once, after a remount, and with one file changed, which is two calls and one version."""
    source = make_tree(tmp_path / "source", files=60, folders=8, largest_bytes=32 << 10)
    project = mount_project("freshness=600")  # on a busy machine a look would come due meanwhile
    rsync(source, project.path)
    project.sync()
    before = project.files()
    assert_moves_nothing(project, source)
    listed = stats_of(project.path)

    project.remount()
    assert_moves_nothing(project, source)
    assert stats_of(project.path) == listed

    changed = next(path for path in sorted(source.rglob("*.pdf")))
    changed.write_bytes(changed.read_bytes() + b"more")
    name = str(changed.relative_to(source))
    with project.counted() as calls:
        rsync(source, project.path)
        project.sync()
    assert calls.total == 2, calls.by_route
    assert project.file(name).numbers == [2, 1]
    assert project.file(name).id == before[name].id
    assert {path: file for path, file in project.files().items() if path != name} == {
        path: file for path, file in before.items() if path != name
    }
    project.assert_same(source)
    assert_moves_nothing(project, source)


def assert_moves_nothing(project: MountedProject, source: Path) -> None:
    with project.counted() as calls:
        told = run("rsync", "-a", "--itemize-changes", "--stats", f"{source}/", project.path)
        project.sync()
    assert calls.writes == 0, calls.by_route
    assert calls.reads <= 2, calls.by_route
    assert calls.bytes_read == 0
    assert "Total transferred file size: 0 bytes" in told
    assert not [line for line in told.splitlines() if line[:1] in {"<", ">", "c", ".", "*"}], told


def stats_of(root: Path) -> dict[str, tuple[int, ...]]:
    """What must not change by an upload or a remount."""
    found: dict[str, tuple[int, ...]] = {}
    for path in root.rglob("*"):
        stat = path.lstat()
        found[str(path.relative_to(root))] = (
            stat.st_ino,
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            stat.st_size,
            stat.st_mtime_ns,
        )
    return found
