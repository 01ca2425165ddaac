"""`procorefs demo`: runs an embedded Procore, a mount of it, and a tour; removes everything at its end.

All files, with the XDG directories, are in one temporary directory, so it does not touch the user's own files.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.mountpoint import check_fuse
from procorefs.cli.mounts.processes import signal_process, wait_for_end
from procorefs.cli.mounts.unmounting import unmount
from procorefs.cli.support.terminal import say
from procorefs.cli.trial.tour import Guide, tour
from procorefs.config import Failure, MountOptions, find_paths
from procorefs.storage.mountinfo import read_mounts
from procorefs.storage.processes import child_environment

_LEAST_DOCUMENTS = 7
"""The top folders of a generated project, which the tour uses."""
_START_S = 60.0
_END_S = 10.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoFailed(Failure):
    """A part of the demo did not start."""


@click.command(short_help="Run a sandbox, a mount and a short tour; needs no account.")
@click.option(
    "--documents", default=1000, show_default=True, metavar="N", type=click.IntRange(min=_LEAST_DOCUMENTS),
    help="Size of the invented project.",
)  # fmt: skip
@click.option("--leave", is_flag=True, help="End after the tour instead of waiting for Ctrl-C.")
def demo(documents: int, leave: bool) -> None:
    """Start an embedded Procore with an invented project, mount it, and show what a mount can do.

    The project then stays mounted until Ctrl-C. The demo removes everything that it created.
    """
    check_fuse(MountOptions())
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        folder = stack.enter_context(_own_folder())
        announced = stack.enter_context(_sandbox(folder, documents))
        environment = _environment(folder, announced)
        stack.enter_context(_unmounting(folder, environment))
        stack.callback(_ignore_signals)
        guide = Guide(folder, environment, announced["control_url"])
        tour(guide, documents)
        if leave:
            return
        with contextlib.suppress(KeyboardInterrupt):
            guide.say_where_it_stays()
            signal.pause()
        guide.say_goodbye()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP clean up like Ctrl-C; later signals are ignored."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        _ignore_signals()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        # A start with nohup or in the background ignores the signal on purpose.
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """Ignore further signals during the cleanup: a second Ctrl-C would leave the mount behind."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="procorefs-demo-")))
    try:
        yield folder
    finally:
        # Deleting files below a mount would delete them in the project.
        if any(folder in mount.mountpoint.parents for mount in read_mounts()):
            say(
                f"Something is still mounted below {folder}, so the folder is kept: unmount that (fusermount3 -u), "
                "then delete the folder.",
                to_stderr=True,
            )
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _sandbox(folder: Path, documents: int) -> Iterator[dict[str, Any]]:
    """Run the embedded Procore in a child process; yields the JSON that it prints when it is ready."""
    command = [sys.executable, "-m", "procorefs.cli", "sandbox", "--seed", str(documents)]
    with (folder / "sandbox.log").open("wb") as log:
        # In a separate session, so that Ctrl-C reaches only this process: the unmount comes first.
        child = subprocess.Popen(
            command, env=child_environment(), stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    assert child.stdout is not None
    try:
        ready, _, _ = select.select([child.stdout], [], [], _START_S)
        line = child.stdout.readline() if ready else b""
        if not line:
            reason = (folder / "sandbox.log").read_text(errors="replace").strip().rpartition("\n")[2]
            raise DemoFailed(
                f"the sandbox did not start ({reason or 'it says nothing'}); try `procorefs sandbox`"
            )
        yield json.loads(line)
    finally:
        child.terminate()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _environment(folder: Path, announced: dict[str, Any]) -> dict[str, str]:
    """The environment of all commands of the demo, without the user's own settings."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("PROCOREFS_", "XDG_"))
    }
    (folder / "run").mkdir(mode=0o700)
    return {
        **inherited,
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "PROCOREFS_API_URL": announced["url"],
        "PROCOREFS_LOGIN_URL": announced["login_url"],
        "PROCOREFS_CLIENT_ID": announced["client_id"],
        "PROCOREFS_CLIENT_SECRET": announced["client_secret"],
        "PROCOREFS_COMPANY_ID": str(announced["company_id"]),
        "PROCOREFS_PROJECT_ID": str(announced["project_id"]),
    }


@contextlib.contextmanager
def _unmounting(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Unmount everything below `folder` at the end, even if it is in use."""
    try:
        yield
    finally:
        for mount in read_mounts():
            if folder in mount.mountpoint.parents:
                unmount(mount.mountpoint, lazy=True)
        for entry in registry.running(find_paths(environment)):
            signal_process(entry.pid, entry.born, signal.SIGTERM)
            if not wait_for_end(entry.pid, entry.born, _END_S):
                signal_process(entry.pid, entry.born, signal.SIGKILL)
