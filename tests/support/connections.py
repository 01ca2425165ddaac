"""Every SQLite connection that a test opens in this process is closed when the test has ended.

Python 3.13 warns of a connection that the garbage collector closes, but in whatever test is then running. This
finds it in the test that left it, on every version, and says where it was opened.
"""

import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_open: dict[int, "_Watched"] = {}
_full: set[str] = set()
_connect = sqlite3.connect


class _Watched(sqlite3.Connection):
    """A connection that is known until it is closed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.opened_at = "".join(traceback.format_stack(limit=8)[:-2])
        self.path = str(args[0])
        super().__init__(*args, **options)
        _open[id(self)] = self

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT" and self.path in _full:
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(statement, *values)

    def close(self) -> None:
        super().close()
        _open.pop(id(self), None)


def connection_to(path: Path) -> sqlite3.Connection:
    """The one connection that is open to a database, for what a test does to its disk."""
    (found,) = (watched for watched in _open.values() if watched.path == str(path))
    return found


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No transaction of the database can be committed meanwhile."""
    _full.add(str(path))
    yield
    _full.remove(str(path))


def _connect_watched(*args: Any, **options: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = _connect(*args, **{"factory": _Watched, **options})
    return connection


def pytest_configure() -> None:
    sqlite3.connect = _connect_watched  # type: ignore[assignment]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """After the last fixture: what a test opens, its fixtures may close."""
    yield
    left, stacks = list(_open.values()), []
    for watched in left:
        stacks.append(watched.opened_at)
        _open.pop(id(watched))
        with suppress(sqlite3.ProgrammingError):  # it belongs to another thread
            watched.close()
    if left:
        pytest.fail("SQLite connections were left open, opened at\n" + "\n".join(stacks), pytrace=False)
