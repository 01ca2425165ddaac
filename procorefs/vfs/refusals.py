"""The reasons for which a change is refused at once, and the checks of what may change.

`kernel/errno_table.py` has the errno of each. What stays on this machine needs no right in Procore, with one exception:
an account that may only read makes nothing at all.
"""

from collections.abc import Callable, Collection

from msgspec import UNSET

from procorefs.journal.change import Location, MetadataPatch
from procorefs.procore.wire.rights import Right, Rights, restriction
from procorefs.tree.naming.name_rules import Refusal
from procorefs.tree.nodes import ROOT, Inode, Node, is_own_entry
from procorefs.tree.sync.account_rights import AccountRights
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
    """Procore has it read-only, the account lacks a right, or it cannot be changed at all."""


class NotSupported(ChangeRefused):
    """Procore has nothing like it: links, devices."""


class HeldByOther(ChangeRefused):
    """Another user has the document checked out."""


def check_own(folder: Inode, name: bytes) -> None:
    """Raise Reserved if the entry is one of the mount's own."""
    if is_own_entry(folder, name):
        raise Reserved("it is the mount's own entry", path=name.decode())


class WriteAccess:
    """Checks whether a node may be changed at all, and whether the account may do it."""

    def __init__(self, view: View, holder_of: Callable[[Inode], str | None], rights: AccountRights) -> None:
        """`holder_of` returns the name of another user who has the document checked out."""
        self._view = view
        self._holder_of = holder_of
        self._rights = rights

    def check_rights(self, needed: set[Right], path: str) -> None:
        """Raise NotPermitted if the account is known to lack one of the rights."""
        lacking = {right: False for right in needed if getattr(self._rights.current, right) is False}
        if lacking:
            self._rights.refused_here()
            raise NotPermitted(f"{restriction(Rights(**lacking))} in Procore", path=path)

    def check(self, node: Node) -> None:
        """Raise NotPermitted or HeldByOther if the node may not change."""
        if node.read_only or node.inode == ROOT:
            raise NotPermitted("Procore has it read-only", path=self._view.path(node.inode))
        holder = self._holder_of(node.inode)
        if holder is not None:
            raise HeldByOther(f"{holder} has it checked out", path=self._view.path(node.inode))


def needed_to_rename(
    was: Location | None, place: Location, *, is_folder: bool, replaces_document: bool, is_sent: bool
) -> set[Right]:
    """Return the rights that an entry's new place needs. Pure.

    `was` is where Procore has its document, or gets it by a call that is open; None: it has none. `is_sent`: Procore is
    told of the place at once. A file that replaces a document becomes a version of it, and its own document is removed.
    What gets a temporary name changes nothing in Procore.
    """
    needed: set[Right] = set()
    if replaces_document and (was is not None or is_folder):
        needed.add("delete")
    if was is None or (replaces_document and not is_folder):
        return needed | {"write"}
    if is_sent and place.name != was.name:
        needed.add("rename")
    if is_sent and place.folder != was.folder:
        needed.add("move")
    return needed


def needed_to_set(patch: MetadataPatch, before: MetadataPatch) -> set[Right]:
    """Return the rights that metadata needs, as far as it was not wanted before. Pure."""
    return {
        right
        for name, right in _NEEDED_TO_SET.items()
        if (wanted := getattr(patch, name)) not in (UNSET, {}) and wanted != getattr(before, name)
    }


_NEEDED_TO_SET: dict[str, Right] = {
    "description": "describe",
    "tags": "describe",
    "private": "set_private",
    "tracked": "write",
    "custom_fields": "write",
}


def encoded_name(view: View, folder: Inode, name: bytes, leaving: Collection[Inode] = ()) -> bytes:
    """The name in Procore of a new entry that programs are to see as `name`; `leaving`: who gives up its name.

    Raises Exists if another entry has it, which it shows only while a document has the very name that is wanted.
    """
    encoded = view.names.encoded(name)
    there = view.child(folder, encoded) if encoded != name else None
    if there is not None and there.inode not in leaving:
        path = view.path_of_entry(folder, encoded)
        raise Exists("it has the name in Procore that the new entry would get: rename it first", path=path)
    return encoded
