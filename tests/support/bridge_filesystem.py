"""A small filesystem on the bridge, run as a child: says on stdout what the kernel asks, obeys lines on stdin.

    bridge_filesystem.py MOUNTPOINT GUARD_TIMEOUT_S [flock|drop|twice]

Root holds `plain` (inode 2), `slow…` (their lookups wait), `stuck` (inode 4, its reads wait) and, behind lookups,
`n0` … `n9999` (inodes from 100). With `flock` the files are locked by a table here, with `drop` each flock is
forgotten, with `twice` answered twice, else the kernel locks. Every line on stdout is an event; tests wait for them.
"""

# ruff: noqa: ARG002  (the signatures are pyfuse3's)

import errno
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any, cast

import trio

from procorefs.kernel.bridge.connection import Connection, Guard, find_connection
from procorefs.kernel.bridge.interrupts import interruptible
from procorefs.kernel.bridge.native import Bridge, Flock, pyfuse3
from procorefs.kernel.bridge.notifications import Notifier
from procorefs.kernel.errno_table import answer_of
from procorefs.kernel.flocks import Flocks
from procorefs.locks.flock_table import LockOwner, LockTable, Mode
from procorefs.tree.nodes import Inode

PLAIN, STUCK, FIRST_NUMBERED = 2, 4, 100
CONTENT = b"some bytes that the kernel may keep\n"


def say(*words: object) -> None:
    print(*words, flush=True)


class Filesystem(pyfuse3.Operations):
    enable_writeback_cache = True  # the bridge must keep it off all the same

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.bridge = bridge
        self.released = trio.Event()
        self.keeps_listings: bool | None = True  # None: asking raises

    def attributes(self, inode: int) -> Any:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.entry_timeout = entry.attr_timeout = 60
        entry.st_mode = stat.S_IFDIR | 0o755 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o666
        entry.st_size = len(CONTENT)
        return entry

    def keep_listing(self, inode: int) -> bool:
        if self.keeps_listings is None:
            raise LookupError(f"no policy for inode {inode}")
        return self.keeps_listings

    async def getattr(self, inode: int, ctx: Any) -> Any:
        request = self.bridge.take_request()
        if request is None or request.tid != ctx.pid:
            say("wrong request in getattr")
        return self.attributes(inode)

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> Any:
        request = self.bridge.take_request()
        say("lookup", os.fsdecode(name))
        if self.bridge.take_request() is not None:
            say("the request was given twice")
        if name.startswith(b"slow"):
            with interruptible(request):
                await self.released.wait()
                say("answered", os.fsdecode(name))
                raise pyfuse3.FUSEError(errno.ENOENT)
            say("EINTR", os.fsdecode(name))
            raise pyfuse3.FUSEError(errno.EINTR)
        if name.startswith(b"n"):
            return self.attributes(FIRST_NUMBERED + int(name[1:]))
        inode = {b"plain": PLAIN, b"stuck": STUCK}.get(name)
        if inode is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self.attributes(inode)

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        say("readdir", start_id)
        if start_id == 0:
            pyfuse3.readdir_reply(token, b"plain", self.attributes(PLAIN), 1)

    async def releasedir(self, fh: int) -> None:
        pass

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        if fh == STUCK:
            say("read stuck")
            await self.released.wait()
        return CONTENT[off : off + size]

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        say("write", off)
        return len(buf)

    async def flush(self, fh: int) -> None:
        say("flush", fh)

    async def release(self, fh: int) -> None:
        say("release", fh)

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        say("getxattr", os.fsdecode(name))
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)


