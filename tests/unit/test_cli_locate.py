"""Which mount a path lies in: links, dots, mounts in mounts, and paths that lie in none."""

import os
from pathlib import Path

import pytest

from procorefs.cli.mounts.locate import NoCurrentDirectory, split_path
from procorefs.storage.mountinfo import Mount


@pytest.fixture
def mounts(tmp_path: Path) -> list[Mount]:
    for name in ("m", "m/inner", "other", "m2"):
        (tmp_path / name).mkdir()
    return [
        Mount(Path("/"), "ext4", "/dev/sda1"),
        Mount(tmp_path / "m", "fuse.procorefs", "1/2"),
        Mount(tmp_path / "m" / "inner", "tmpfs", "none"),
        Mount(tmp_path / "m2", "fuse.procorefs", "1/3"),
    ]


@pytest.mark.parametrize(
    ("text", "mountpoint", "below"),
    [
        ("m", "m", ""),
        ("m/", "m", ""),
        ("m/a/b c.pdf", "m", "a/b c.pdf"),
        ("m/a/../b", "m", "b"),
        ("m/./a//b", "m", "a/b"),
        ("other/../m/x", "m", "x"),
        ("m2/x", "m2", "x"),
        ("m/innermost", "m", "innermost"),
        ("to the mount/x", "m", "x"),
        ("into the mount/x", "m", "a/x"),
        ("relative/x", "m", "x"),
    ],
)
def test_where_a_path_lies(
    tmp_path: Path, mounts: list[Mount], text: str, mountpoint: str, below: str
) -> None:
    (tmp_path / "to the mount").symlink_to(tmp_path / "m")
    (tmp_path / "into the mount").symlink_to(tmp_path / "m" / "a")
    (tmp_path / "relative").symlink_to("other/../m")
    assert split_path(str(tmp_path / text), mounts) == (tmp_path / mountpoint, below)


@pytest.mark.parametrize("text", ["other/x", "m/inner/x", "m3", ""])
def test_elsewhere(tmp_path: Path, mounts: list[Mount], text: str) -> None:
    found, _ = split_path(str(tmp_path / text), mounts)
    assert found not in (tmp_path / "m", tmp_path / "m2")


def test_links_in_a_circle_end(tmp_path: Path, mounts: list[Mount]) -> None:
    (tmp_path / "round").symlink_to("round")
    assert split_path(str(tmp_path / "round" / "x"), mounts)[0] == tmp_path / "round" / "x"


def test_from_where_one_stands(tmp_path: Path, mounts: list[Mount], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "m")
    assert split_path("a", mounts) == (tmp_path / "m", "a")
    assert split_path(".", mounts) == (tmp_path / "m", "")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    os.rmdir(gone)
    with pytest.raises(NoCurrentDirectory, match="is gone"):
        split_path("a", mounts)
