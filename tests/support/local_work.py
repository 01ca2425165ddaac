"""What goes on at a mount, for trees without one."""

from collections.abc import Container

from procorefs.procore.wire.models import DocumentId, UserId, Version
from procorefs.tree.nodes import Inode, Node

ME = UserId(9)
"""The user whose calls the mount makes."""


class Inside:
    """Somebody may be inside of files, and nothing is written."""

    def __init__(self, inside: Container[Inode] = ()) -> None:
        self._inside = inside

    def is_open(self, inode: Inode) -> bool:
        return inode in self._inside

    def has_bytes(self, _inode: Inode) -> bool:
        return False

    def is_unconfirmed(self, _document: DocumentId) -> bool:
        return False

    def entries_changed(self, _folder: Inode) -> None:
        """Nobody looks at times."""

    def covered(self, _inode: Inode, _old: Version, _new: Version | None) -> None:
        """Nothing is written here."""

    def same_bytes(self, _inode: Inode, _old: Version, _new: Version) -> None:
        """Nothing is bound to a version."""

    def removing(self, _node: Node) -> None:
        """Nothing waits."""

    def succeeded(self, _inode: Inode, _successor: Inode) -> None:
        """Nor does anything go along."""
