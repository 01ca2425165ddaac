"""A small filesystem whose reads the bridge may answer, run as a child: granting_filesystem.py MOUNTPOINT FOLDER

The files `a` (inode 2) and `b` (inode 3) show the same bytes, which another task replaces whenever it gets a turn: each
word of eight bytes is GENERATION << 32 | NUMBER OF THE WORD. Some reads of `b` wait for a turn of the other tasks. Says
`ready` at the start, and `granted N of M` at the end, when it is unmounted.
"""

# ruff: noqa: ARG002  (the signatures are pyfuse3's)

import errno
import os
import stat
import struct
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import trio

from procorefs.kernel.bridge.native import Bridge, pyfuse3
from procorefs.kernel.bridge.request_polling import poll_requests

A, B = 2, 3
WORDS = 5000
SIZE_BYTES = 8 * WORDS
TURN_S = 0.01
KEPT = 64
"""So many older files stay open, so that a grant that is too old reads old bytes."""


class Filesystem(pyfuse3.Operations):
    def __init__(self, bridge: Bridge, folder: Path) -> None:
        """`folder`: on a disk, because memory has no reads that do not wait (RWF_NOWAIT)."""
        super().__init__()
        self.bridge = bridge
        self.folder = folder
        self.generation = 0
        self.asked = 0
        self.files: deque[int] = deque()
        self.replace()

    def replace(self) -> None:
        self.generation += 1
        words = [self.generation << 32 | number for number in range(WORDS)]
        file, path = tempfile.mkstemp(prefix="generation-", dir=self.folder)
        os.unlink(path)
        os.write(file, struct.pack(f"<{WORDS}Q", *words))
        self.files.append(file)
        if len(self.files) > KEPT:
            os.close(self.files.popleft())

    async def replace_for_ever(self) -> None:
        """In each turn of this task; between two of them the bridge has the time to answer reads."""
        while True:
            self.replace()
            await trio.sleep(TURN_S)

    async def getattr(self, inode: int, ctx: Any) -> Any:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.entry_timeout = entry.attr_timeout = 60
        entry.st_mode = stat.S_IFDIR | 0o755 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o444
        entry.st_size = SIZE_BYTES
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> Any:
        if name not in (b"a", b"b"):
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(A if name == b"a" else B, ctx)

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        self.asked += 1
        if fh == B and self.asked % 7 == 0:
            await trio.lowlevel.checkpoint()
            return self.bytes_now(off, size)
        self.bridge.grant_read(fh, self.files[-1], SIZE_BYTES)
        return self.bytes_now(off, size)

    def bytes_now(self, offset: int, size_bytes: int) -> bytes:
        return os.pread(self.files[-1], size_bytes, offset)


async def serve(filesystem: Filesystem) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filesystem.replace_for_ever)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


def main(mountpoint: str, folder: Path) -> None:
    bridge = Bridge()
    filesystem = Filesystem(bridge, folder)
    poll_requests(bridge)
    pyfuse3.init(filesystem, mountpoint, {"fsname=granting"})
    bridge.check()
    print("ready", flush=True)
    trio.run(serve, filesystem)
    pyfuse3.close(unmount=False)
    print("granted", bridge.granted_reads(), "of", bridge.granted_reads() + filesystem.asked)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
