"""Finding an entry by its name: what is known is answered at once, Procore is asked only about what is not."""

from typing import Protocol

from procorefs.tree.nodes import Inode, Node
from procorefs.vfs.view import View


class Following(Protocol):
    """What is needed of the follower; both raise ProcoreError."""

    async def children_known(self, folder: Inode, *, soon: bool = False) -> None: ...

    def is_listed(self, folder: Inode) -> bool: ...

    async def poll_if_due(self) -> None: ...


async def find_child(view: View, follower: Following, folder: Inode, name: bytes) -> Node | None:
    """What programs see under a name; only when nothing is there the folder is listed, or a due look made."""
    node = view.entry(folder, name)
    if node is None:
        await follower.children_known(folder, soon=True)
        node = view.entry(folder, name)
    if node is None:
        await follower.poll_if_due()
        node = view.entry(folder, name)
    return node
