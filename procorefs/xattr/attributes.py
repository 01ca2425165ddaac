"""Gets, lists, sets and removes extended attributes for the kernel's requests.

    user.procore.*, user.xdg.tags, user.xdg.comment ─▶ handlers.py ─▶ a change that is journaled and uploaded
    every other user.*                              ─▶ foreign_xattrs.py: kept on this machine

A request that sets or removes an attribute of a folder holds the kernel's lock on it, and every lookup in that folder
waits for the request. So such a request waits for Procore two seconds at most. One about a file holds up who writes the
file, and waits half a minute at most.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from procorefs.tree.nodes import Inode
from procorefs.vfs.refusals import NotPermitted
from procorefs.xattr import value_texts
from procorefs.xattr.attribute_names import (
    DESCRIPTION,
    MOUNTER_ONLY,
    TAGS,
    AttributeExists,
    BadValue,
    NoAttribute,
    NoSuchAttribute,
    NotKnownYet,
    NotSettable,
    TooMuch,
    is_ours,
)
from procorefs.xattr.attribute_target import AttributeTarget, Targets
from procorefs.xattr.copy_aliases import CopyAliases
from procorefs.xattr.foreign_xattrs import ForeignXattrs
from procorefs.xattr.handlers import Attribute, Handlers

FILE_WAITS_S = 30.0
"""So long a change of an attribute of a file waits for Procore, whichever calls it needs. They go on without the
request, and serve the next one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request, and its flags."""

    thread: int
    makes: bool = False
    """XATTR_CREATE: set only if the attribute does not exist."""
    replaces: bool = False
    """XATTR_REPLACE: set only if the attribute exists."""
    is_mounter: bool = True
    """Whether the caller is the user who mounted, or root."""

    def check(self, is_there: bool) -> None:
        """Raises AttributeExists, NoAttribute."""
        if self.makes and is_there:
            raise AttributeExists
        if self.replaces and not is_there:
            raise NoAttribute


class Attributes:
    """Raises AttributeRefused, ChangeRefused, ProcoreError, sqlite3.Error."""

    def __init__(self, targets: Targets, handlers: Handlers, foreign: ForeignXattrs) -> None:
        self._targets = targets
        self._handlers = handlers
        self._foreign = foreign
        self._aliases = CopyAliases()

    @staticmethod
    def needs_procore(name: bytes) -> bool:
        """Whether the value comes from Procore."""
        return is_ours(name.decode("utf-8", "surrogateescape"))

    async def names(self, inode: Inode, caller: Caller) -> list[bytes]:
        """The names that `cp --preserve=xattr` and `rsync -X` copy."""
        target = self._targets.find(inode)
        if target is None:
            return []
        for name in (TAGS, DESCRIPTION):
            self._aliases.looked(caller.thread, inode, name)
        found = await self._handlers.names(target)
        return [name.encode() for name in found] + self._foreign.names(target.node)

    async def get(self, inode: Inode, name: bytes, caller: Caller) -> bytes:
        """The value. Raises NoAttribute if it does not exist or is empty."""
        target = self._targets.find(inode)
        text = _user_name(name)
        if target is None:
            raise NoAttribute
        if not is_ours(text):
            value = self._foreign.get(target.node, name)
            if value is None:
                raise NoAttribute
            return value
        if text in MOUNTER_ONLY and not caller.is_mounter:
            raise NotPermitted(f"{text} is for the user who mounted")
        self._aliases.looked(caller.thread, inode, text)
        handler = self._handlers.handler_of(text)
        value = await handler.value(target)
        if not value:
            raise NoAttribute
        return self._as_written(target, handler, name) or value

    def _as_written(self, target: AttributeTarget, handler: Attribute, name: bytes) -> bytes | None:
        """The text as it was set here, while it means the same as the value in Procore."""
        written = self._foreign.get(target.node, name)
        return written if written is not None and handler.means(target, written.decode()) else None

    async def set(self, inode: Inode, name: bytes, value: bytes, caller: Caller) -> None:
        with _about(name, "set"):
            target, text = self._targets.changeable(inode), _user_name(name)
            if is_ours(text):
                handler = self._handlers.handler_of(text)
                await _in_time(target, partial(self._set, target, handler, name, value, caller))
                return
            caller.check(self._foreign.get(target.node, name) is not None)
            _check_writable(target)
            self._foreign.put(target.node, name, value)

    async def _set(
        self, target: AttributeTarget, handler: Attribute, name: bytes, value: bytes, caller: Caller
    ) -> None:
        inode = target.node.inode
        if not handler.is_settable:
            raise NotSettable(f"{handler.name} can only be read")
        if caller.makes or caller.replaces:
            caller.check(await handler.is_there(target))
        wanted = value_texts.decoded(value)
        if self._aliases.is_superseded(caller.thread, inode, handler.name):
            if handler.means(self._targets.changeable(inode), wanted):
                self._keep_text(inode, handler, name, wanted)
            return
        await handler.set(inode, wanted)
        self._keep_text(inode, handler, name, wanted)
        self._aliases.did(caller.thread, inode, handler.name, is_set=True)

    def _keep_text(self, inode: Inode, handler: Attribute, name: bytes, text: str) -> None:
        """Keep the text if it differs from the one that would be shown."""
        target = self._targets.changeable(inode)
        shown = handler.shown(target)
        if shown and shown != text:
            self._foreign.put(target.node, name, text.encode())
        else:
            self._foreign.forget(target.node, name)

    async def remove(self, inode: Inode, name: bytes, caller: Caller) -> None:
        with _about(name, "removed"):
            target, text = self._targets.changeable(inode), _user_name(name)
            if is_ours(text):
                handler = self._handlers.handler_of(text)
                await _in_time(target, partial(self._remove, target, handler, name, caller))
                return
            _check_writable(target)
            self._foreign.remove(target.node, name)

    async def _remove(self, target: AttributeTarget, handler: Attribute, name: bytes, caller: Caller) -> None:
        inode = target.node.inode
        if not handler.is_removable:
            raise NotSettable(f"{handler.name} cannot be removed")
        if self._aliases.is_lacking_in_source(caller.thread, inode, handler.name):
            return
        if not await handler.has_what_to_remove(target):
            if self._aliases.is_removed_with_alias(caller.thread, inode, handler.name):
                return
            raise NoAttribute
        handler.remove(inode)
        self._foreign.forget(target.node, name)
        self._aliases.did(caller.thread, inode, handler.name, is_set=False)


async def _in_time(target: AttributeTarget, change: Callable[[], Awaitable[None]]) -> None:
    """Make a change, or raise NotKnownYet. It awaits only Procore's answers, and alters nothing before the last one: if
    it is cancelled, nothing is altered."""
    if target.node.is_folder:
        await change()  # it counts its shorter waits itself
        return
    with trio.move_on_after(FILE_WAITS_S) as scope:
        await change()
    if scope.cancelled_caught:
        raise NotKnownYet("Procore must be asked first; try again")


@contextmanager
def _about(name: bytes, done: str) -> Iterator[None]:
    """Add the attribute's name to the reason that people see."""
    try:
        yield
    except (BadValue, NotKnownYet, TooMuch) as error:
        raise type(error)(f"{name.decode('utf-8', 'replace')} was not {done}: {error}") from error


def _user_name(name: bytes) -> str:
    """Raises NoSuchAttribute for a name outside of `user.`."""
    text = name.decode("utf-8", "surrogateescape")
    if not text.startswith("user."):
        raise NoSuchAttribute(f"{text!r} is not a user attribute")
    return text


def _check_writable(target: AttributeTarget) -> None:
    if target.node.read_only:
        raise NotPermitted("Procore has it read-only")
