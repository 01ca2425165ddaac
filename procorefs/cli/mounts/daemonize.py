"""Turns a command into a daemon: forks without exec, and reports the result to the parent through a pipe.

    parent ── fork ── setsid ── fork ── daemon
      └────────── pipe: "pid 123", then "ready" or "error SENTENCE" ──┘

No event loop and no thread runs before the forks. The daemon reuses modules that are imported before.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from procorefs.cli.mounts.log_file import LogFile
from procorefs.cli.support.error_output import sentence_of, unexpected
from procorefs.config import Failure, private_dir
from procorefs.storage.printable import printable

log = logging.getLogger(__name__)

_LOG_BYTES = 5 << 20
LOG_FILES = 3
"""How many files of a log exist at most."""
_STDERR = 2

Run = Callable[[Callable[[str], None]], None]
"""Runs until the daemon ends; calls its argument when the daemon is ready, with a note for people or an empty text."""


class NotStarted(Failure):
    """The daemon ended before it was ready; the text is its reason."""


def start(run: Run, log_file: Path) -> str:
    """Run `run` as a daemon and return its note once it is ready.

    Raises NotStarted; Ctrl-C meanwhile ends the daemon.
    """
    private_dir(log_file.parent)
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        _serve(run, log_file, writer)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as report:
        return _await(report.readline, log_file)


def log_to_stderr() -> None:
    """Log to stderr, for a mount in the foreground; with the levels of the journal if stderr leads there."""
    handler = logging.StreamHandler()
    _log_to(handler)
    if _is_journal(_STDERR, os.environ.get("JOURNAL_STREAM", "")):
        handler.setFormatter(_JournalLines("%(name)s: %(message)s"))


def _is_journal(descriptor: int, journal_stream: str) -> bool:
    """Whether a descriptor is the stream that systemd names by device and inode (systemd.exec(5))."""
    status = os.fstat(descriptor)
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def _await(readline: Callable[[], bytes], log_file: Path) -> str:
    pid = int(readline().removeprefix(b"pid ") or 0)
    try:
        report = readline().decode(errors="replace").strip()
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise
    word, _, note = report.partition(" ")
    if word != "ready":
        raise NotStarted(
            report.removeprefix("error ") or f"the daemon ended before it was ready; {log_file} may say why"
        )
    return note


def _serve(run: Run, log_file: Path, writer: int) -> NoReturn:
    """Run the daemon and exit."""
    status = 1
    try:
        os.write(writer, b"pid %d\n" % os.getpid())
        _detach_from_terminal(log_file, writer)
        run(lambda note: _report(writer, f"ready {note}".rstrip()))
        status = 0
    except BaseException as error:
        sentence = sentence_of(error) or unexpected(error, log_file)
        log.error("ended: %s", sentence)
        _report(writer, f"error {' '.join(sentence.split())}")
    finally:
        logging.shutdown()
        os._exit(status)


def _detach_from_terminal(log_file: Path, writer: int) -> None:
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    # Close the caller's pipes: their readers must not wait for the daemon's end.
    os.closerange(3, writer)
    os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
    # The log gets the output of C libraries and helpers, too.
    _log_to(LogFile(log_file, max_bytes=_LOG_BYTES, files=LOG_FILES, stderr=_STDERR))


class _OneLine(logging.Formatter):
    """Formats each message as one line: a name with a line break must not look like another message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's name and type
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


class _JournalLines(_OneLine):
    """Begins each line with the level that the journal stores (sd-daemon(3)); the journal adds time and process."""

    _PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in self._PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def _log_to(handler: logging.Handler) -> None:
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # On a full disk log lines are lost: a traceback into the same file would not help.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # Their lines contain complete URLs, and URLs of files contain a signature that gives access.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _report(writer: int, report: str) -> None:
    # The command may have ended or have the result already; the mount does not depend on it.
    with contextlib.suppress(OSError):
        os.write(writer, f"{report}\n".encode())
        os.close(writer)
