"""Keeps the attributes of other programs on this machine, and the texts of Procore's attributes as they were set.

A text may differ from the one that ProcoreFS makes of the same value (`12.50`, `b` before `a`). While it means the
same, it is shown as it was set. So a copy tool finds what it copied, and copies nothing the second time.
"""

from collections.abc import Callable

from procorefs.journal.xattr_store import XattrStore
from procorefs.tree.nodes import Inode, Node
from procorefs.xattr.attribute_names import LONGEST_VALUE_BYTES, NoAttribute, TooMuch, is_ours

MOST_BYTES = 1 << 20
"""The limit for all values of one file together."""

MOST_NAME_BYTES = LONGEST_VALUE_BYTES // 2
"""The limit for all names of one file together: Linux accepts a list of 64 KiB, with the names of Procore's
attributes."""


class ForeignXattrs:
    """`written` is called after each change and has it synced within a second."""

    def __init__(self, rows: XattrStore, written: Callable[[Inode], None]) -> None:
        self._rows = rows
        self._written = written

    def names(self, node: Node) -> list[bytes]:
        """The attributes of other programs."""
        return [name for name in self._of(node) if not is_ours(name.decode("utf-8", "replace"))]

    def get(self, node: Node, name: bytes) -> bytes | None:
        return self._of(node).get(name)

    def put(self, node: Node, name: bytes, value: bytes) -> None:
        """Raises TooMuch, sqlite3.Error."""
        there = self._of(node)
        if there.get(name) == value:
            return
        rest = {other: text for other, text in there.items() if other != name}
        name_bytes = sum(len(other) + 1 for other in (*rest, name))
        if name_bytes > MOST_NAME_BYTES or sum(map(len, rest.values())) + len(value) > MOST_BYTES:
            raise TooMuch("the file already has too many attributes")
        self._rows.put(node.inode, name, value)
        if node.document_id is not None:
            self._rows.bind(node.inode, node.document_id)
        self._written(node.inode)

    def remove(self, node: Node, name: bytes) -> None:
        """Raises NoAttribute, sqlite3.Error."""
        if name not in self._of(node):
            raise NoAttribute
        self._rows.drop(node.inode, name)
        self._written(node.inode)

    def forget(self, node: Node, name: bytes) -> None:
        if name in self._of(node):
            self.remove(node, name)

    def _of(self, node: Node) -> dict[bytes, bytes]:
        if node.document_id is not None:
            self._rows.follow(node.document_id, node.inode)
        return self._rows.of(node.inode)
