"""`procorefs desktop`: installs the parts for file managers, and does what their menus offer."""

import errno
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
from procorefs.cli.desktop.browser import open_address
from procorefs.cli.mounts.locate import find_location, given_path, locate
from procorefs.cli.support.formatting import counted
from procorefs.cli.support.terminal import say
from procorefs.config import Failure, find_paths, read_config
from procorefs.service.control_socket import FilesRequest, ask
from procorefs.service.file_facts import FilesAnswer
from procorefs.storage.mountinfo import read_mounts
from procorefs.storage.printable import printable, shell_word
from procorefs.storage.processes import child_environment
from procorefs.xattr.attribute_names import PROCORE

_HOLD = "check-out"


class NotDone(Failure):
    """The action is not possible for this file."""


@click.group(short_help="Install what file managers show and offer.", invoke_without_command=True)
@click.pass_context
def desktop(ctx: click.Context) -> None:
    """Install the parts for file managers, or do what their menus offer."""
    if ctx.invoked_subcommand is None:
        say(*ctx.get_help().split("\n"))


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
    paths = find_paths(os.environ)
    wanted = dict(installing.contents(targets, command))
    if mountpoint is not None:
        mountpoint = mountpoint.expanduser().absolute()
        if not os.path.lexists(mountpoint):
            raise NotDone(
                f"the mount point {printable(str(mountpoint))} does not exist; "
                f"run: mkdir {shell_word(str(mountpoint))}"
            )
        words = (*([spec] if spec else []), str(mountpoint))
        file, text = installing.autostart(targets, command, words)
        wanted[file] = text
    done = installing.install(targets, paths, wanted, mountpoint)
    say(f"Installed {counted(len(done), 'file')}. Start your file manager again to use them.")
    if mountpoint is not None and not read_config(paths.config_file).profiles:
        say("No profile exists, and the session mounts with one: run `procorefs login`.", to_stderr=True)


@desktop.command("remove", short_help="Remove what `install` has installed.")
def remove() -> None:
    """Remove what `procorefs desktop install` has installed for this user."""
    gone, kept = installing.remove(installing.Targets.of(os.environ), find_paths(os.environ))
    say(f"Removed {counted(len(gone), 'file')}." if gone or kept else "Nothing was installed.")
    for path in kept:
        say(f"{printable(str(path))} was changed by somebody else and stays.")


@desktop.command("versions", short_help="Show a file's old versions in the file manager.")
@click.argument("file")
def versions(file: str) -> None:
    """Open the folder of FILE's versions."""
    location = find_location(file, find_paths(os.environ))
    open_address(str(Path(location.daemon.mountpoint) / ".procore" / "versions" / location.below))


@desktop.command("page", short_help="Open the project's Documents page in a browser.")
@click.argument("file")
def page(file: str) -> None:
    """Open the Documents page of the project that FILE is in."""
    location = find_location(file, find_paths(os.environ))
    answer = ask(Path(location.daemon.socket), FilesRequest((location.below,)), FilesAnswer)
    if not answer.page:
        raise NotDone(
            f"the page of {printable(file)} is not known: only Procore's own service has pages, "
            "and this mount uses another address"
        )
    open_address(answer.page)


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
        raise NotDone("kdialog, which asks before, is not installed; run `procorefs discard`") from error
    if answer.returncode == 0:
        ctx.invoke(discard_changes, paths=files)


@desktop.command(_HOLD, short_help="Keep a document checked out until `check-in`.")
@click.argument("file")
def check_out(file: str) -> None:
    """Check FILE out in Procore and keep it so until `procorefs desktop check-in FILE`, or Ctrl-C."""
    path = find_location(file, find_paths(os.environ)).path  # a lock elsewhere checks nothing out
    try:
        held = path.open("rb")
    except OSError as error:
        raise NotDone(f"{printable(file)} cannot be checked out ({error.strerror}); name a file") from error
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotDone(
                f"{printable(file)} is checked out by another user or locked by a program"
            ) from error
        if not _is_checked_out(held.fileno()):
            raise NotDone(
                f"{printable(file)} is not checked out: the mount or the account only reads, or Procore does not have "
                "the file yet"
            )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        say(f"{printable(file)} is checked out.")
        sys.stdout.flush()
        signal.pause()


@desktop.command("check-in", short_help="End what `check-out` holds.")
@click.argument("file")
def check_in(file: str) -> None:
    """Check FILE in: ends each `procorefs desktop check-out FILE` of this user."""
    found = list(_holding(locate(given_path(file), read_mounts())))
    if not found:
        raise NotDone(
            f"{printable(file)} was not checked out here; `procorefs desktop check-out` does that, "
            "and only what it holds can be checked in"
        )
    for pid in found:
        os.kill(pid, signal.SIGTERM)


def _is_checked_out(descriptor: int) -> bool:
    """Whether Procore has the document as checked out: a lock on another file stays on this machine."""
    try:
        return bool(os.getxattr(descriptor, f"{PROCORE}checked_out_by"))
    except OSError as error:
        if error.errno == errno.ENODATA:
            return False
        raise


def _holding(file: Path) -> Iterator[int]:
    """The processes of this user that hold a check-out of the file."""
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
            if process.stat().st_uid != os.geteuid() or f"\0desktop\0{_HOLD}\0".encode() not in words:
                continue
            if any(link.readlink() == file for link in (process / "fd").iterdir()):
                yield int(process.name)
        except OSError:  # it has ended
            continue
