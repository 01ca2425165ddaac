"""Runs programs on a fresh mount, one at a time with an empty cache, and prints what each cost: calls, requests, bytes.

python -m scripts.desktop [--only WORD]      command-line programs, and windows where Xvfb is installed
"""

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from scripts.bench.embedded import Sandbox, clean_environment, sandbox
from scripts.bench.mounts import Mount, our_mount
from scripts.desktop.samples import make_samples
from scripts.desktop.screen import Screen, screen

QUIET_S = 8.0
LONGEST_S = 90.0
USERS_READ_AHEAD_KIB = 128
"""The kernel's default, VM_READAHEAD_PAGES."""


class Row(NamedTuple):
    """A program to measure."""

    what: str
    command: tuple[str, ...]
    """With {} for the mount point."""
    has_window: bool = False
    options: tuple[str, ...] = ()
    """Of the mount."""


COMMANDS = (
    Row("pdfinfo: page 1 of 60, 79 MB", ("pdfinfo", "-f", "1", "-l", "1", "{}/plans.pdf")),
    Row("pdfinfo: all 60 pages", ("pdfinfo", "-f", "1", "-l", "60", "{}/plans.pdf")),
    Row("pdftoppm: draw page 1", ("pdftoppm", "-f", "1", "-l", "1", "-r", "40", "{}/plans.pdf", "/dev/null")),
    Row(
        "pdftoppm: draw page 30",
        ("pdftoppm", "-f", "30", "-l", "30", "-r", "40", "{}/plans.pdf", "/dev/null"),
    ),
    Row("unzip -l: 3,000 files, 300 MB", ("unzip", "-l", "{}/handover.zip")),
    Row(
        "unzip -p: one of its files", ("unzip", "-p", "{}/handover.zip", "handover/room 030/sheet 01500.dat")
    ),
    Row("tail: 1 GiB", ("tail", "{}/sensors.log")),
    Row("tail -n 100000: 1 GiB", ("tail", "-c", "5000000", "{}/sensors.log")),
    Row("cp: 79 MB", ("cp", "{}/plans.pdf", "/dev/null")),
    Row("file: 40 photos of 3 MB", ("sh", "-c", "file {}/photos/*")),
)
_OFFICE = ("soffice", "--norestore", "--nologo", "--nofirststartwizard")
WINDOWS = (
    Row("evince: page 1 of 60, 79 MB", ("evince", "{}/plans.pdf"), True),
    Row("okular: page 1 of 60, 79 MB", ("okular", "{}/plans.pdf"), True),
    Row("ristretto: 1 of 40 photos of 3 MB", ("ristretto", "{}/photos/photo 00.png"), True),
    Row("eog: 1 of 40 photos of 3 MB", ("eog", "{}/photos/photo 00.png"), True),
    Row("Thunar: 40 photos of 3 MB", ("thunar", "{}/photos"), True),
    Row("Thunar, thumbnails=off", ("thunar", "{}/photos"), True, ("thumbnails=off",)),
    Row("Nemo: 40 photos of 3 MB", ("nemo", "--no-desktop", "{}/photos"), True),
    Row("Nemo, thumbnails=off", ("nemo", "--no-desktop", "{}/photos"), True, ("thumbnails=off",)),
    Row("Caja: 40 photos of 3 MB", ("caja", "--no-desktop", "{}/photos"), True),
    Row("Caja, thumbnails=off", ("caja", "--no-desktop", "{}/photos"), True, ("thumbnails=off",)),
    Row("PCManFM: 40 photos of 3 MB", ("pcmanfm", "{}/photos"), True),
    Row("PCManFM, thumbnails=off", ("pcmanfm", "{}/photos"), True, ("thumbnails=off",)),
    Row("Dolphin: 40 photos of 3 MB", ("dolphin", "{}/photos"), True),
    Row("Nautilus: 40 photos of 3 MB", ("nautilus", "{}/photos"), True),
    Row("Nemo: 400 models, half of them of unknown type", ("nemo", "--no-desktop", "{}/models"), True),
    Row("LibreOffice: open a letter", (*_OFFICE, "{}/letter.odt"), True),
    Row(
        "LibreOffice: open, edit, save, close",
        ("sh", "-c", "soffice --norestore --nologo '{}/letter.odt' & sleep 15; "
         "xdotool search --onlyvisible --name 'letter.odt' windowfocus --sync type more; "
         "xdotool key ctrl+s; sleep 8; xdotool key ctrl+q; wait"),
    ),
)  # fmt: skip


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose text has this word")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        display = stack.enter_context(screen(folder / "screen"))
        rows = [row for row in COMMANDS + (WINDOWS if display is not None else ()) if only in row.what]
        samples = folder / "samples"
        samples.mkdir()
        make_samples(samples)
        server = stack.enter_context(sandbox(folder / "sandbox", "--import", str(samples)))
        mount = stack.enter_context(our_mount(folder / "mount", server))
        print("| program | calls | requests to the storage | bytes | until the picture is drawn | seconds |")
        print("|---|---:|---:|---:|---:|---:|")
        for row in rows:
            print(measured(row, server, mount, display), flush=True)


