"""Decides which errno a program gets for an error, and at which level the log has it: one table for all packages."""

import errno
import logging
import sqlite3
from typing import NamedTuple

from procorefs.locks.flock_table import WouldBlock
from procorefs.procore.api.brief_wait import NoAnswerYet
from procorefs.procore.errors import (
    CheckedOut,
    Forbidden,
    Gone,
    Invalid,
    LoginRefused,
    NotAuthorized,
    NotFound,
    ProcoreError,
    RateLimited,
)
from procorefs.staging.staging_area import StagedIncomplete, StagingFull
from procorefs.tree.naming.name_rules import Rule
from procorefs.upload.outcomes import Refused
from procorefs.versions.version_tree import NotThere
from procorefs.vfs.refusals import (
    Exists,
    HeldByOther,
    IntoItself,
    IsAFolder,
    NameRefused,
    NoSuchEntry,
    NotAFolder,
    NotEmpty,
    NotPermitted,
    NotSupported,
    Reserved,
)
from procorefs.xattr.attribute_names import (
    AttributeExists,
    BadValue,
    NoAttribute,
    NoSuchAttribute,
    NotKnownYet,
    NotSettable,
    TooMuch,
)


class Stale(Exception):
    """The name no longer belongs to this inode; the kernel looks the path up again."""


class NoEntry(Exception):
    """There is no such entry; this is an answer and not a failure."""


class NameTooLong(Exception):
    """The name is too long; the kernel itself allows longer names."""


class ReadOnly(Exception):
    """The mount, or this part of it, is read-only."""


class Interrupted(Exception):
    """The caller was told to stop while its request waited."""


class Unreadable(Exception):
    """The file is listed, but has no usable version; the text says why."""


class NoProgress(Exception):
    """A request waited for an upload that made no progress."""


class NoThumbnails(Exception):
    """The mount was told not to fetch bytes for thumbnails."""


class Answer(NamedTuple):
    """The errno for the program and the level for the log."""

    errno: int
    level: int


_TABLE: tuple[tuple[type[Exception], Answer], ...] = (
    (NoEntry, Answer(errno.ENOENT, logging.DEBUG)),
    (NameTooLong, Answer(errno.ENAMETOOLONG, logging.DEBUG)),
    (Stale, Answer(errno.ESTALE, logging.DEBUG)),
    (NotThere, Answer(errno.ESTALE, logging.DEBUG)),
    (ReadOnly, Answer(errno.EROFS, logging.DEBUG)),
    (Reserved, Answer(errno.EROFS, logging.INFO)),
    (Interrupted, Answer(errno.EINTR, logging.DEBUG)),
    (WouldBlock, Answer(errno.EWOULDBLOCK, logging.DEBUG)),
    (Unreadable, Answer(errno.EIO, logging.WARNING)),
    (NoProgress, Answer(errno.ETIMEDOUT, logging.DEBUG)),
    (NoThumbnails, Answer(errno.EACCES, logging.DEBUG)),
    (NoSuchEntry, Answer(errno.ENOENT, logging.DEBUG)),
    (Exists, Answer(errno.EEXIST, logging.DEBUG)),
    (NotEmpty, Answer(errno.ENOTEMPTY, logging.DEBUG)),
    (IsAFolder, Answer(errno.EISDIR, logging.DEBUG)),
    (NotAFolder, Answer(errno.ENOTDIR, logging.DEBUG)),
    (IntoItself, Answer(errno.EINVAL, logging.DEBUG)),
    (NotSupported, Answer(errno.EPERM, logging.DEBUG)),
    (NotPermitted, Answer(errno.EACCES, logging.INFO)),
    (HeldByOther, Answer(errno.EBUSY, logging.INFO)),
    (NoAttribute, Answer(errno.ENODATA, logging.DEBUG)),
    (AttributeExists, Answer(errno.EEXIST, logging.DEBUG)),
    (NoSuchAttribute, Answer(errno.EOPNOTSUPP, logging.DEBUG)),
    (NotSettable, Answer(errno.EPERM, logging.DEBUG)),
    (BadValue, Answer(errno.EINVAL, logging.INFO)),
    # Not EAGAIN: setxattr(2) makes EOPNOTSUPP of it.
    (NotKnownYet, Answer(errno.ETIMEDOUT, logging.INFO)),
    (NoAnswerYet, Answer(errno.ETIMEDOUT, logging.INFO)),
    (TooMuch, Answer(errno.ENOSPC, logging.INFO)),
    (StagingFull, Answer(errno.ENOSPC, logging.WARNING)),
    (StagedIncomplete, Answer(errno.EIO, logging.ERROR)),
    (Refused, Answer(errno.EIO, logging.WARNING)),
    (CheckedOut, Answer(errno.EBUSY, logging.INFO)),
    (Invalid, Answer(errno.EINVAL, logging.WARNING)),
    (Forbidden, Answer(errno.EACCES, logging.WARNING)),
    (NotAuthorized, Answer(errno.EACCES, logging.WARNING)),
    (LoginRefused, Answer(errno.EACCES, logging.WARNING)),
    # EIO for a listed file that cannot be fetched: with ENOENT a copy tool would skip it silently.
    (NotFound, Answer(errno.EIO, logging.WARNING)),
    (Gone, Answer(errno.EIO, logging.WARNING)),
    (RateLimited, Answer(errno.EAGAIN, logging.WARNING)),
    (ProcoreError, Answer(errno.EIO, logging.WARNING)),
    (sqlite3.DatabaseError, Answer(errno.EIO, logging.ERROR)),
    (MemoryError, Answer(errno.ENOMEM, logging.ERROR)),
)

UNKNOWN = Answer(errno.EIO, logging.CRITICAL)
"""For an unexpected error: the program gets EIO, the log a traceback."""


_BY_RULE = {
    Rule.ENCODING: errno.EILSEQ,
    Rule.COMPONENT_LENGTH: errno.ENAMETOOLONG,
    Rule.PATH_LENGTH: errno.ENAMETOOLONG,
}
"""All other rules concern characters: EINVAL."""


def answer_of(error: Exception) -> Answer:
    """The errno for an error of any package, and the level for the log."""
    if isinstance(error, NameRefused):
        return Answer(_BY_RULE.get(error.rule, errno.EINVAL), logging.INFO)
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return Answer(errno.ENOSPC, logging.ERROR)
    for kind, answer in _TABLE:
        if isinstance(error, kind):
            return answer
    if isinstance(error, OSError) and error.errno:
        return Answer(error.errno, logging.ERROR)
    return UNKNOWN
