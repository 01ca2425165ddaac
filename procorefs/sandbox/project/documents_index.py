"""Lists of documents as SQL: filters, sorts, what a caller may see, and a page of it."""

from typing import Any

from procorefs.sandbox.api.refusals import invalid
from procorefs.sandbox.faults.dialect import Dialect
from procorefs.sandbox.project.records import Caller, Document, Project, Value
from procorefs.sandbox.project.roles import Right, Role
from procorefs.sandbox.project.rows import Store

_SORTS = {
    "updated_at": ("updated_at",),
    "name": ("name",),
    "document_type": ("is_file",),
    "document_type_then_name": ("is_file", "name"),
    "document_type_then_created_at": ("is_file", "created_at"),
    "document_type_then_updated_at": ("is_file", "updated_at"),
}
SORT_WORDS = (*_SORTS, *(f"-{word}" for word in _SORTS))
_TERMS = {
    "updated_at": "updated_at",
    "name": "name",
    "document_type": "is_file",
    "created_at": "created_at",
    "created_by": "created_by",
}
SORT_TERMS = (*_TERMS, *(f"-{word}" for word in _TERMS))
"""Those of the v2.0 folder reads, which take several."""


class Listing:
    """One request for a list: conditions are collected, then counted and read."""

    def __init__(self, store: Store, dialect: Dialect, project: Project) -> None:
        self._store = store
        self._dialect = dialect
        self._project = project
        self._conditions = ["f.project_id = ?"]
        self._values: list[Any] = [project.id]
        self._table = "documents f"

    def count(self) -> int:
        return self._store.count(self._table, self._where(), self._values)

    def page(self, order: str, limit: int, offset: int) -> list[Document]:
        """Documents in that order; ties go by id, so that pages never overlap while nothing changes."""
        picked = f"SELECT f.id FROM {self._table} WHERE {self._where()} ORDER BY {order} LIMIT ? OFFSET ?"
        ids = self._store.column(picked, (*self._values, limit, offset))
        ranks = {document_id: rank for rank, document_id in enumerate(ids)}
        rows = self._store.documents("WHERE d.id IN (SELECT value FROM json_each(?))", (str(ids),))
        return sorted(rows, key=lambda document: ranks[document.id])

    def visible_to(self, caller: Caller, role: Role, granted: set[int]) -> None:
        if not role.may(Right.SEE_BIN):
            self._add("f.is_bin = 0 AND f.deleted = 0 AND f.buried = 0")
        if role.may(Right.SEE_PRIVATE):
            return
        marks = ", ".join("?" * len(granted))
        self._add(
            f"(f.private_root IS NULL OR f.created_by = ? OR f.private_root IN ({marks}))",
            caller.user.id,
            *granted,
        )

    def filter(self, query: dict[str, Any], *, bin_by_filter_only: bool = False) -> None:
        """All filters of a list. (procore-api.md, Reading the tree)"""
        self._bin(query.get("filters[is_in_recycle_bin]", False if bin_by_filter_only else None))
        self._range("updated_at", query.get("filters[updated_at]"))
        self._range("created_at", query.get("filters[created_at]"))
        self._in("created_by", query.get("filters[created_by_id]"))
        if (kind := query.get("filters[document_type]")) is not None:
            self._add("f.is_file = ?", kind == "file")
        if (types := query.get("filters[file_type]")) is not None:
            self._in("file_type", [word.lower().lstrip(".") for word in types])
            self._add("f.is_file = 1")
        if (private := query.get("filters[private]")) is not None:
            self._add("f.private = ?", int(private))
        if (words := query.get("filters[search]")) is not None:
            self._add(
                "(instr(lower(f.name), lower(?)) OR instr(lower(f.description), lower(?)))", words, words
            )
        if (tags := query.get("filters[custom_tag_ids]")) is not None:
            self._one_value(tags)
            marks = ", ".join("?" * len(tags))
            self._add(f"f.id IN (SELECT document_id FROM document_tags WHERE tag_id IN ({marks}))", *tags)
        if (folder_id := query.get("filters[folder_id]")) is not None:
            self.below(folder_id)

    def inside(self, folder_id: int) -> None:
        """Only what is directly in that folder."""
        self._add("f.parent_id = ?", folder_id)

    def of_kind(self, *, is_file: bool) -> None:
        self._add("f.is_file = ?", int(is_file))

    def _bin(self, wanted: bool | None) -> None:
        ghosts = self._dialect.descendants
        # Written as in the partial index of the bin, so that SQLite uses it.
        in_bin = (
            "(f.deleted = 1 OR f.buried = 1)"
            if ghosts == "deleted"
            else "(f.deleted = 1 OR f.buried = 1) AND f.deleted = 1"
        )
        if ghosts == "hidden":
            self._add("f.buried = 0")
        if wanted is True:
            self._table = "documents f INDEXED BY documents_in_bin"
            self._add(in_bin)
        elif wanted is False or not self._dialect.bin_in_list:
            self._add(f"NOT ({in_bin})")
        if not self._dialect.root_in_list:
            self._add("f.parent_id IS NOT NULL")
        if not self._dialect.bin_folder_in_list:
            self._add("f.is_bin = 0")

    def _range(self, column: str, ends: tuple[int, int] | None) -> None:
        if ends is not None:
            self._add(f"f.{column} BETWEEN ? AND ?", *ends)

    def _in(self, column: str, values: list[Any] | None) -> None:
        if values is not None:
            self._one_value(values)
            self._add(f"f.{column} IN ({', '.join('?' * len(values))})", *values)

    def _one_value(self, values: list[Any]) -> None:
        if len(values) > 1 and not self._dialect.several_values:
            raise invalid("filters", "takes one value")

    def below(self, folder_id: int, *, itself: bool = True) -> None:
        """Only that folder and what is below it."""
        if not itself:
            self._add("f.id != ?", folder_id)
        self._add(
            "f.id IN (WITH RECURSIVE tree (id, depth) AS (SELECT ?, 0 UNION ALL SELECT c.id, depth + 1"
            " FROM documents c JOIN tree ON c.parent_id = tree.id WHERE depth < 100) SELECT id FROM tree)",
            folder_id,
        )

    def _add(self, condition: str, *values: Value) -> None:
        self._conditions.append(condition)
        self._values.extend(values)

    def _where(self) -> str:
        return " AND ".join(self._conditions)


def order_by_word(sort: str | None) -> str:
    """The order of the documents list, by one word."""
    columns = _SORTS[(sort or "document_type_then_name").lstrip("-")]
    direction = "DESC" if sort and sort.startswith("-") else "ASC"
    return ", ".join(f"f.{column} {direction}" for column in (*columns, "id"))


def order_by_terms(terms: list[str]) -> str:
    """The order of the v2.0 folder reads, by several terms."""
    last = "DESC" if terms and terms[0].startswith("-") else "ASC"
    columns = [f"f.{_TERMS[term.lstrip('-')]} {'DESC' if term.startswith('-') else 'ASC'}" for term in terms]
    return ", ".join([*columns, f"f.id {last}"])
