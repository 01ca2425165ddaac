"""The reasons for which a change is refused at once, and the check that a node may change.

`kernel/errno_table.py` has the errno of each.
"""

from collections.abc import Callable

from procorefs.tree.naming.name_rules import Refusal
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.vfs.view import View


class ChangeRefused(Exception):
    """A change that is refused; nothing was changed. The text says why, without the path.

    `path`: the entry that it is about; empty if it is the one that the request named.
    """

    def __init__(self, why: str = "", *, path: str = "") -> None:
        super().__init__(why)
        self.path = path


class NameRefused(ChangeRefused):
    """Procore or Linux does not accept the name."""

    def __init__(self, path: str, refusal: Refusal) -> None:
        super().__init__(str(refusal), path=path)
        self.rule = refusal.rule


class Exists(ChangeRefused):
    """The entry exists already."""


class Reserved(ChangeRefused):
    """The entry is the mount's own."""


class NoSuchEntry(ChangeRefused):
    """There is no such entry."""


class NotEmpty(ChangeRefused):
    """The folder has entries, or was never listed."""


class IsAFolder(ChangeRefused):
    """A file was expected."""


class NotAFolder(ChangeRefused):
    """A folder was expected."""


class IntoItself(ChangeRefused):
    """A folder cannot be moved into itself."""


class NotPermitted(ChangeRefused):
    """Procore has it read-only, or it cannot be changed at all."""


class NotSupported(ChangeRefused):
    """Procore has nothing like it: links, devices."""


class HeldByOther(ChangeRefused):
    """Another user has the document checked out."""


class WriteAccess:
    """Checks whether a node may be changed at all."""

    def __init__(self, view: View, holder_of: Callable[[Inode], str | None]) -> None:
        """`holder_of` returns the name of another user who has the document checked out."""
        self._view = view
        self._holder_of = holder_of

    def check(self, node: Node) -> None:
        """Raise NotPermitted or HeldByOther if the node may not change."""
        if node.read_only or node.inode == ROOT:
            raise NotPermitted("Procore has it read-only", path=self._view.path(node.inode))
        holder = self._holder_of(node.inode)
        if holder is not None:
            raise HeldByOther(f"{holder} has it checked out", path=self._view.path(node.inode))
