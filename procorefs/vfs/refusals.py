"""Why a change is refused at once (`kernel/errno_table.py` has the errnos), and the check that a node may change."""

from collections.abc import Callable

from procorefs.tree.naming.name_rules import Refusal
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.vfs.view import View


class ChangeRefused(Exception):
    """A change that can't be; nothing was changed. The text says why, and does not repeat the path.

    `path`: what it is about, where that is not what the request named; empty: it is.
    """

    def __init__(self, why: str = "", *, path: str = "") -> None:
        super().__init__(why)
        self.path = path


class NameRefused(ChangeRefused):
    """Procore, or Linux, does not take the name."""

    def __init__(self, path: str, refusal: Refusal) -> None:
        super().__init__(str(refusal), path=path)
        self.rule = refusal.rule


class Exists(ChangeRefused):
    """There is such an entry already."""


class Reserved(ChangeRefused):
    """The entry is the mount's own."""


class NoSuchEntry(ChangeRefused):
    """There is no such entry."""


class NotEmpty(ChangeRefused):
    """The folder holds something, or nobody knows yet what."""


class IsAFolder(ChangeRefused):
    """A file was expected."""


class NotAFolder(ChangeRefused):
    """A folder was expected."""


class IntoItself(ChangeRefused):
    """A folder can't be moved into itself."""


class NotPermitted(ChangeRefused):
    """Procore has it read-only, or it is no thing that can be changed."""


class NotSupported(ChangeRefused):
    """Documents have no such thing: links, devices."""


class HeldByOther(ChangeRefused):
    """Somebody else has the document checked out."""


class WriteAccess:
    """Checks that a node may be changed at all."""

    def __init__(self, view: View, holder_of: Callable[[Inode], str | None]) -> None:
        """`holder_of`: the name of another user who has the document checked out."""
        self._view = view
        self._holder_of = holder_of

    def check(self, node: Node) -> None:
        """Raises NotPermitted, HeldByOther."""
        if node.read_only or node.inode == ROOT:
            raise NotPermitted("Procore has it read-only", path=self._view.path(node.inode))
        holder = self._holder_of(node.inode)
        if holder is not None:
            raise HeldByOther(f"{holder} has it checked out", path=self._view.path(node.inode))
