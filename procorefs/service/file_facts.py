"""Tells file managers what is known of files: state, reason, holder; asks nobody, so it answers at once."""

from collections.abc import Callable, Sequence
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
    page: str = ""
    """The project's Documents page in a browser; empty: unknown."""


@dataclass(frozen=True, slots=True)
class FileFactsReader:
    """Reads facts of one mount."""

    view: View
    state_of: Callable[[Inode], tuple[ChangeState, str]]
    holder_of: Callable[[Inode], str | None]
    page: str

    async def answer(self, paths: Sequence[str]) -> FilesAnswer:
        """What is known of the files at these paths, which start at the root of the mount."""
        files = []
        for number, path in enumerate(paths[:MOST_FILES], 1):
            files.append(self._facts(path))
            if number % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return FilesAnswer(files, self.page)

    def _facts(self, path: str) -> FileFacts | None:
        node = self._find(path)
        if node is None:
            return None
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
