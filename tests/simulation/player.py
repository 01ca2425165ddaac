"""Plays a history's steps on the mount and on the model, and compares after each what a program sees."""

import copy
import errno
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from procorefs.journal.change import Change
from procorefs.journal.states import ChangeState
from procorefs.tree.nodes import Inode
from procorefs.vfs.view import View
from tests.simulation import aftermath, scheduler
from tests.simulation.aftermath import RECOVERED, Past, Quiet
from tests.simulation.attribute_steps import ATTRIBUTE_STEPS, AttributeSteps
from tests.simulation.identities import Identities
from tests.simulation.kernel import RENAME_EXCHANGE, RENAME_NOREPLACE, Kernel
from tests.simulation.model import File, Folder, Model, Opened
from tests.simulation.names import LOCKS, is_refused, stays_for_ever
from tests.simulation.requests import Attributes, OpenFile
from tests.simulation.steps import Step, content_of
from tests.simulation.words import Wrong, differences, named, short

if TYPE_CHECKING:
    from tests.simulation.world import World

FLAGS = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "x": os.O_RDWR | os.O_CREAT | os.O_EXCL,
}
FLOCKS = {
    "shared": fcntl.LOCK_SH,
    "exclusive": fcntl.LOCK_EX,
    "exclusive now": fcntl.LOCK_EX | fcntl.LOCK_NB,
    "unlock": fcntl.LOCK_UN,
}
LOOKS, AFTER_LOOK_S = 3, 40.0
"""So often is the root listed after a power cut, and so long each look may take: then the tree is right."""
LOOKS_WITHOUT_BIN = 40
"""Deletions that are not listed show after two further listings of the project, which come every ten minutes."""

RENAME_FLAGS = {"noreplace": RENAME_NOREPLACE, "exchange": RENAME_EXCHANGE}
READ_BYTES = 1 << 17
TROUBLE = (errno.EIO, errno.EAGAIN, errno.ETIMEDOUT)
"""What a program may be told while Procore can't be reached."""


class Died(Exception):
    """The daemon died during the step."""


