"""Plays steps about extended attributes, on the mount and on the model."""

import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simulation.attributes import DESCRIPTION, FIELD, KEYS, TAGS, XDG_TAGS, Value, same, value_of
from tests.simulation.model import Folder, Model
from tests.simulation.steps import Step, content_of
from tests.simulation.words import Wrong, named

if TYPE_CHECKING:
    from tests.simulation.world import World

ATTRIBUTE_STEPS = ("describe", "setxattr", "copyxattr", "removexattr", "getxattr")

Both = Callable[[str, Callable[[], Awaitable[Any]], Callable[[], Any]], Awaitable[tuple[Any, Any] | None]]
"""Do something on the mount and on the model, and compare how it ended."""


class _Wait:
    """A folder's lock is not held for long: whether there is such a custom field may not be known yet."""

    def __init__(self, model: Model, step: Step) -> None:
        self._may_be_late = False
        with suppress(OSError):
            self._may_be_late = step.to == FIELD and isinstance(model.find(step.path), Folder)
        self._is_late = False

    async def of(self, work: Awaitable[None]) -> None:
        try:
            await work
        except OSError as error:
            self._is_late = self._may_be_late and error.errno == errno.ETIMEDOUT
            raise

    def check(self) -> None:
        """Raises OSError when it was late."""
        if self._is_late:
            raise OSError(errno.ETIMEDOUT, "")


class AttributeSteps:
    """For histories in which the model knows what is shown."""

    def __init__(self, world: "World", both: Both) -> None:
        self._world = world
        self._both = both

    async def play(self, step: Step) -> None:
        """Raises Wrong."""
        await getattr(self, f"_do_{step.op}")(step)

    async def _do_describe(self, step: Step) -> None:
        """Set the description that Procore shows."""
        if not self._world.knows_rights():
            return  # Procore refuses later what the mount can't
        text = content_of(step)
        await self._both(
            str(step),
            lambda: self._world.now.kernel.setxattr(step.path, DESCRIPTION, text),
            lambda: self._world.model.describe(step.path, text.decode()),
        )

    def _is_refused(self, name: str) -> bool:
        """Whether a limited account may set nothing of the kind: what Procore has already is no change."""
        return self._world.history.setting.is_limited and KEYS.get(name) in ("tags", "description")

    async def _do_setxattr(self, step: Step) -> None:
        if self._is_refused(step.to):
            return
        wait = _Wait(self._world.model, step)

        async def ours() -> None:
            await wait.of(
                self._world.now.kernel.setxattr(step.path, step.to, step.value.encode(), tid=step.number)
            )

        def model() -> None:
            wait.check()
            self._world.model.setxattr(step.path, step.to, step.value)

        await self._both(str(step), ours, model)

    async def _do_copyxattr(self, step: Step) -> None:
        """As a copy tool: both names of the tags, one after the other. The text of `user.procore.tags` counts."""
        pairs = [(TAGS, step.value), (XDG_TAGS, f"other{step.number}")]
        for name, value in pairs if step.flags == "first" else reversed(pairs):
            if not self._is_refused(name):
                await self._both(
                    str(step),
                    partial(
                        self._world.now.kernel.setxattr, step.path, name, value.encode(), tid=step.number
                    ),
                    partial(self._world.model.setxattr, step.path, TAGS, step.value)
                    if name == TAGS or step.flags == "first"
                    else partial(self._world.model.setxattr, step.path, name, value),
                )

    async def _do_removexattr(self, step: Step) -> None:
        """What the mount has not asked for yet it removes without knowing whether it is there."""
        if self._is_refused(step.to):
            return
        found = True

        wait = _Wait(self._world.model, step)

        async def ours() -> None:
            nonlocal found
            try:
                await wait.of(self._world.now.kernel.removexattr(step.path, step.to, tid=step.number))
            except OSError as error:
                found = error.errno != errno.ENODATA
                raise

        def model() -> None:
            wait.check()
            was_there = self._world.model.removexattr(step.path, step.to)
            if not found and not was_there:
                raise OSError(errno.ENODATA, "")

        await self._both(str(step), ours, model)

    async def _do_getxattr(self, step: Step) -> None:
        name = step.to

        def model() -> Value | None:
            return self._world.model.getxattr(step.path, name)

        async def ours() -> Value | None:
            try:
                shown = value_of(name, (await self._world.now.kernel.getxattr(step.path, name)).decode())
            except OSError as error:
                if error.errno == errno.ENODATA and self._is_unknown(step.path, name):
                    return None
                raise
            return None if self._is_unknown(step.path, name) else shown

        both = await self._both(str(step), ours, model)
        if both is not None and both[1] is not None and not same(*both, KEYS[name]):
            raise Wrong(f"{step}: {both[0]!r} instead of {both[1]!r}")

    def _is_unknown(self, path: str, name: str) -> bool:
        with suppress(OSError):
            return KEYS[name] not in self._world.model.find(path).attributes
        return False

    async def adopt(self, before: Model) -> None:
        """One that was being set is there, or the one before: names and bytes do not tell which."""
        was = {path: entry.attributes for path, entry in before.all()}
        for path, entry in self._world.model.all():
            for key, value in list(entry.attributes.items()):
                old = was.get(path, {}).get(key)
                if value == old:
                    continue
                shown = await self._shown_value(path, key)
                if shown is None:
                    del entry.attributes[key]
                elif old is not None and not any(same(shown, one, key) for one in (value, old)):
                    raise Wrong(f"after a death {key} of {path} is {shown!r}, and not {value!r}")
                elif key == "tracked" and not shown:
                    del entry.attributes[key]  # a new document gets one from Procore that nobody here has set
                else:
                    entry.attributes[key] = shown

    async def _shown_value(self, path: str, key: str) -> Value | None:
        """As the mount shows it; None: the network keeps it from being known."""
        name = next(name for name in KEYS if KEYS[name] == key)
        try:
            return value_of(name, (await self._world.now.kernel.getxattr(path, name)).decode())
        except OSError as error:
            if error.errno == errno.ENODATA:
                return frozenset() if key == "tags" else ""
            if not self._world.network.is_troubled:
                raise Wrong(f"{key} of {path} can't be read: {named(error.errno or 0)}") from None
            return None
