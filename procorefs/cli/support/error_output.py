"""Prints the errors of commands: one sentence on stderr, the traceback of an unexpected error in a log."""

import errno
import os
import traceback
from datetime import UTC, datetime
from pathlib import Path

from procorefs.cli.support.terminal import say
from procorefs.config import Failure, find_paths, private_dir

INTERRUPTED = 130

_OF_THE_MACHINE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
    }
)
"""Errors of this machine: the path and the system's message are enough."""


def sentence_of(error: BaseException) -> str | None:
    """The exception as a sentence for people, or None when it is unexpected."""
    if isinstance(error, BaseExceptionGroup):
        found = (sentence_of(inner) for inner in error.exceptions)
        return next((sentence for sentence in found if sentence), None)
    # Our own exceptions contain a sentence; importing all packages for their classes would take time.
    if type(error).__module__.split(".")[0] == "procorefs":
        return str(error) or None
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE and error.filename is not None:
        return f"{os.fsdecode(error.filename)} cannot be used ({error.strerror})"
    return None


def complain(sentence: str) -> None:
    """Print it to stderr, if that is open."""
    try:
        say(f"procorefs: {'; '.join(sentence.splitlines())}", to_stderr=True)
    except OSError:
        return


def complain_of(error: BaseException) -> int:
    """Print the error and return the exit status; log an unexpected error and print the path of the log."""
    sentence = sentence_of(error)
    if sentence is None:
        sentence = unexpected(error, _log_file())
    complain(sentence)
    return error.exit_status if isinstance(error, Failure) else 1


def unexpected(error: BaseException, log_file: Path | None) -> str:
    """Write the traceback to a log and return a sentence with its path."""
    what = f"unexpected error ({type(error).__name__})"
    if log_file is None:
        return what
    text = "".join(traceback.format_exception(error))
    try:
        handle = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "a") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}")
    except OSError as unwritable:
        return f"{what}, and {log_file} cannot be written ({unwritable.strerror})"
    return f"{what}; the details are in {log_file}"


def _log_file() -> Path | None:
    try:
        return private_dir(find_paths(os.environ).logs_dir) / "commands.log"
    except Failure:
        return None
