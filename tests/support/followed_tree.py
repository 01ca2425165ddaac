"""The room that follows Procore, with the real client: for tests of listings and polls over HTTP."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from procorefs.procore.api.client import Client
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import ROOT, Inode, Invalidation, Node
from procorefs.tree.sync.follower import Follower
from procorefs.tree.tree_store import TreeStore
from tests.support.api_client import client_of
from tests.support.local_work import ME, Inside
from tests.support.sandbox import SandboxHandle

Tree = dict[str, int | None]
"""Path -> size of a file, None for a folder."""

SETTLES_S = 20.0


class Following:
    """One mount's tree without the mount."""

    def __init__(self, store: TreeStore, follower: Follower, client: Client) -> None:
        self.store = store
        self.follower = follower
        self.client = client
        self.invalidated: list[Invalidation] = []

    async def tree(self) -> Tree:
        """All that a walker sees, after a look."""
        await self.follower.poll_if_due()
        found: Tree = {}
        await self._walk(ROOT, "", found)
        return found

    async def _walk(self, folder: Inode, path: str, found: Tree) -> None:
        await self.follower.children_known(folder)
        for node in self.store.children(folder):
            inside = f"{path}/{node.shown.decode()}"
            found[inside] = None if node.is_folder else node.version.size_bytes if node.version else -1
            if node.is_folder:
                await self._walk(node.inode, inside, found)

    async def becomes(self, expected: Tree) -> None:
        """Look, as somebody who works with the mount does, until it shows what is expected."""
        with trio.move_on_after(SETTLES_S):
            while await self.tree() != expected:  # noqa: ASYNC110 - what others did gives no event
                await trio.sleep(0.2)
        shown = await self.tree()
        assert shown == expected, {
            path: (shown.get(path, "missing"), expected.get(path, "should be gone"))
            for path in shown.keys() | expected.keys()
            if (path in shown, shown.get(path)) != (path in expected, expected.get(path))
        }

    def node(self, path: str) -> Node:
        node = self.store.by_inode(ROOT)
        for part in path.strip("/").split("/"):
            assert node is not None, path
            node = self.store.child(node.inode, part.encode())
        assert node is not None, path
        return node


@asynccontextmanager
async def following(
    sandbox: SandboxHandle, path: Path, *, freshness_s: float = 0.0, **changes: Any
) -> AsyncIterator[Following]:
    """As the daemon builds it: the root is listed by itself, then the rest in the background."""
    store = TreeStore.open(path)
    try:
        async with client_of(sandbox, **changes) as client, trio.open_nursery() as nursery:
            made: list[Following] = []

            def invalidate(what: Sequence[Invalidation]) -> None:
                made[0].invalidated.extend(what)

            applier = DocumentApplier(store, Inside(), ME)
            follower = Follower(
                store,
                applier,
                client,
                client.limiter,
                invalidate,
                freshness_s=freshness_s,
                changed=lambda _documents: None,
            )
            made.append(Following(store, follower, client))
            if not follower.complete:
                await follower.list_root()
            await nursery.start(follower.run)
            yield made[0]
            nursery.cancel_scope.cancel()
    finally:
        store.close()