class Locks:
    """Locks without Procore; `kept` are what nobody has unlocked."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.owners: dict[int, str] = {}

    def name(self, owner: int) -> str:
        """a, b, c … in the order of their first lock."""
        return self.owners.setdefault(owner, chr(ord("a") + len(self.owners)))

    async def lock(
        self, inode: Inode, owner: LockOwner, mode: Mode, *, wait: bool, is_local: bool = False
    ) -> None:
        say("wants", self.name(owner), mode.value, "waits" if wait else "now")
        if wait:
            await self.table.lock(inode, owner, mode)
        else:
            self.table.lock_now(inode, owner, mode)
        say("has", self.name(owner), mode.value)

    def unlock(self, inode: Inode, owner: LockOwner) -> None:
        held = self.table.unlock(inode, owner)
        say("unlocks", self.name(owner), "held" if held else "nothing")


class Orders:
    """The lines of stdin: the first word names the method, the others are its arguments."""

    def __init__(
        self, filesystem: Filesystem, notifier: Notifier, locks: Locks, nursery: trio.Nursery
    ) -> None:
        self.filesystem = filesystem
        self.locks = locks
        self.notifier = notifier
        self.nursery = nursery

    async def obey(self) -> None:
        """Until `stop`; every order runs in a task of its own."""
        async for line in trio.wrap_file(sys.stdin):
            order, *words = line.split()
            if order == "stop":
                return
            self.nursery.start_soon(getattr(self, order), *words)

    async def ping(self) -> None:
        say("pong", self.filesystem.bridge.interrupt_count())

    async def inode(self, inode: str) -> None:
        self.notifier.inode(int(inode))
        await self.notifier.settled(int(inode))
        say("settled", inode)

    async def behind(self, first: str, second: str) -> None:
        """Both in one batch, so that the thread which carries it out meets the first one first."""
        self.notifier.inode(int(first))
        for number in range(100):
            self.notifier.entry(pyfuse3.ROOT_INODE, b"n%d" % number)
        await self.notifier.inode(int(second)).wait()
        say("behind", second)

    async def entry(self, name: str) -> None:
        self.notifier.entry(pyfuse3.ROOT_INODE, os.fsencode(name))
        await self.notifier.inode(PLAIN).wait()
        say("entry forgotten")

    async def many(self, count: str) -> None:
        began_s = time.monotonic()
        for number in range(int(count)):
            self.notifier.entry(pyfuse3.ROOT_INODE, b"n%d" % number)
        asked_s = time.monotonic() - began_s
        await self.notifier.inode(PLAIN).wait()
        say("many", f"{asked_s:.3f}", f"{time.monotonic() - began_s:.3f}")

    async def listing(self) -> None:
        self.notifier.listing(pyfuse3.ROOT_INODE)
        say("listing forgotten")

    async def keep(self, answer: str) -> None:
        self.filesystem.keeps_listings = {"yes": True, "no": False, "broken": None}[answer]
        say("kept", answer)

    async def release(self) -> None:
        self.filesystem.released.set()

    async def locked(self) -> None:
        say("locked", len(self.locks.table))

    async def hang(self) -> None:
        say("hanging")
        time.sleep(60)  # noqa: ASYNC251  (a loop that hangs is the point)


async def serve(
    filesystem: Filesystem, guard: Guard, connection: Connection, locks: Locks, flocks: Flocks
) -> None:
    notifier = Notifier()
    async with trio.open_nursery() as nursery:
        await nursery.start(notifier.run)
        await nursery.start(guard.run)
        await nursery.start(flocks.run)

        async def answer_kernel() -> None:
            await pyfuse3.main(max_tasks=1000)
            say("unmounted")

        nursery.start_soon(answer_kernel)
        say("ready", guard.pid)
        await Orders(filesystem, notifier, locks, nursery).obey()
        connection.abort()  # first: it frees every thread and every handler's caller
        nursery.cancel_scope.cancel()


def drop(_flock: Flock) -> None:
    say("dropped")


def answer_twice(flock: Flock) -> None:
    for number in (-1, 4096, errno.ENOLCK, 0):
        try:
            flock.reply(number)
        except (RuntimeError, ValueError) as error:
            say("refused", number, error)
    say("answered", flock.answered)


def main(mountpoint: Path, guard_timeout_s: float, locking: str) -> None:
    sys.unraisablehook = lambda lost: say("unraisable", lost.exc_value)
    bridge = Bridge()
    filesystem = Filesystem(bridge)
    locks = Locks()
    flocks = Flocks(
        lambda _inode: cast(Any, locks), lambda _inode, error: answer_of(error).errno, os.getuid()
    )
    if locking:
        handlers = {"flock": flocks.asked, "drop": drop, "twice": answer_twice}
        bridge.set_flock_handler(handlers[locking], flocks.closed)
    pyfuse3.init(filesystem, str(mountpoint), {"fsname=bridge", "default_permissions"})
    bridge.check()
    bridge.set_opendir_policy(filesystem.keep_listing)
    connection = find_connection(mountpoint)
    with Guard(connection, guard_timeout_s) as guard:
        trio.run(serve, filesystem, guard, connection, locks, flocks)
        pyfuse3.close()
    say("ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), "".join(sys.argv[3:]))
