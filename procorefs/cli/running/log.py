"""`procorefs log`: prints the last lines of a log, follows it, and asks the daemon for debug detail meanwhile."""

import logging
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import click

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.daemonize import LOG_FILES
from procorefs.cli.mounts.locate import given_path, locate, split_path
from procorefs.cli.mounts.log_file import rotated
from procorefs.cli.mounts.registry import Entry
from procorefs.cli.support.terminal import say
from procorefs.config import Failure, Paths, find_paths
from procorefs.config.options import LOG_LEVELS
from procorefs.config.resolved import log_file
from procorefs.service.control_socket import ControlError, DetailRequest, ask
from procorefs.storage.mountinfo import mount_at, read_mounts

_POLL_S = 0.2
_LEVEL = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")


class NoLog(Failure):
    """There is no log to print."""


@click.command(name="log", short_help="Print or follow the log of a mount.")
@click.option(
    "-n",
    "--lines",
    default=20,
    show_default=True,
    metavar="LINES",
    type=click.IntRange(0),
    help="How many lines to print.",
)
@click.option("-f", "--follow", is_flag=True, help="Print new lines until Ctrl-C, or until the daemon ends.")
@click.option(
    "--level",
    type=click.Choice(list(LOG_LEVELS)),
    help="Print messages of this level and above. `debug` also follows, and has the daemon log all detail meanwhile.",
)
@click.argument("mountpoint")
def log_command(lines: int, follow: bool, level: str | None, mountpoint: str) -> None:
    """Print the last lines of the log of the mount at MOUNTPOINT, which may have ended."""
    paths = find_paths(os.environ)
    place, daemon = _find(mountpoint, paths)
    wants_detail = level == "debug"
    if wants_detail and daemon is None:
        raise NoLog(f"no daemon runs at {place}, so there is no more detail to log")
    file = log_file(paths, place) if daemon is None else Path(daemon.log) if daemon.log else None
    if file is None and not wants_detail:
        raise NoLog(
            f"the log of {place} goes to the journal or to a terminal: `journalctl _PID={daemon.pid if daemon else 0}`"
        )
    least = LOG_LEVELS[level] if level is not None else logging.DEBUG
    reader = _LogReader(file, least) if file is not None else None
    if reader is not None:
        for line in reader.last(lines):
            say(line)
    if daemon is not None and (follow or wants_detail):
        _follow(reader, daemon, is_detailed=wants_detail)


def _find(mountpoint: str, paths: Paths) -> tuple[Path, Entry | None]:
    mounts = read_mounts()
    place, _ = split_path(str(given_path(mountpoint)), mounts)
    if (mount := mount_at(place, mounts)) is None or not mount.is_ours:
        place = locate(Path(mountpoint), mounts)
    return place, registry.find(place, paths) or registry.find_detached(place, paths)


def _follow(reader: "_LogReader | None", daemon: Entry, *, is_detailed: bool) -> None:
    """Print new lines until the daemon ends."""
    if is_detailed:
        # The daemon logs all detail while this connection is open: it ends with this process, however that ends.
        threading.Thread(target=_ask_for_detail, args=(Path(daemon.socket),), daemon=True).start()
        if reader is None:
            say("Debug detail goes to the journal until Ctrl-C.", to_stderr=True)
    while True:
        is_alive = daemon.is_alive  # before the read: what was written before the end is printed
        if reader is not None:
            for line in reader.new():
                say(line)
        if not is_alive:
            return
        time.sleep(_POLL_S)


def _ask_for_detail(socket: Path) -> None:
    with suppress(ControlError):  # the daemon has ended, and so does the loop that prints
        ask(socket, DetailRequest(), type(None), timeout_s=math.inf)


class _LogReader:
    """Reads the lines of a log of some level and above, across renames."""

    def __init__(self, path: Path, least: int) -> None:
        self._path = path
        self._least = least
        self._is_shown = True
        """Whether the message that the last line belongs to is shown: a traceback has many lines."""
        self._rest = b""
        self._stream: BinaryIO | None = None

    def last(self, number: int) -> Iterable[str]:
        """The last lines. Raises NoLog."""
        found: deque[str] = deque(maxlen=number)
        files = [rotated(self._path, age) for age in range(LOG_FILES - 1, 0, -1)]
        for file in files:
            with suppress(FileNotFoundError), file.open("rb") as stream:
                found.extend(self._shown(stream.read()))
        try:
            self._stream = self._path.open("rb")
        except FileNotFoundError as error:
            raise NoLog(
                f"there is no log {self._path}: nothing was mounted there, or the log was deleted; "
                "`procorefs status` lists the mounts"
            ) from error
        except OSError as error:
            raise NoLog(f"the log {self._path} cannot be read ({error.strerror})") from error
        found.extend(self._shown(self._stream.read()))
        return found

    def new(self) -> Iterator[str]:
        """The lines since the last call."""
        stream = self._stream
        assert stream is not None, "`last` comes first"
        yield from self._shown(stream.read())
        with suppress(FileNotFoundError):
            if not os.path.samestat(os.fstat(stream.fileno()), self._path.stat()):
                yield from self._shown(stream.read())  # written between the read and the rename
                self._stream = self._path.open("rb")
                stream.close()
                yield from self._shown(self._stream.read())

    def _shown(self, data: bytes) -> Iterator[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            match = _LEVEL.match(text)
            if match is not None:
                self._is_shown = logging.getLevelNamesMapping()[match[1]] >= self._least
            if self._is_shown:
                yield text
