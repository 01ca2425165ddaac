"""The tour of the demo: runs real commands on a real mount, and prints the time and API calls of each."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from rich.text import Text

from procorefs.cli.support.terminal import console
from procorefs.config import Failure
from procorefs.config.units import show_size
from procorefs.storage.printable import printable

PROJECT = "project"
"""The mount point, in the folder of the demo, where all commands run."""
_FRESHNESS_S = 2
"""Lower than the default, to keep the demo short."""
_COLLEAGUE_S = 15.0
_COMMAND_S = 120.0
_SHOWN_LINES = 9
_NOTE = "RFI 042 - Slab edge at grid C.txt"


class TourFailed(Failure):
    """A step of the tour failed."""


class Guide:
    """Runs commands and prints what they did."""

    def __init__(self, folder: Path, environment: dict[str, str], control_url: str) -> None:
        self.folder = folder
        self.mountpoint = folder / PROJECT
        self._environment = environment
        self._control_url = control_url
        self._console = console(soft_wrap=True, breaks_pipes=True)
        # The sandbox is on this machine: do not use a proxy.
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def say(self, text: str, style: str = "") -> None:
        """Print one line without markup."""
        self._console.print(Text(printable(text), style=style))

    def heading(self, text: str) -> None:
        """Print the heading of a step."""
        self._console.print()
        self.say(text, "bold")

    def run(self, *command: str, show: str | None = None, lines: int = _SHOWN_LINES) -> str:
        """Run a command; print it, the start of its output, its time and its API calls; return the output."""
        self.say(f"$ {show or shlex.join(command)}", "cyan")
        calls, began = self.calls(), time.monotonic()
        try:
            done = subprocess.run(
                command, env=self._environment, capture_output=True, text=True, errors="replace",
                timeout=_COMMAND_S, check=False, cwd=self.folder, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise TourFailed(f"{command[0]} did not end within {_COMMAND_S:g} seconds") from error
        took_s, spent = time.monotonic() - began, self.calls() - calls
        if done.returncode != 0:
            reason = done.stderr.strip().removeprefix("procorefs: ").partition("\n")[0]
            raise TourFailed(reason or f"{command[0]} failed without saying why")
        printed = done.stdout.splitlines()
        for line in printed[:lines]:
            self.say(f"  {line}")
        if len(printed) > lines:
            self.say(f"  … {len(printed) - lines:,} more", "dim")
        self.say(f"  {took_s:.2f} s, {spent} API call{'' if spent == 1 else 's'}", "green")
        return done.stdout

    def procorefs(self, *words: str) -> str:
        """Run a command of ours."""
        return self.run(
            sys.executable, "-m", "procorefs.cli", *words, show=shlex.join(("procorefs", *words)), lines=20
        )

    def calls(self) -> int:
        """The number of API calls that the sandbox has counted."""
        return int(self._ask("calls")["total"])

    def act(self, op: str, **fields: str) -> None:
        """Let the simulated colleague change the project."""
        self._ask("act", json.dumps({"op": op, **fields}).encode())

    def say_where_it_stays(self) -> None:
        """Print where the project stays mounted after the tour."""
        self.heading("The project stays mounted. Look around in another terminal:")
        self.say(f"  {self.mountpoint}", "bold green")
        self.say("Ctrl-C ends the demo and removes everything it made.")

    def say_goodbye(self) -> None:
        """Print that the cleanup begins."""
        self._console.print()
        self.say("Unmounting and cleaning up.")

    def _ask(self, name: str, body: bytes | None = None) -> Any:  # noqa: ANN401 - whatever JSON it answers
        headers = {"Content-Type": "application/json"}
        url = f"{self._control_url}/{name}"
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - http, as our own child announced it
        with self._http.open(request, timeout=10) as answer:
            return json.load(answer)


def tour(guide: Guide, documents: int) -> None:
    """All steps, some seconds in total. Raises TourFailed."""
    guide.say(
        f"An embedded Procore with a project of {documents:,} documents runs on this machine; everything else is in"
    )
    guide.say(f"  {guide.folder}", "bold green")
    _mount(guide)
    _walk(guide)
    _copy_out(guide)
    _colleague(guide)
    guide.heading("The status of the mount:")
    guide.procorefs("status")


def _mount(guide: Guide) -> None:
    guide.heading("The projects of the account, and one of them mounted:")
    guide.procorefs("projects")
    guide.mountpoint.mkdir()
    guide.procorefs("mount", "-o", f"freshness={_FRESHNESS_S}", PROJECT)
    guide.run("ls", PROJECT)


def _walk(guide: Guide) -> None:
    guide.heading("A walk through everything, and a second one:")
    walk = ("find", PROJECT, "-printf", "%y %10s  %P\\n")
    first = guide.run(*walk, lines=6)
    guide.run(*walk, lines=0)
    files = sum(line.startswith("f ") for line in first.splitlines())
    guide.say(f"  {files:,} files in {len(first.splitlines()) - files:,} folders")


def _copy_out(guide: Guide) -> None:
    guide.heading("A copy of everything. Bytes cost no API calls; the calls spent are polls for changes:")
    copy = guide.folder / "copy"
    if shutil.which("rsync"):
        guide.run("rsync", "-a", f"{PROJECT}/", "copy")
    else:
        guide.run("cp", "-a", PROJECT, "copy")
    sizes = [path.stat().st_size for path in copy.rglob("*") if path.is_file()]
    guide.say(f"  {len(sizes):,} files, {show_size(sum(sizes))}")
    guide.run("diff", "-r", PROJECT, "copy")


def _colleague(guide: Guide) -> None:
    guide.heading("A colleague answers an RFI in Procore; a moment later the answer is here:")
    folder = _a_folder(guide.mountpoint)
    path = f"{folder.relative_to(guide.mountpoint)}/{_NOTE}"
    guide.act("put", path=f"/{path}", text="Robin Keller: pour the slab edge 20 mm higher, see A-512.\n")
    began = time.monotonic()
    while not _shows(folder, _NOTE):
        if time.monotonic() - began > _COLLEAGUE_S:
            raise TourFailed(f"the colleague's file did not show within {_COLLEAGUE_S:g} seconds")
        time.sleep(0.2)
    guide.say(f"  seen after {time.monotonic() - began:.1f} s", "green")
    guide.run("cat", f"{PROJECT}/{path}")


def _a_folder(mountpoint: Path) -> Path:
    folders = sorted(path for path in mountpoint.iterdir() if path.is_dir())
    return next((path for path in folders if "RFI" in path.name), folders[0] if folders else mountpoint)


def _shows(folder: Path, name: str) -> bool:
    return name in os.listdir(folder)  # noqa: PTH208 - names, not paths
