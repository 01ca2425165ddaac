"""Tells file managers what is known of files: state, reason, holder; asks nobody, so it answers at once."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import trio

from procorefs.journal.states import ChangeState
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.vfs.view import View

MOST_FILES = 1000
"""More are not answered in one request."""

_AT_ONCE = 32


class FileFacts(msgspec.Struct, frozen=True):
    """What is known of one file or folder."""

    state: ChangeState
    reason: str = ""
    """Why it is in this state; empty while nothing is wrong."""
    holder: str = ""
    """The other user who has the document checked out."""
    read_only: bool = False
    in_procore: bool = False


class FilesAnswer(msgspec.Struct, frozen=True):
    """The facts of the files that were asked about, in their order; None: there is no such file."""

    files: list[FileFacts | None]
    entries: dict[str, FileFacts] = {}
    """The first MOST_FILES entries of the folder that was asked about, by name, without names that are no UTF-8."""
    page: str = ""
    """The project's Documents page in a browser; empty: unknown."""


@dataclass(frozen=True, slots=True)
class FileFactsReader:
    """Reads facts of one mount."""

    view: View
    state_of: Callable[[Inode], tuple[ChangeState, str]]
    holder_of: Callable[[Inode], str | None]
    page: str

    async def answer(self, paths: Sequence[str], folder: str | None = None) -> FilesAnswer:
        """What is known of the files at these paths, and in the folder; paths start at the root of the mount."""
        files: list[FileFacts | None] = []
        for path in paths[:MOST_FILES]:
            node = self._find(path)
            files.append(None if node is None else self._facts(node))
            await _turn(len(files))
        entries: dict[str, FileFacts] = {}
        parent = self._find(folder) if folder is not None else None
        for node in self.view.children(parent.inode, limit=MOST_FILES) if parent is not None else ():
            with suppress(UnicodeDecodeError):
                entries[node.shown.decode()] = self._facts(node)
            await _turn(len(entries))
        return FilesAnswer(files, entries, self.page)

    def _facts(self, node: Node) -> FileFacts:
        state, reason = self.state_of(node.inode)
        return FileFacts(
            state,
            reason,
            self.holder_of(node.inode) or "",
            node.read_only,
            node.document_id is not None,
        )

    def _find(self, path: str) -> Node | None:
        node = self.view.by_inode(ROOT)
        for name in path.encode("utf-8", "surrogateescape").split(b"/"):
            if name and node is not None:
                node = self.view.child(node.inode, name)
        return node


async def _turn(number: int) -> None:
    """Let other tasks run now and then."""
    if number % _AT_ONCE == 0:
        await trio.lowlevel.checkpoint()
