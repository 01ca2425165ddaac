"""`procorefs sync`: waits until all changes are in Procore, and lists changes that are not and why."""

import math
import os
import queue
import threading
import time
from pathlib import Path

import click

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.locate import NotInAMount, by_mount, find_location
from procorefs.cli.mounts.registry import Entry
from procorefs.cli.support.duration import seconds_of
from procorefs.cli.support.error_output import complain
from procorefs.cli.support.formatting import sentences, staying
from procorefs.cli.support.progress import Progress
from procorefs.config import Failure, Paths, find_paths
from procorefs.service.control_socket import (
    ControlError,
    DrainRequest,
    Left,
    NoAnswer,
    NotListening,
    SyncRequest,
    WaitingRequest,
    ask,
)
from procorefs.storage.printable import printable
from procorefs.upload.items import Counts

_UPDATE_S = 0.5
"""Between two updates of the progress line."""


class NotSynced(Failure):
    """The daemon ended before all changes were sent."""


@click.command(short_help="Wait until all changes are in Procore.")
@click.option(
    "--timeout",
    "timeout_s",
    callback=seconds_of,
    metavar="S",
    help="Wait no longer than this. Default: as long as it takes.",
)
@click.argument("paths", nargs=-1, metavar="[PATH…]")
def sync(timeout_s: float | None, paths: tuple[str, ...]) -> int:
    """Wait until everything at or below PATH…, or in all your mounts, is in Procore.

    Changes that wait for their time are sent at once. The exit status is 0 when everything is in Procore. Otherwise
    it is 1, and sync lists what is missing and why. Files that stay on this machine because of their names are listed
    too, and do not affect the exit status.
    """
    deadline = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
    wanted = _wanted(paths, find_paths(os.environ))
    # All mounts at the same time: a slow mount must not delay the others.
    waits = [_Wait(daemon, below, deadline) for daemon, below in wanted.items()]
    return max([_wait_and_report(wait) for wait in waits], default=0)


class _Wait:
    """Waits for one mount in a daemon thread, which may still be in its system call at exit."""

    def __init__(self, daemon: Entry, below: tuple[str, ...], deadline: float) -> None:
        self.daemon = daemon
        self._below = below
        self._socket = Path(daemon.socket)
        self._answer: queue.SimpleQueue[Left | ControlError] = queue.SimpleQueue()
        threading.Thread(target=self._ask, args=(deadline,), daemon=True).start()

    def result(self) -> Left:
        """The changes that are left when nothing more is sent, or at the deadline. Raises NotSynced, ControlError."""
        answer = self._wait()
        if isinstance(answer, NoAnswer):
            return ask(self._socket, WaitingRequest(self._below), Left)
        if isinstance(answer, NotListening):
            raise NotSynced(
                f"the daemon of {self.daemon.mountpoint} has ended or is starting; what is not in Procore is sent "
                "while the project is mounted"
            ) from answer
        if isinstance(answer, ControlError):
            raise answer
        return answer

    def _wait(self) -> Left | ControlError:
        with Progress(f"Sending {self.daemon.mountpoint}") as progress:
            while True:
                try:
                    return self._answer.get(timeout=_UPDATE_S)
                except queue.Empty:
                    progress.show(self._counts())

    def _counts(self) -> Counts:
        try:
            return ask(self._socket, DrainRequest(()), Counts)
        except NotListening:
            return Counts()  # `_ask` gets the same error

    def _ask(self, deadline: float) -> None:
        try:
            left_s = max(deadline - time.monotonic(), 0.0)
            self._answer.put(ask(self._socket, SyncRequest(self._below), Left, timeout_s=left_s))
        except ControlError as error:
            self._answer.put(error)


def _wanted(texts: tuple[str, ...], paths: Paths) -> dict[Entry, tuple[str, ...]]:
    if not texts:
        daemons = registry.running(paths)
        if not daemons:
            raise NotInAMount(
                "nothing is mounted, so sync cannot tell what is in Procore; `procorefs mount` sends what is not"
            )
        return dict.fromkeys(daemons, ("",))
    locations = [find_location(text, paths) for text in texts]
    for text, location in zip(texts, locations, strict=True):
        # The removal of a file may still have to be sent: a missing path is wrong only if nothing waits there.
        if not location.exists:
            waiting = ask(Path(location.daemon.socket), WaitingRequest((location.below,)), Left)
            if not waiting.total and not waiting.staying.total:
                raise NotInAMount(
                    f"{printable(text)} does not exist, and no change below it waits for Procore"
                )
    return by_mount(locations)


def _wait_and_report(wait: _Wait) -> int:
    """Wait, report what is left, and return the exit status."""
    try:
        remaining = wait.result()
    except Failure as error:
        complain(str(error))
        return 1
    _report(wait.daemon, remaining)
    return int(remaining.total > 0)


def _report(daemon: Entry, remaining: Left) -> None:
    for sentence in sentences(remaining.items, Path(daemon.mountpoint)):
        complain(sentence)
    more = remaining.total - len(remaining.items)
    if more:
        complain(f"{more:,} more in {daemon.mountpoint} are not in Procore; `procorefs status` counts them")
    for sentence in staying(remaining.staying, Path(daemon.mountpoint)):
        complain(sentence)
