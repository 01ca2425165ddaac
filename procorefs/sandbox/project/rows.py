"""The rows: companies, users, documents, versions; reading them and the few statements that change documents."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from procorefs.sandbox.project.records import DOCUMENT_COLUMNS, Document, Project, User, Value, Version
from procorefs.sandbox.project.roles import Role
from procorefs.sandbox.project.schema import FIRST_DOCUMENT_ID, FIRST_VERSION_ID, INDEXES, SCHEMA

_VERSION_COLUMNS = "id, document_id, number, size, notes, created_at, created_by, name, source"
_MAX_COUNTS = 1000


class Store:
    """One SQLite database, used from one thread; `change()` makes a transaction."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.touch(mode=0o600)  # it has the clients' secrets; SQLite gives its other files the same mode
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        try:
            self._db.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;"
            )
            self._db.executescript(SCHEMA + INDEXES)
        except BaseException:
            self._db.close()
            raise
        self._users: dict[int, User] = {}
        self._depth = 0
        self._last_document_id = FIRST_DOCUMENT_ID - 1
        self._last_version_id = FIRST_VERSION_ID - 1
        self._counts: dict[tuple[str, tuple[Value, ...]], tuple[int, int]] = {}
        """(condition, values) -> (the connection's changes by then, rows); pages of one listing count once."""

    def close(self) -> None:
        self._db.close()

    def empty(self) -> None:
        """Drop all rows."""
        tables = self.column("SELECT name FROM sqlite_master WHERE type = 'table'")
        self._db.executescript(";".join(f"DROP TABLE {table}" for table in tables))
        self._db.executescript(SCHEMA + INDEXES)
        self._users.clear()

    @contextmanager
    def change(self) -> Iterator[None]:
        """A transaction; nested ones join the outer one."""
        if self._depth:
            yield
            return
        self._depth = 1
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._db.execute("COMMIT")
        finally:
            self._depth = 0

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._db.execute(sql, values)

    def insert_many(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        marks = ", ".join("?" * (columns.count(",") + 1))
        self._db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)

    def one(self, sql: str, values: Sequence[Any] = ()) -> Value:
        """The first row, or None."""
        return self._db.execute(sql, values).fetchone()

    def value(self, sql: str, values: Sequence[Any] = ()) -> Value:
        """The first column of the first row, or None."""
        row = self._db.execute(sql, values).fetchone()
        return row[0] if row else None

    def column(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return [row[0] for row in self._db.execute(sql, values)]

    # people and places

    def user(self, user_id: int) -> User:
        found = self._users.get(user_id)
        if found is None:
            found = User(*self.one("SELECT id, login, name FROM users WHERE id = ?", (user_id,)))
            self._users[user_id] = found
        return found

    def project(self, project_id: int) -> Project | None:
        row = self.one(
            "SELECT id, company_id, name, number, active != 0, created_at, updated_at, root_id, bin_id"
            " FROM projects WHERE id = ?",
            (project_id,),
        )
        return Project(*row) if row else None

    def role(self, user_id: int, project_id: int) -> Role | None:
        """None: the user is not in the project."""
        whose = "WHERE user_id = ? AND project_id = ?", (user_id, project_id)
        level = self.value(f"SELECT level FROM memberships {whose[0]}", whose[1])
        if level is None:
            return None
        return Role(level, tuple(self.column(f"SELECT action FROM granular_rights {whose[0]}", whose[1])))

    # documents

    def next_document_id(self) -> int:
        """Never one that was given out before, though its document may be gone."""
        highest = self.value("SELECT max(id) FROM documents") or 0
        self._last_document_id = max(highest, self._last_document_id) + 1
        return self._last_document_id

    def next_version_id(self) -> int:
        highest = self.value("SELECT max(id) FROM versions") or 0
        self._last_version_id = max(highest, self._last_version_id) + 1
        return self._last_version_id

    def document(self, document_id: int) -> Document | None:
        found = self.documents("WHERE d.id = ?", (document_id,))
        return found[0] if found else None

    def documents(self, rest: str, values: Sequence[Any] = ()) -> list[Document]:
        """Documents d with their newest version v; `rest` is what follows FROM and its join."""
        sql = f"SELECT {DOCUMENT_COLUMNS} FROM documents d LEFT JOIN versions v ON v.id = d.version_id {rest}"
        return [Document(*row) for row in self._db.execute(sql, values)]

    def children(self, folder_id: int) -> list[Document]:
        """Living children, folders first, by name."""
        rest = "WHERE d.parent_id = ? AND d.deleted = 0 ORDER BY d.is_file, d.name, d.id"
        return self.documents(rest, (folder_id,))

    def count(self, table: str, condition: str, values: Sequence[Any]) -> int:
        """Rows of a table that fulfil the condition."""
        key = (table + condition, tuple(values))
        changes, found = self._counts.get(key, (-1, 0))
        if changes != self._db.total_changes:
            if len(self._counts) > _MAX_COUNTS:
                self._counts.clear()
            found = self.value(f"SELECT count(*) FROM {table} WHERE {condition}", values)
            self._counts[key] = (self._db.total_changes, found)
        return found

    def child_named(self, folder_id: int, name: str) -> int | None:
        found: int | None = self.value(
            "SELECT id FROM documents WHERE parent_id = ? AND deleted = 0 AND name = ? LIMIT 1",
            (folder_id, name),
        )
        return found

    def below(self, document_id: int) -> list[int]:
        """Ids of everything below, itself left out, whether deleted or not."""
        return self.column(
            "WITH RECURSIVE tree (id) AS (SELECT id FROM documents WHERE parent_id = ?1"
            " UNION ALL SELECT d.id FROM documents d JOIN tree ON d.parent_id = tree.id) SELECT id FROM tree",
            (document_id,),
        )

    def ancestors(self, document_id: int) -> list[tuple[int, str, int, int]]:
        """(id, name, private, tracked) from the root down to the document itself."""
        rows = self.execute(
            "WITH RECURSIVE up (id, parent_id, name, private, tracked, depth) AS ("
            " SELECT id, parent_id, name, private, tracked, 0 FROM documents WHERE id = ?"
            " UNION ALL SELECT d.id, d.parent_id, d.name, d.private, d.tracked, depth + 1"
            " FROM documents d JOIN up ON d.id = up.parent_id)"
            " SELECT id, name, private, tracked FROM up ORDER BY depth DESC",
            (document_id,),
        )
        return list(rows)

    def insert_document(self, **columns: Value) -> int:
        document_id = self.next_document_id()
        names = ", ".join(("id", *columns))
        self.insert_many("documents", names, [(document_id, *columns.values())])
        return document_id

    def update_document(self, document_id: int, **columns: Value) -> None:
        sets = ", ".join(f"{name} = ?" for name in columns)
        self.execute(f"UPDATE documents SET {sets} WHERE id = ?", (*columns.values(), document_id))

    # versions

    def version(self, version_id: int) -> Version | None:
        row = self.one(f"SELECT {_VERSION_COLUMNS} FROM versions WHERE id = ?", (version_id,))
        return Version(*row) if row else None

    def versions(self, document_id: int) -> list[Version]:
        """Newest first."""
        sql = f"SELECT {_VERSION_COLUMNS} FROM versions WHERE document_id = ? ORDER BY number DESC"
        return [Version(*row) for row in self._db.execute(sql, (document_id,))]

    def versions_in(self, folder_id: int) -> dict[int, list[Version]]:
        """Newest first, of every file directly in a folder."""
        sql = (
            f"SELECT {_VERSION_COLUMNS} FROM versions WHERE document_id IN"
            " (SELECT id FROM documents WHERE parent_id = ? AND is_file = 1 AND deleted = 0) ORDER BY number DESC"
        )
        found: dict[int, list[Version]] = {}
        for row in self._db.execute(sql, (folder_id,)):
            version = Version(*row)
            found.setdefault(version.document_id, []).append(version)
        return found

    def add_version(
        self,
        document_id: int,
        *,
        size: int,
        name: str,
        source: str,
        user_id: int,
        now_s: int,
        notes: str | None = None,
    ) -> int:
        """Append a version and make it the document's current one."""
        number = (
            self.value("SELECT max(number) FROM versions WHERE document_id = ?", (document_id,)) or 0
        ) + 1
        version_id = self.next_version_id()
        row = (version_id, document_id, number, size, notes, now_s, user_id, name, source)
        self.insert_many("versions", _VERSION_COLUMNS, [row])
        self.update_document(document_id, version_id=version_id, updated_at=now_s)
        return version_id
