"""`procorefs desktop`: installs the parts for file managers, and does what their menus offer."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from procorefs.cli.commands.retry import discard as discard_changes
from procorefs.cli.desktop import installing
from procorefs.cli.mounts.locate import find_location, locate
from procorefs.cli.support.formatting import counted
from procorefs.cli.support.terminal import say
from procorefs.config import Failure, find_paths
from procorefs.service.control_socket import FilesRequest, ask
from procorefs.service.file_facts import FilesAnswer
from procorefs.storage.mountinfo import read_mounts
from procorefs.storage.printable import printable
from procorefs.storage.processes import child_environment

_HOLD = "check-out"


class NotDone(Failure):
    """The action is not possible for this file."""


@click.group(short_help="Install what file managers show and offer.")
def desktop() -> None:
    """Install the parts for file managers, or do what their menus offer."""


@desktop.command("install", short_help="Install extension, menus, file types and emblems for you.")
@click.option(
    "--mount",
    "mountpoint",
    metavar="MOUNTPOINT",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also mount there when your session starts, with a bookmark.",
)
@click.argument("spec", required=False)
def install(mountpoint: Path | None, spec: str | None) -> None:
    """Install the extension of Nautilus, Nemo and Caja, the menu of Dolphin, file types and emblems for this user.

    With --mount, SPEC names the project as for `procorefs mount`; without it the profile does.
    """
    if spec is not None and mountpoint is None:
        raise click.UsageError("SPEC needs --mount MOUNTPOINT")
    targets, command = installing.Targets.of(os.environ), installing.command_path()
    wanted = dict(installing.contents(targets, command))
    if mountpoint is not None:
        mountpoint = mountpoint.expanduser().absolute()
        words = (*([spec] if spec else []), str(mountpoint))
        file, text = installing.autostart(targets, command, words)
        wanted[file] = text
    done = installing.install(targets, find_paths(os.environ), wanted, mountpoint)
    say(f"Installed {counted(len(done), 'file')}. Start your file manager again to use them.")


@desktop.command("remove", short_help="Remove what `install` has installed.")
def remove() -> None:
    """Remove what `procorefs desktop install` has installed for this user."""
    gone, kept = installing.remove(installing.Targets.of(os.environ), find_paths(os.environ))
    say(f"Removed {counted(len(gone), 'file')}.")
    for path in kept:
        say(f"{printable(str(path))} was changed by somebody else and stays.")


@desktop.command("versions", short_help="Show a file's old versions in the file manager.")
@click.argument("file")
def versions(file: str) -> None:
    """Open the folder of FILE's versions."""
    location = find_location(file, find_paths(os.environ))
    _open(str(Path(location.daemon.mountpoint) / ".procore" / "versions" / location.below))


@desktop.command("page", short_help="Open the project's Documents page in a browser.")
@click.argument("file")
def page(file: str) -> None:
    """Open the Documents page of the project that FILE is in."""
    location = find_location(file, find_paths(os.environ))
    answer = ask(Path(location.daemon.socket), FilesRequest((location.below,)), FilesAnswer)
    if not answer.page:
        raise NotDone("this Procore has no page that is known")
    _open(answer.page)


@desktop.command("discard", short_help="Ask, and then throw failed changes away.")
@click.argument("files", nargs=-1, required=True)
@click.pass_context
def discard(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Ask in a window whether changes of FILES are to be thrown away, and do it."""
    question = "Throw these changes away and show what Procore has?"
    try:
        answer = subprocess.run(
            ["kdialog", "--title", "ProcoreFS", "--warningyesno", question],
            env=child_environment(),
            check=False,
        )
    except FileNotFoundError as error:
        raise NotDone("kdialog is not installed; use `procorefs discard`") from error
    if answer.returncode == 0:
        ctx.invoke(discard_changes, paths=files)


@desktop.command(_HOLD, short_help="Keep a document checked out until `check-in`.")
@click.argument("file")
def check_out(file: str) -> None:
    """Check FILE out in Procore and keep it so until `procorefs desktop check-in FILE`, or Ctrl-C."""
    find_location(file, find_paths(os.environ))  # a lock elsewhere checks nothing out
    with Path(file).open("rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotDone(
                f"{printable(file)} is checked out by another user or locked by a program"
            ) from error
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        say(f"{printable(file)} is checked out.")
        sys.stdout.flush()
        signal.pause()


@desktop.command("check-in", short_help="End what `check-out` holds.")
@click.argument("file")
def check_in(file: str) -> None:
    """Check FILE in: ends each `procorefs desktop check-out FILE` of this user."""
    found = list(_holding(Path(file)))
    if not found:
        raise NotDone(f"{printable(file)} was not checked out here")
    for pid in found:
        os.kill(pid, signal.SIGTERM)


def _holding(file: Path) -> Iterator[int]:
    """The processes of this user that hold a check-out of the file."""
    held = locate(file, read_mounts())
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
            if process.stat().st_uid != os.geteuid() or f"\0desktop\0{_HOLD}\0".encode() not in words:
                continue
            if any(link.readlink() == held for link in (process / "fd").iterdir()):
                yield int(process.name)
        except OSError:  # it has ended
            continue


def _open(address: str) -> None:
    """With the desktop's own program for it."""
    nowhere = subprocess.DEVNULL  # no pipe: a program that starts now would keep it open
    done = subprocess.run(
        ["xdg-open", address], env=child_environment(), stdout=nowhere, stderr=nowhere, check=False
    )
    if done.returncode:
        raise NotDone(f"{printable(address)} cannot be opened: xdg-open failed")
