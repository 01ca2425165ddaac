"""Plays a history's steps on the mount and on the model, and compares after each what a program sees."""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.simulation import scheduler
from tests.simulation.kernel import RENAME_EXCHANGE, RENAME_NOREPLACE, Kernel, OpenFile
from tests.simulation.model import File, Folder, Model, Opened
from tests.simulation.steps import Step, content_of

FLAGS = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "x": os.O_RDWR | os.O_CREAT | os.O_EXCL,
}
RENAME_FLAGS = {"noreplace": RENAME_NOREPLACE, "exchange": RENAME_EXCHANGE}
READ_BYTES = 1 << 17


class Wrong(AssertionError):
    """The product did what it must not."""


class Player:
    """The programs of one history."""

    def __init__(self, seed: int, kernel: Callable[[], Kernel], model: Model) -> None:
        self._seed = seed
        self._kernel = kernel
        self._model = model
        self._open: dict[int, tuple[OpenFile, Opened]] = {}

    async def play(self, step: Step) -> None:
        """Raises Wrong."""
        scheduler.reseed(f"{self._seed}/{step.number}")
        await trio.sleep(step.pause_s)
        await getattr(self, f"_do_{step.op}")(step)
        await self.compare()

    async def compare(self) -> None:
        """What the mount shows now, with what it must show."""
        shown = {
            path: -1 if attributes.is_folder else attributes.size
            for path, attributes in (await self._kernel().walk()).items()
        }
        wanted = {
            path: -1 if isinstance(entry, Folder) else len(entry.content) for path, entry in self._model.all()
        }
        if shown != wanted:
            raise Wrong(f"the mount differs: {differences(shown, wanted)}")

    async def close_all(self) -> None:
        for slot in sorted(self._open):
            await self._do_close(Step(-1, "close", slot=slot))

    async def _both(
        self, what: str, ours: Callable[[], Awaitable[Any]], model: Callable[[], Any]
    ) -> tuple[Any, Any] | None:
        """Do it in both; None when both refused, with the same errno."""
        try:
            wanted, wanted_error = model(), 0
        except OSError as error:
            wanted, wanted_error = None, error.errno or 0
        try:
            got, got_error = await ours(), 0
        except OSError as error:
            got, got_error = None, error.errno or 0
        if got_error != wanted_error:
            raise Wrong(f"{what}: {named(got_error)} instead of {named(wanted_error)}")
        return None if got_error else (got, wanted)

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
        await self._on_slot(step, lambda file: self._kernel().fsync(file), lambda _: None)

    async def _do_flush(self, step: Step) -> None:
        await self._on_slot(step, lambda file: self._kernel().flush(file), lambda _: None)

    async def _do_close(self, step: Step) -> None:
        await self._on_slot(step, lambda file: self._kernel().close(file), lambda _: None)
        self._open.pop(step.slot, None)

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
            lambda: self._model.truncate(step.path, step.size),
        )

    async def _do_mkdir(self, step: Step) -> None:
        await self._both(
            str(step), lambda: self._kernel().mkdir(step.path), lambda: self._model.mkdir(step.path)
        )

    async def _do_unlink(self, step: Step) -> None:
        await self._both(
            str(step), lambda: self._kernel().unlink(step.path), lambda: self._model.unlink(step.path)
        )

    async def _do_rmdir(self, step: Step) -> None:
        await self._both(
            str(step), lambda: self._kernel().rmdir(step.path), lambda: self._model.rmdir(step.path)
        )

    async def _do_rename(self, step: Step) -> None:
        flags = RENAME_FLAGS.get(step.flags, 0)
        await self._both(
            str(step),
            lambda: self._kernel().rename(step.path, step.to, flags),
            lambda: self._model.rename(step.path, step.to, flags),
        )

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


def named(number: int) -> str:
    return errno.errorcode.get(number, "done")


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 120 else f"{text[:80]}… ({len(value)})"


def differences(got: dict[str, Any], wanted: dict[str, Any]) -> str:
    """In a few words."""
    told = [f"{path} is missing" for path in wanted if path not in got]
    told += [f"{path} is there ({got[path]})" for path in got if path not in wanted]
    told += [
        f"{path} is {short(got[path])} instead of {short(wanted[path])}"
        for path in got
        if path in wanted and got[path] != wanted[path]
    ]
    return "; ".join(told)


__all__ = ["File", "Player", "Wrong", "differences", "named"]
