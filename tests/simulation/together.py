"""Plays histories in which a colleague changes the project, too.

Nobody can say then what the mount shows at each moment. What must hold all the same: each content that a close
promised reaches Procore as a version, or status names it; nothing of the colleague's goes that was not seen here; and
when all is quiet, mount and Procore agree.
"""

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from procorefs.procore.wire.models import Kind
from procorefs.tree.nodes import Inode
from procorefs.vfs.view import View
from tests.simulation import scheduler
from tests.simulation.aftermath import SYNCED_AFTER_S
from tests.simulation.attributes import DESCRIPTION, TAGS, XDG_TAGS
from tests.simulation.kernel import Kernel, Watcher
from tests.simulation.names import LOCKS, is_junk_file
from tests.simulation.player import FLAGS, FLOCKS, READ_BYTES, RENAME_FLAGS
from tests.simulation.requests import OpenFile
from tests.simulation.steps import Step, content_of
from tests.simulation.words import Wrong

if TYPE_CHECKING:
    from tests.simulation.world import World


class Sight(Watcher):
    """What programs have seen of the colleague's, and what they removed."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._seen: set[tuple[int, int]] = set()
        """Documents with versions; 0: it is a folder."""
        self._removed: set[int] = set()

    @property
    def _view(self) -> View:
        return self._world.parts.project.view

    async def look_around(self, kernel: Kernel) -> None:
        """Somebody sees all that the mount shows now."""
        for attributes in (await kernel.walk()).values():
            if self.shows(attributes.inode):
                self.saw(attributes.inode)

    def shows(self, inode: int) -> bool:
        change = self._view.change(Inode(inode))
        return change is None or change.shown is None

    def saw(self, inode: int) -> None:
        node = self._view.by_inode(Inode(inode))
        if node is not None and node.document_id is not None:
            version = node.version.id if node.version is not None and node.kind is Kind.FILE else 0
            self._seen.add((node.document_id, version))

    def removes(self, folder: int, name: bytes) -> None:
        """The bytes of what is renamed may become a version of what was there."""
        node = self._view.entry(Inode(folder), name)
        if node is not None and node.document_id is not None:
            self._removed.add(node.document_id)
            if self.shows(node.inode):
                self.saw(node.inode)

    def has_removed(self, document: int, version: int) -> bool:
        """Whether a program has removed it, and seen that version before."""
        return document in self._removed and (document, version) in self._seen


class Together:
    """The programs of one history, and its colleague."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._open: dict[int, OpenFile] = {}
        self._promised: dict[int, tuple[float, bytes]] = {}
        """By inode: when a close promised which bytes, that no program has overwritten or removed."""
        self._sight = Sight(world)

    @property
    def _view(self) -> View:
        return self._world.parts.project.view

    def _kernel(self) -> Kernel:
        kernel = self._world.now.kernel
        kernel.watcher = self._sight
        return kernel

    async def play(self, step: Step) -> None:
        """Raises Wrong."""
        world = self._world
        world.told(f"{world.time.now_s():9.2f} {step}")
        scheduler.reseed(f"{world.history.seed}/{step.number}")
        with world.now.begin_call():
            await trio.sleep(step.pause_s)
            if not world.now.is_dead:
                await self._sight.look_around(self._kernel())
            world.network.begin_step(step.number, step.faults)
            if not world.befall(step):
                with suppress(OSError):
                    await getattr(self, f"_do_{step.op}")(step)
        if world.now.is_dead:
            await self._recover()
        await self._sight.look_around(self._kernel())

    async def _recover(self) -> None:
        self._open.clear()
        died_s = self._world.synced_until_s()
        await self._world.restart()
        if self._world.was_power_cut:
            sure_s = died_s - SYNCED_AFTER_S
            self._promised = {inode: kept for inode, kept in self._promised.items() if kept[0] < sure_s}
        await self._world.parts.writing.commands.retry([""])

    async def close_all(self) -> None:
        """Close what is open, after the death that was still to come."""
        if self._world.death is not None:
            self._world.die(self._world.death)
            await self._recover()
        for slot in sorted(self._open):
            with suppress(OSError):
                await self._do_close(Step(-1, "close", slot=slot))
        for path, attributes in (await self._kernel().walk()).items():
            if path.rpartition("/")[2] in LOCKS and not attributes.is_folder:
                with suppress(OSError):
                    await self._do_unlink(Step(-1, "unlink", path))

    async def compare(self) -> None:
        """Nothing is known of what the mount must show now."""

    # What is promised

    async def _promise(self, file: OpenFile) -> None:
        """What a file has now is promised."""
        content = bytes(await self._world.parts.kernel.operations.read(file.handle, 0, READ_BYTES))
        self._promised[file.inode] = (self._world.time.now_s(), content)

    def _forget(self, inode: int | None) -> None:
        """A program overwrites or removes it."""
        self._promised.pop(inode or 0, None)

    async def _inode_at(self, path: str) -> int | None:
        try:
            return (await self._kernel().stat(path)).inode
        except OSError:
            return None

    # Steps

    async def _do_colleague(self, step: Step) -> None:
        self._world.procore.act(step)

    async def _do_open(self, step: Step) -> None:
        if step.slot in self._open:
            return
        flags = FLAGS[step.flags]
        file = self._open[step.slot] = await self._kernel().open(step.path, flags)
        if flags & os.O_TRUNC:
            self._forget(file.inode)

    async def _do_write(self, step: Step) -> None:
        file = self._open.get(step.slot)
        if file is not None and content_of(step) and file.writes:
            self._forget(file.inode)
            await self._kernel().write(file, step.offset, content_of(step))

    async def _do_read(self, step: Step) -> None:
        if step.slot in self._open:
            await self._kernel().read(self._open[step.slot], step.offset, READ_BYTES)

    async def _do_ftruncate(self, step: Step) -> None:
        file = self._open.get(step.slot)
        if file is not None and file.writes:
            self._forget(file.inode)
            await self._kernel().ftruncate(file, step.size)

    async def _do_flush(self, step: Step) -> None:
        file = self._open.get(step.slot)
        if file is not None:
            await self._kernel().flush(file)

    async def _do_fsync(self, step: Step) -> None:
        file = self._open.get(step.slot)
        if file is not None:
            await self._kernel().fsync(file)

    async def _do_close(self, step: Step) -> None:
        file = self._open.pop(step.slot, None)
        if file is None:
            return
        content: bytes | None = None
        if file.writes and file.inode not in self._promised:
            with suppress(OSError, Exception):
                content = bytes(await self._world.parts.kernel.operations.read(file.handle, 0, READ_BYTES))
        await self._kernel().close(file)
        if content is None or self._world.now.is_dead or not await self._has_name(file.inode):
            return
        if not is_junk_file(self._view.path(Inode(file.inode)), content):
            self._promised[file.inode] = (self._world.time.now_s(), content)

    async def _has_name(self, inode: int) -> bool:
        return inode in {attributes.inode for attributes in (await self._kernel().walk()).values()}

    async def _do_settle(self, step: Step) -> None:
        """Nobody can say what must be then."""

    async def _do_flock(self, step: Step) -> None:
        file = self._open.get(step.slot)
        if file is not None:
            await self._kernel().flock(file, FLOCKS[step.flags] | fcntl.LOCK_NB)

    async def _do_describe(self, step: Step) -> None:
        if self._world.knows_rights():
            await self._kernel().setxattr(step.path, DESCRIPTION, content_of(step))

    async def _do_setxattr(self, step: Step) -> None:
        await self._kernel().setxattr(step.path, step.to, step.value.encode(), tid=step.number)

    async def _do_copyxattr(self, step: Step) -> None:
        for name in (TAGS, XDG_TAGS) if step.flags == "first" else (XDG_TAGS, TAGS):
            await self._kernel().setxattr(step.path, name, step.value.encode(), tid=step.number)

    async def _do_removexattr(self, step: Step) -> None:
        await self._kernel().removexattr(step.path, step.to, tid=step.number)

    async def _do_getxattr(self, step: Step) -> None:
        await self._kernel().getxattr(step.path, step.to)

    async def _do_cat(self, step: Step) -> None:
        file = await self._kernel().open(step.path, os.O_RDONLY)
        try:
            await self._kernel().read(file, 0, READ_BYTES)
        finally:
            await self._kernel().close(file)

    async def _do_list(self, step: Step) -> None:
        await self._kernel().listing(step.path)

    async def _do_truncate(self, step: Step) -> None:
        self._forget(await self._inode_at(step.path))
        await self._kernel().truncate(step.path, step.size)

    async def _do_utime(self, step: Step) -> None:
        await self._kernel().utime(step.path, (1_500_000_000 + step.number) * 10**9)

    async def _do_mkdir(self, step: Step) -> None:
        await self._kernel().mkdir(step.path)

    async def _do_unlink(self, step: Step) -> None:
        self._forget(await self._inode_at(step.path))
        await self._kernel().unlink(step.path)

    async def _do_rmdir(self, step: Step) -> None:
        self._forget(await self._inode_at(step.path))
        await self._kernel().rmdir(step.path)

    async def _do_rename(self, step: Step) -> None:
        flags = RENAME_FLAGS.get(step.flags, 0)
        if step.path != step.to and not flags and await self._inode_at(step.path) is not None:
            self._forget(await self._inode_at(step.to))
        await self._kernel().rename(step.path, step.to, flags)
        self._forget_junk()

    def _forget_junk(self) -> None:
        """What a program keeps for itself is promised by nobody."""
        for inode, (_, content) in list(self._promised.items()):
            if is_junk_file(self._view.path(Inode(inode)), content):
                self._forget(inode)

    async def _do_rmtree(self, step: Step) -> None:
        found = await self._kernel().stat(step.path)
        if found.is_folder:
            for name in sorted(await self._kernel().listing(step.path)):
                await self._do_rmtree(Step(step.number, "rmtree", f"{step.path}/{name}"))
            await self._do_rmdir(step)
        else:
            await self._do_unlink(step)

    # The end

    def check(self) -> None:
        """Raises Wrong: a promise was not kept, or something of the colleague's is gone."""
        procore, commands = self._world.procore, self._world.parts.writing.commands
        sent = procore.all_contents()
        named = {item.path for item in commands.waiting([""])}
        for inode, (at_s, content) in self._promised.items():
            path = self._view.path(Inode(inode))
            if content and content not in sent and path not in named:
                raise Wrong(f"{path or inode}, closed at {at_s:.1f} s, is nowhere: {content[:20]!r}")
        for document, version, path in procore.colleagues_gone():
            if not self._sight.has_removed(document, version):
                raise Wrong(
                    f"{path}, document {document}, is gone with version {version}, which nobody saw here"
                )