def measured(row: Row, server: Sandbox, mount: Mount, display: Screen | None) -> str:
    """Run a program with an empty cache: its line of the table."""
    if shutil.which(row.command[0]) is None:
        return f"| {row.what} | not installed | | | | |"
    mount.forget_content()
    mount.mount(*row.options)
    _read_ahead_as_for_a_user(mount)
    mount.wait_until_listed()
    server.reset_calls()
    began_s = time.monotonic()
    command = [word.format(mount.path) for word in row.command]
    if display is not None:
        command = ["dbus-run-session", "--", *command]  # file managers would only ask a running one
    child = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(display),
        start_new_session=True,
    )
    drawn = ""
    if row.has_window and display is not None:
        ended_s, drawn = _settled(server, display)
    else:
        ended_s = _ended(child)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    child.wait()
    requests, size_bytes = server.storage()
    calls = server.calls()
    mount.sync()
    calls = max(calls, server.calls())
    mount.stop()
    mount.take_down()
    took_s = ended_s - began_s
    return f"| {row.what} | {calls} | {requests} | {size_bytes / 1e6:.2f} MB | {drawn} | {took_s:.1f} |"


def _read_ahead_as_for_a_user(mount: Mount) -> None:
    """A daemon of root has the kernel read further ahead than a desktop user's daemon can."""
    device = mount.path.stat().st_dev
    if os.geteuid() == 0:
        setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        setting.write_text(f"{USERS_READ_AHEAD_KIB}\n")


def _environment(display: Screen | None) -> dict[str, str]:
    """A new user's: no thumbnails and settings of an earlier row, and the system's Python in file managers."""
    home = tempfile.mkdtemp(prefix="home")
    found = clean_environment() | {"HOME": home, "XDG_RUNTIME_DIR": home, "PATH": "/usr/bin:/bin"}
    return found | ({"DISPLAY": display.display} if display is not None else {})


def _ended(child: "subprocess.Popen[bytes]") -> float:
    with suppress(subprocess.TimeoutExpired):
        child.wait(LONGEST_S)
    return time.monotonic()


def _settled(server: Sandbox, display: Screen) -> tuple[float, str]:
    """When nothing has been asked of the server for some seconds: the last time that something was.

    And the bytes that it had sent when a picture was drawn.
    """
    began_s = last_s = time.monotonic()
    seen, drawn = None, ""
    while time.monotonic() < min(last_s + QUIET_S, began_s + LONGEST_S):
        now = (server.calls(), server.storage())
        if now != seen:
            seen, last_s = now, time.monotonic()
        if not drawn and display.shows_noise():
            drawn = f"{now[1][1] / 1e6:.2f} MB"
        time.sleep(0.05)
    return last_s, drawn


if __name__ == "__main__":
    main()
