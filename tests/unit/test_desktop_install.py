"""What `procorefs desktop install` writes for a user, and that `remove` takes away just that."""

import os
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from procorefs.cli.desktop.installing import Targets, autostart
from procorefs.cli.main import procorefs, run

MIME = "{http://www.freedesktop.org/standards/shared-mime-info}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATA", "CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def files_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def ours(folder: Path) -> set[str]:
    """Without what update-mime-database and the like make of the files."""
    return {name for name in files_in(folder) if "procorefs" in name.rpartition("/")[2]}


def test_install_and_remove_are_each_others_undoing(home: Path) -> None:
    other = home / "data" / "nautilus-python" / "extensions" / "other.py"
    other.parent.mkdir(parents=True)
    other.write_text("# somebody else's")
    assert run(procorefs, ["desktop", "install"]) == 0
    assert ours(home / "data") == {
        *(f"{name}-python/extensions/procorefs_extension.py" for name in ("nautilus", "nemo", "caja")),
        "kio/servicemenus/procorefs.desktop",
        "mime/packages/procorefs.xml",
        *(
            f"icons/hicolor/scalable/emblems/emblem-procorefs-{name}.svg"
            for name in ("failed", "locked", "readonly", "waiting")
        ),
    }
    assert os.access(home / "data/kio/servicemenus/procorefs.desktop", os.X_OK)
    assert run(procorefs, ["desktop", "install"]) == 0  # again: an update
    assert run(procorefs, ["desktop", "remove"]) == 0
    assert ours(home / "data") == set()
    assert other.read_text() == "# somebody else's"
    assert run(procorefs, ["desktop", "remove"]) == 0


def test_a_file_that_somebody_changed_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(procorefs, ["desktop", "install"]) == 0
    changed = home / "data/kio/servicemenus/procorefs.desktop"
    changed.write_text("mine")
    assert run(procorefs, ["desktop", "remove"]) == 0
    assert changed.read_text() == "mine"
    assert "was changed by somebody else and stays" in capsys.readouterr().out


def test_a_mount_at_the_start_has_a_bookmark_beside_the_others(home: Path) -> None:
    bookmarks = home / "config/gtk-3.0/bookmarks"
    bookmarks.parent.mkdir(parents=True)
    bookmarks.write_text("file:///srv/plans Plans\n")
    place = home / "my mounts" / "Riverside"
    place.mkdir(parents=True)
    assert run(procorefs, ["desktop", "install", "--mount", str(place), "8801/Riverside Medical"]) == 0
    line = f"file://{home}/my%20mounts/Riverside Riverside"
    assert bookmarks.read_text().splitlines() == ["file:///srv/plans Plans", line]
    entry = (home / "config/autostart/procorefs.desktop").read_text()
    (command,) = [one.removeprefix("Exec=") for one in entry.splitlines() if one.startswith("Exec=")]
    assert shlex.split(command)[1:] == ["mount", "8801/Riverside Medical", str(place)]
    assert run(procorefs, ["desktop", "remove"]) == 0
    assert bookmarks.read_text() == "file:///srv/plans Plans\n"
    assert not (home / "config/autostart").exists()


def test_a_project_without_a_mount_point_is_a_wrong_call(home: Path) -> None:
    assert run(procorefs, ["desktop", "install", "8801/1"]) == 2
    assert ours(home / "data") == set()


def test_an_exec_line_quotes_what_the_desktop_would_expand(home: Path) -> None:
    targets = Targets(home, home)
    text = autostart(targets, "/opt/x", ('a "b" $c', "100%f", "d`e"))[1].decode()
    assert 'Exec="/opt/x" "mount" "a \\\\"b\\\\" \\\\$c" "100%%f" "d\\\\`e"' in text


def test_the_extension_has_the_commands_absolute_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = home / "bin" / "procorefs"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    assert run(procorefs, ["desktop", "install"]) == 0
    extension = (home / "data/nemo-python/extensions/procorefs_extension.py").read_text()
    assert f"\nCOMMAND = {str(command)!r}\n" in extension
    assert f'Exec="{command}" retry -- %F' in (home / "data/kio/servicemenus/procorefs.desktop").read_text()


def test_the_file_types_of_construction_are_known_by_name(home: Path) -> None:
    assert run(procorefs, ["desktop", "install"]) == 0
    root = ET.parse(home / "data/mime/packages/procorefs.xml").getroot()  # noqa: S314 - our own file
    patterns = [glob.get("pattern", "") for glob in root.iter(f"{MIME}glob")]
    wanted = "rvt rfa rte nwd nwc nwf ifc ifczip dwg dxf skp pln mpp dgn dwf e57 xer"
    assert {f"*.{name}" for name in wanted.split()} <= set(patterns)
    assert len(patterns) == len(set(patterns))
    assert not list(root.iter(f"{MIME}magic"))
    # Linux's own list has other types for some of these names: two of one weight would make programs read the file
    assert {glob.get("weight") for glob in root.iter(f"{MIME}glob")} == {"60"}