class Player:
    """The programs of one history."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._open: dict[int, tuple[OpenFile, Opened]] = {}
        self._before: Folder | None = None
        """What the model had before the operation under way, while the daemon may die."""
        self._past = Past(world.model)
        self._quiet = Quiet()
        self._discarded: set[str] = set()
        """What the last power cut took, and was told of."""
        self.identities = Identities()
        self._xattrs = AttributeSteps(world, self._both)

    @property
    def _model(self) -> Model:
        return self._world.model

    def _kernel(self) -> Kernel:
        return self._world.now.kernel

    async def play(self, step: Step) -> None:
        """Raises Wrong."""
        world = self._world
        world.told(f"{world.time.now_s():9.2f} {step}")
        scheduler.reseed(f"{world.history.seed}/{step.number}")
        try:
            with world.now.begin_call():
                await trio.sleep(step.pause_s)
                self._quiet.note(world.time.now_s(), self._model)
                world.network.begin_step(step.number, step.faults)
                if not world.befall(step):
                    await self._do(step)
                self._note_past()
                self._quiet.note(world.time.now_s(), self._model)
                if not world.now.is_dead:
                    await self.compare()
        except Died:
            pass
        if world.now.is_dead:
            self._quiet.note(world.time.now_s(), self._model)
            self._note_past()  # what was under way may have come to be
            await self._recover()

    async def _do(self, step: Step) -> None:
        if step.op in ATTRIBUTE_STEPS:
            await self._xattrs.play(step)
        else:
            await getattr(self, f"_do_{step.op}")(step)

    async def _recover(self) -> None:
        """What a new run of the daemon shows after a death is what was there, with or without what was under way."""
        for _, opened in self._open.values():
            if opened.writes:
                opened.file.mtime_ns = None  # it was not closed
        self._open.clear()
        self.identities.settled({})  # nobody knows how far what was under way has come
        synced_until_s = self._world.synced_until_s()
        await self._world.restart()
        if self._world.was_power_cut:
            await self._recover_from_power_cut(synced_until_s)
            return
        shown = await self._shown()
        roots = [self._model.root, *([self._before] if self._before is not None else [])]
        roots = [root for root in roots if aftermath.may_be_after_kill(shown, Model(root))]
        if not roots:
            raise Wrong(f"after a death the mount differs: {differences(shown, sizes_of(self._model))}")
        for root in roots:
            aftermath.drop_missing(root, shown)
        self._model.root = roots[0]
        if len(roots) > 1 and not await self._has_bytes(aftermath.written_between(*map(Model, roots))):
            self._model.root = roots[1]  # what was under way has not come to be
        if self._before is not None:
            self._model.forget_times()  # what was under way may have come half through
            await self._xattrs.adopt(Model(self._before))
        self._before = None
        await self._adopt_dirty()
        await self._world.parts.writing.commands.retry([""])

    def _note_past(self) -> None:
        self._past.note(self._world.time.now_s(), self._model, self._world.synced_until_s())

    async def _has_bytes(self, files: Mapping[str, File]) -> bool:
        """Whether all of them are as they were written, or closed."""
        for path, file in files.items():
            if await self._bytes_of(path) not in (file.content, *file.promised):
                return False
        return True

    async def _recover_from_power_cut(self, synced_until_s: float) -> None:
        """The tree may be an older one than the journal: it is right after a look that was answered."""
        self._before = None
        await self._look()
        while self._world.network.is_troubled and self._world.parts.follower.poll_state().state != "complete":
            await self._look()
        lost = [
            item.path for change, item in self._world.parts.writing.commands.items() if self._is_lost(change)
        ]
        view = self._world.parts.project.view
        doubted, failed = aftermath.doubted_in(view), aftermath.failed_in(view)
        for path in set(lost) - self._discarded:  # the next power cut may have undone that
            if not path.startswith(RECOVERED) and not self._past.changed(path, synced_until_s):
                raise Wrong(f"after a power cut {path} is lost")
        await self._world.parts.writing.commands.discard(lost)
        self._discarded = set(lost)
        # With the change its rename is discarded: the document shows under its name of before again.
        lost += [view.path(inode) for inode in failed if view.by_inode(inode) is not None]
        found = {
            path: None if attributes.is_folder else await self._bytes_of(path)
            for path, attributes in sorted((await self._kernel().walk()).items())
        }
        wrong = self._past.wrong_in(found, lost, doubted, synced_until_s)
        if wrong:
            raise Wrong(f"after a power cut {wrong}")
        self._model.root = aftermath.root_of(found)
        self._note_past()
        await self._world.parts.writing.commands.retry([""])

    def _is_lost(self, change: Change) -> bool:
        """Whether it failed, or waits for what failed. What waits for something incomplete is sent with that.

        What is not sent because of its name is all there.
        """
        path = self._world.parts.project.view.path(change.inode)
        if any(map(is_refused, path.split("/"))) and change.reason.endswith("rename it"):
            return False
        blocker = self._world.parts.writing.states.failed_blocker(change.inode)
        return ChangeState.FAILED in (change.state, blocker.state if blocker is not None else None)

    async def _look(self) -> None:
        for _ in range(LOOKS_WITHOUT_BIN if self._world.history.setting.is_limited else LOOKS):
            with suppress(OSError):
                await self._kernel().listing("")
            await trio.sleep(AFTER_LOOK_S)

    async def _adopt_dirty(self) -> None:
        """What was being written is there as it was written, or as it was closed before."""
        for path, entry in self._model.all():
            if isinstance(entry, Folder) or not entry.is_dirty:
                continue
            content = await self._bytes_of(path)
            allowed = [bytes(entry.content), *entry.promised]
            if content not in allowed:
                raise Wrong(f"after a death {path} has {short(content)}, and not {short(allowed)}")
            entry.mtime_ns = None
            entry.content = bytearray(content)
            entry.close()

    async def _bytes_of(self, path: str) -> bytes:
        """Read by its name, with patience."""
        while True:
            try:
                file = await self._kernel().open(path, os.O_RDONLY)
                try:
                    return await self._kernel().read(file, 0, READ_BYTES)
                finally:
                    await self._kernel().close(file)
            except OSError as error:
                if error.errno not in TROUBLE or not self._world.network.is_troubled:
                    raise Wrong(f"{path} can't be read after a death: {named(error.errno or 0)}") from None
            await trio.sleep(5.0)

    async def compare(self) -> None:
        """What the mount shows now, with what it must show."""
        walked = await self._kernel().walk()
        shown, wanted = _sizes(walked), sizes_of(self._model)
        if shown != wanted:
            raise Wrong(f"the mount differs: {differences(shown, wanted)}")
        for path, entry in self._model.all():
            if isinstance(entry, File) and entry.mtime_ns is not None:
                first_ns, last_ns = entry.mtime_ns
                if not first_ns <= walked[path].mtime_ns <= last_ns:
                    off_s = (walked[path].mtime_ns - last_ns) / 1e9
                    raise Wrong(f"the mtime of {path} is {off_s:.6f} s off")

    async def _shown(self) -> dict[str, int]:
        return _sizes(await self._kernel().walk())

    async def close_all(self) -> None:
        if self._world.death is not None:
            self._world.die(self._world.death)
            await self._recover()
        for slot in sorted(self._open):
            await self._do_close(Step(-1, "close", slot=slot))
        for path in [path for path, _ in self._model.all() if path.rpartition("/")[2] in LOCKS]:
            if self._is_file(path):
                await self._do_unlink(Step(-1, "unlink", path))

    async def _both(
        self, what: str, ours: Callable[[], Awaitable[Any]], model: Callable[[], Any]
    ) -> tuple[Any, Any] | None:
        """Do it in both; None when both refused, with the same errno. Raises Died, Wrong."""
        if self._world.death is not None:
            self._before = copy.deepcopy(self._model.root)
        began_ns = time.time_ns()
        try:
            got, got_error = await ours(), 0
        except OSError as error:
            got, got_error = None, error.errno or 0
        is_dead = self._world.now.is_dead
        if got_error in TROUBLE and self._world.network.is_troubled and not is_dead:
            return None
        self._model.during_ns = (began_ns, time.time_ns())
        try:
            wanted, wanted_error = model(), 0
        except OSError as error:
            wanted, wanted_error = None, error.errno or 0
        if is_dead:
            raise Died
        if got_error != wanted_error:
            raise Wrong(f"{what}: {named(got_error)} instead of {named(wanted_error)}")
        return None if got_error else (got, wanted)

    async def _do_settle(self, _step: Step) -> None:
        """Wait until all is in Procore, if nobody has anything open, and compare."""
        if not self._open and self._world.death is None:
            await self._world.check(self)

    # Open files

    async def _do_open(self, step: Step) -> None:
        if step.slot in self._open:
            return
        flags = FLAGS[step.flags]
        both = await self._both(
            str(step),
            lambda: self._kernel().open(step.path, flags),
            lambda: self._model.open(step.path, flags),
        )
        if both is not None:
            self._open[step.slot] = both

    async def _on_slot(
        self,
        step: Step,
        ours: Callable[[OpenFile], Awaitable[Any]],
        model: Callable[[Opened], Any],
    ) -> None:
        if step.slot not in self._open:
            return
        file, opened = self._open[step.slot]
        both = await self._both(str(step), lambda: ours(file), lambda: model(opened))
        if both is not None and both[0] != both[1]:
            raise Wrong(f"{step}: {short(both[0])} instead of {short(both[1])}")

    async def _do_write(self, step: Step) -> None:
        data = content_of(step)
        if data:
            await self._on_slot(
                step,
                lambda file: self._kernel().write(file, step.offset, data),
                lambda opened: self._model.write(opened, step.offset, data),
            )

    async def _do_read(self, step: Step) -> None:
        await self._on_slot(
            step,
            lambda file: self._kernel().read(file, step.offset, READ_BYTES),
            lambda opened: self._model.read(opened, step.offset, READ_BYTES),
        )

    async def _do_ftruncate(self, step: Step) -> None:
        await self._on_slot(
            step,
            lambda file: self._kernel().ftruncate(file, step.size),
            lambda opened: self._model.ftruncate(opened, step.size),
        )

    async def _do_fsync(self, step: Step) -> None:
        if step.slot in self._open:
            await self._on_slot(step, lambda file: self._kernel().fsync(file), self._model.fsync)
            self._note_past()
            self._past.fsynced()

    async def _do_flush(self, step: Step) -> None:
        await self._on_slot(step, lambda file: self._kernel().flush(file), self._model.flush)

    async def _do_close(self, step: Step) -> None:
        await self._on_slot(step, lambda file: self._kernel().close(file), self._model.flush)
        self._open.pop(step.slot, None)

    async def _do_flock(self, step: Step) -> None:
        """A lock is a check-out as well, which the network may keep from being made.

        Nobody is there to let go of what another open file here has locked: it is not waited for.
        """
        if step.slot not in self._open:
            return
        file, opened = self._open[step.slot]
        lock = step.flags.partition(" ")[0].replace("unlock", "")
        try:
            self._model.flock(opened, lock, (other for _, other in self._open.values()))
            wanted_error = 0
        except OSError as error:
            wanted_error = error.errno or 0
        try:
            operation = FLOCKS[step.flags] | (fcntl.LOCK_NB if wanted_error else 0)
            await self._kernel().flock(file, operation)
            got_error = 0
        except OSError as error:
            got_error, opened.lock = error.errno or 0, ""
        is_excused = got_error and (self._world.network.is_troubled or self._world.now.is_dead)
        if got_error != wanted_error and not is_excused:
            raise Wrong(f"{step}: {named(got_error)} instead of {named(wanted_error)}")

    # Paths

    async def _do_cat(self, step: Step) -> None:
        """Read a whole file by its name."""

        async def ours() -> bytes:
            file = await self._kernel().open(step.path, os.O_RDONLY)
            try:
                return await self._kernel().read(file, 0, READ_BYTES)
            finally:
                await self._kernel().close(file)

        def model() -> bytes:
            return self._model.read(self._model.open(step.path, os.O_RDONLY), 0, READ_BYTES)

        both = await self._both(str(step), ours, model)
        if both is not None and both[0] != both[1]:
            raise Wrong(f"{step}: {short(both[0])} instead of {short(both[1])}")

    async def _do_list(self, step: Step) -> None:
        async def ours() -> set[str]:
            return set(await self._kernel().listing(step.path))

        both = await self._both(str(step), ours, lambda: self._model.listing(step.path))
        if both is not None and both[0] != both[1]:
            raise Wrong(f"{step}: {sorted(both[0])} instead of {sorted(both[1])}")

    async def _do_truncate(self, step: Step) -> None:
        await self._both(
            str(step),
            lambda: self._kernel().truncate(step.path, step.size),
            lambda: self._model.truncate(step.path, step.size, is_written=self._is_written(step.path)),
        )

    def _is_written(self, path: str) -> bool:
        with suppress(OSError):
            file = self._model.find(path)
            return any(opened.writes and opened.file is file for _, opened in self._open.values())
        return False

    async def _do_utime(self, step: Step) -> None:
        mtime_ns = (1_500_000_000 + step.number) * 10**9 + 123_456_789
        await self._both(
            str(step),
            lambda: self._kernel().utime(step.path, mtime_ns),
            lambda: self._model.utime(step.path, mtime_ns),
        )

    async def _do_mkdir(self, step: Step) -> None:
        await self._both(
            str(step), lambda: self._kernel().mkdir(step.path), lambda: self._model.mkdir(step.path)
        )

    async def _do_unlink(self, step: Step) -> None:
        await self._both(
            str(step), lambda: self._kernel().unlink(step.path), lambda: self._model.unlink(step.path)
        )
        self.identities.left(step.path)

    async def _do_rmdir(self, step: Step) -> None:
        await self._both(
            str(step), lambda: self._kernel().rmdir(step.path), lambda: self._model.rmdir(step.path)
        )

    def _is_file(self, path: str) -> bool:
        try:
            return isinstance(self._model.find(path), File)
        except OSError:
            return False

    async def _do_rename(self, step: Step) -> None:
        """What is in Procore may not move everywhere. It may get there while the kernel still looks the names up."""
        flags = RENAME_FLAGS.get(step.flags, 0)
        replaced, moved = self._is_file(step.to), self._is_file(step.path)
        documents = await self._with_documents(step.path, step.to)

        async def ours() -> None:
            nonlocal documents
            try:
                await self._kernel().rename(step.path, step.to, flags)
            except OSError:
                documents = await self._with_documents(step.path, step.to)
                raise

        both = await self._both(
            str(step), ours, lambda: self._model.rename(step.path, step.to, flags, documents)
        )
        if both is not None and step.path != step.to:
            is_plain = not flags & RENAME_EXCHANGE
            self.identities.renamed(step.path, step.to, replaces_file=is_plain and replaced and moved)

    async def _with_documents(self, *paths: str) -> set[str]:
        """Those at or below which the mount has, or may have, something in Procore."""
        if not any(stays_for_ever(path, encodes=False) for path in paths):
            return set()
        view, found = self._world.parts.project.view, set()
        for shown, attributes in (await self._kernel().walk()).items():
            for path in paths:
                if f"{shown}/".startswith(f"{path}/") and has_document(view, Inode(attributes.inode)):
                    found.add(path)
        return found

    async def _do_rmtree(self, step: Step) -> None:
        """As rm -r."""
        try:
            found = self._model.find(step.path)
        except OSError:
            return
        if isinstance(found, Folder):
            for name in sorted(found.children):
                await self._do_rmtree(Step(step.number, "rmtree", f"{step.path}/{name}"))
            await self._do_rmdir(step)
        else:
            await self._do_unlink(step)


def has_document(view: View, inode: Inode) -> bool:
    """Whether Procore has it, or a call that is open may have made it."""
    change, node = view.change(inode), view.by_inode(inode)
    if node is None:
        return False
    known = node.document_id if change is None else change.document
    return known is not None or view.location_in_procore(node) is not None


def _sizes(walked: dict[str, Attributes]) -> dict[str, int]:
    return {path: -1 if attributes.is_folder else attributes.size for path, attributes in walked.items()}


def sizes_of(model: Model) -> dict[str, int]:
    """Paths with their sizes; folders have none."""
    return {path: -1 if isinstance(entry, Folder) else len(entry.content) for path, entry in model.all()}
