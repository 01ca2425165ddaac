"""Where errors become errno: the one table, and how loudly each is logged."""

import errno
import logging
import sqlite3
from typing import NamedTuple

from procorefs.locks.table import WouldBlock
from procorefs.procore.errors import (
    Forbidden,
    Gone,
    LoginRefused,
    NotAuthorized,
    NotFound,
    ProcoreError,
    RateLimited,
)


class Stale(Exception):
    """The inode is no longer what its name leads to; the kernel looks the path up again."""


class NoEntry(Exception):
    """There is no such entry, which is an answer and not a failure."""


class NameTooLong(Exception):
    """No entry can have such a long name; the kernel itself lets more through."""


class ReadOnly(Exception):
    """The mount takes no changes."""


class Interrupted(Exception):
    """The caller was told to stop while its request waited."""


class Unreadable(Exception):
    """The file is listed, but Procore names no usable version of it; the text says why."""


class Answer(NamedTuple):
    """What the program gets and the log's level."""

    errno: int
    level: int


_TABLE: tuple[tuple[type[Exception], Answer], ...] = (
    (NoEntry, Answer(errno.ENOENT, logging.DEBUG)),
    (NameTooLong, Answer(errno.ENAMETOOLONG, logging.DEBUG)),
    (Stale, Answer(errno.ESTALE, logging.DEBUG)),
    (ReadOnly, Answer(errno.EROFS, logging.DEBUG)),
    (Interrupted, Answer(errno.EINTR, logging.DEBUG)),
    (WouldBlock, Answer(errno.EWOULDBLOCK, logging.DEBUG)),
    (Unreadable, Answer(errno.EIO, logging.WARNING)),
    (Forbidden, Answer(errno.EACCES, logging.WARNING)),
    (NotAuthorized, Answer(errno.EACCES, logging.WARNING)),
    (LoginRefused, Answer(errno.EACCES, logging.WARNING)),
    # What is listed and then can't be fetched is EIO: ENOENT would make a copy tool skip it in silence.
    (NotFound, Answer(errno.EIO, logging.WARNING)),
    (Gone, Answer(errno.EIO, logging.WARNING)),
    (RateLimited, Answer(errno.EAGAIN, logging.WARNING)),
    (ProcoreError, Answer(errno.EIO, logging.WARNING)),
    (sqlite3.DatabaseError, Answer(errno.EIO, logging.ERROR)),
    (MemoryError, Answer(errno.ENOMEM, logging.ERROR)),
)

UNKNOWN = Answer(errno.EIO, logging.CRITICAL)
"""For an error nobody thought of: the program gets EIO, the log a traceback."""


def answer_of(error: Exception) -> Answer:
    """The errno for an error of any room, and how loudly to log it."""
    for kind, answer in _TABLE:
        if isinstance(error, kind):
            return answer
    if isinstance(error, OSError) and error.errno:
        return Answer(error.errno, logging.ERROR)
    return UNKNOWN
