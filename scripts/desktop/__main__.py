"""Runs programs on a fresh mount, one at a time with an empty cache, and prints what each cost: calls, requests, bytes.

python -m scripts.desktop [--only WORD]      command-line programs, and windows where DISPLAY is set
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

QUIET_S = 8.0
LONGEST_S = 90.0


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
    rows = [row for row in COMMANDS + (WINDOWS if os.environ.get("DISPLAY") else ()) if only in row.what]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        samples = folder / "samples"
        samples.mkdir()
        make_samples(samples)
        server = stack.enter_context(sandbox(folder / "sandbox", "--import", str(samples)))
        mount = stack.enter_context(our_mount(folder / "mount", server))
        print("| program | calls | requests to the storage | bytes | seconds |\n|---|---:|---:|---:|---:|")
        for row in rows:
            print(_measured(row, server, mount), flush=True)


def _measured(row: Row, server: Sandbox, mount: Mount) -> str:
    if shutil.which(row.command[0]) is None:
        return f"| {row.what} | not installed | | | |"
    mount.forget_content()
    mount.mount(*row.options)
    mount.wait_until_listed()
    server.reset_calls()
    began_s = time.monotonic()
    command = [word.format(mount.path) for word in row.command]
    if os.environ.get("DISPLAY"):
        command = ["dbus-run-session", "--", *command]  # file managers would only ask a running one
    child = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    )
    took_s = (_settled(server) if row.has_window else _ended(child)) - began_s
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    child.wait()
    requests, size_bytes = server.storage()
    calls = server.calls()
    mount.sync()
    calls = max(calls, server.calls())
    mount.stop()
    mount.take_down()
    return f"| {row.what} | {calls} | {requests} | {size_bytes / 1e6:.2f} MB | {took_s:.1f} |"


def _environment() -> dict[str, str]:
    """A new user's: no thumbnails and settings of an earlier row, and the system's Python in file managers."""
    return clean_environment() | {"HOME": tempfile.mkdtemp(prefix="home"), "PATH": "/usr/bin:/bin"}


def _ended(child: "subprocess.Popen[bytes]") -> float:
    with suppress(subprocess.TimeoutExpired):
        child.wait(LONGEST_S)
    return time.monotonic()


def _settled(server: Sandbox) -> float:
    """When nothing has been asked of the server for some seconds: the last time that something was."""
    began_s = last_s = time.monotonic()
    seen = None
    while time.monotonic() < min(last_s + QUIET_S, began_s + LONGEST_S):
        now = (server.calls(), server.storage())
        if now != seen:
            seen, last_s = now, time.monotonic()
        time.sleep(0.2)
    return last_s


if __name__ == "__main__":
    main()
