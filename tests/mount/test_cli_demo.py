"""The demo from its first line to an empty machine, also when it is interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procorefs.storage.mountinfo import read_mounts
from tests.support.environment import bare_environment

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    environment = {
        **bare_environment(),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PROCOREFS_CLIENT_ID": "somebody's own",
    }
    command = [sys.executable, "-m", "procorefs.cli", "demo", "--documents", "60", *words]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def left_over(folder: Path) -> list[str]:
    """Mounts, files and processes that name the folder of the demo."""
    mounts = [str(mount.mountpoint) for mount in read_mounts() if folder in mount.mountpoint.parents]
    files = [str(path) for path in folder.iterdir()]
    processes = []
    for entry in Path("/proc").iterdir():
        try:
            if str(folder).encode() in (entry / "environ").read_bytes():
                processes.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return mounts + files + processes


def test_the_tour(tmp_path: Path) -> None:
    with start(tmp_path, "--leave") as demo:
        out, err = demo.communicate(timeout=120)
    assert (demo.returncode, err) == (0, "")
    for step in (
        "procorefs projects",
        "procorefs mount",
        "find project",
        "rsync -a",
        "diff -r",
        "pour the slab edge",
    ):
        assert step in out
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_until_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        try:
            lines = iter(demo.stdout.readline, "")
            assert any("The project stays mounted" in line for line in lines)
            [place] = [mount.mountpoint for mount in read_mounts() if tmp_path in mount.mountpoint.parents]
            assert next(lines).strip() == str(place)
            with os.scandir(place) as entries:
                assert any(entries)
                # somebody still has the folder open
                demo.send_signal(number)
                _, err = demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert (demo.returncode, err) == (0, "")
    assert left_over(tmp_path) == []


def test_interrupted_in_the_middle(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        try:
            assert any(line.startswith("$ procorefs mount") for line in iter(demo.stdout.readline, ""))
            demo.send_signal(signal.SIGINT)
            _, err = demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert (demo.returncode, err.strip()) == (130, "procorefs: interrupted")
    assert left_over(tmp_path) == []


def test_a_second_signal_does_not_disturb_the_cleaning_up(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        try:
            lines = iter(demo.stdout.readline, "")
            assert any("Ctrl-C ends the demo" in line for line in lines)
            demo.send_signal(signal.SIGINT)
            assert any("cleaning up" in line for line in lines)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                demo.send_signal(number)
            _, err = demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert (demo.returncode, err) == (0, "")
    assert left_over(tmp_path) == []
