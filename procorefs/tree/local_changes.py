"""What the tree must know of what goes on at the mount before it takes up an answer."""

from typing import Protocol

from procorefs.procore.wire.models import Version
from procorefs.tree.nodes import Inode, Node


class LocalChanges(Protocol):
    """What is going on here, as far as an answer of Procore must respect it."""

    def is_open(self, inode: Inode) -> bool:
        """Whether somebody is inside."""

    def has_bytes(self, inode: Inode) -> bool:
        """Whether its bytes lie here, written or about to be: no version of Procore's shows under that inode."""

    def entries_changed(self, folder: Inode) -> None:
        """Somebody else has added, renamed or removed an entry of the folder."""

    def same_bytes(self, inode: Inode, old: Version, new: Version) -> None:
        """Procore has given the node's bytes another version: what is bound to the old one belongs to the new one."""

    def covered(self, inode: Inode, seen: Version) -> None:
        """Procore has newer bytes than `seen`, which lie under those that are here: nobody sees them."""

    def removing(self, node: Node) -> None:
        """The node, still in the tree, was removed in Procore; what waits in or below it must not go with it."""

    def succeeded(self, inode: Inode, successor: Inode) -> None:
        """The document goes on as another inode, for somebody is inside of this one; what waits goes with it."""
