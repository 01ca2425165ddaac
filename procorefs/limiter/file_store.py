"""A budget in a file, shared by all processes of one user; no process serves it, and any may die at any moment.

The file has two places for the record. A change is made under flock, and always written into the older place with
the next number and a checksum: a writer that dies leaves the other place whole, and the kernel lets go of its lock.
Nothing is synced: after a power cut the windows are over, or the next answers tell them.

Times are those of CLOCK_BOOTTIME, which all processes share and nobody sets; the boot's id tells a later boot.
"""

import fcntl
import logging
import os
import socket
import struct
import zlib
from pathlib import Path

import trio

from procorefs.limiter.budget_state import State, begin_again, decode, encode
from procorefs.limiter.budget_store import Step, StoreAway, T
from procorefs.limiter.policy import drop_owner
from procorefs.storage import clocks, processes
from procorefs.storage.private_files import open_lock_file

log = logging.getLogger(__name__)

PLACE_BYTES = 32768  # the record with as many calls as tuning.py allows has some 18,000
HEADER = struct.Struct("<8sQd16sII")  # magic, number, Unix time, boot, length, checksum of record and header
MAGIC = b"pfsbudg1"
FIRST_LOOK_S = 0.001  # at a lock that another process holds, usually for some 0.1 ms
LONGEST_LOOK_S = 0.02
PATIENCE_S = 1.0  # a holder that was stopped in the middle: the store counts as away
REAP_S = 1.0  # how often those who wait look whether other processes are alive


class FileStore:
    """One budget in one file. Raises OSError when the file cannot be made."""

    shared_by = "user"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_lock_file(path)
        self._boot = bytes.fromhex(processes.boot_id().replace("-", "")) or bytes(16)
        self._host = socket.gethostname() + "/"
        self._reaped_s = 0.0
        if os.fstat(self._file).st_size < 2 * PLACE_BYTES:
            os.posix_fallocate(self._file, 0, 2 * PLACE_BYTES)  # so that a full disk cannot stop a change

    def close(self) -> None:
        os.close(self._file)

    async def change(self, step: Step[T]) -> T:
        deadline_s = trio.current_time() + PATIENCE_S
        pause_s = FIRST_LOOK_S
        while True:
            try:
                return self.change_now(step)
            except StoreAway:
                if trio.current_time() >= deadline_s:
                    raise
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_LOOK_S)

    def change_now(self, step: Step[T]) -> T:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # held by another process, or a filesystem without locks
            raise StoreAway(str(error)) from error
        try:
            number, state = self._read()
            if number == 0 and any(self._record(place) for place in (0, PLACE_BYTES)):
                log.info("%s is of another version: the call budget begins again", self._path.name)
            now_s = clocks.boot_s()
            self._reap(state, now_s)
            result = step(state, now_s)
            self._write(number + 1, encode(state))
        except OSError as error:
            raise StoreAway(str(error)) from error
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return result

    def peek(self) -> tuple[State, float]:
        # without the lock: a place that is being written is not taken, the other one is a moment older
        return self._read()[1], clocks.boot_s()

    def is_current(self) -> bool:
        return True

    def _read(self) -> tuple[int, State]:
        """The newest whole record and its number; a fresh one when there is none."""
        places = [self._record(0), self._record(PLACE_BYTES)]
        found = sorted(filter(None, places), reverse=True)
        for number, unix_s, boot, record in found:
            state = decode(record)
            if state is not None:
                if boot != self._boot:
                    _after_boot(state, unix_s)
                return number, state
        return 0, begin_again(found[0][3]) if found else State()

    def _record(self, offset: int) -> tuple[int, float, bytes, bytes] | None:
        head = os.pread(self._file, HEADER.size + 2048, offset)
        if len(head) < HEADER.size:
            return None
        magic, number, unix_s, boot, length, checksum = HEADER.unpack_from(head)
        if magic != MAGIC or length > PLACE_BYTES - HEADER.size:
            return None
        record = head[HEADER.size : HEADER.size + length]
        if len(record) < length:
            record += os.pread(self._file, length - len(record), offset + len(head))
        if zlib.crc32(record, number & 0xFFFFFFFF) != checksum:
            return None
        return number, unix_s, boot, record

    def _write(self, number: int, record: bytes) -> None:
        if len(record) > PLACE_BYTES - HEADER.size:
            raise OSError("the record of the call budget has grown too large")
        checksum = zlib.crc32(record, number & 0xFFFFFFFF)
        head = HEADER.pack(MAGIC, number, clocks.wall_s(), self._boot, len(record), checksum)
        os.pwrite(self._file, head + record, (number % 2) * PLACE_BYTES)

    def _reap(self, state: State, now_s: float) -> None:
        """Take back what processes hold that do not run any more. The lock is held."""
        if not state.permits or now_s - self._reaped_s < REAP_S:
            return
        self._reaped_s = now_s
        for owner in {permit.owner for permit in state.permits} | {waiter.owner for waiter in state.waiters}:
            if owner.startswith(self._host):
                pid, _, began = owner.removeprefix(self._host).partition("/")
                if not pid.isdecimal() or processes.start_ticks(int(pid)) != began:
                    drop_owner(state, owner, now_s)


def _after_boot(state: State, unix_s: float) -> None:
    """Carry a record of an earlier boot over: its processes are gone, its windows may still run."""
    away_s = max(clocks.wall_s() - unix_s, 0.0)
    state.permits, state.waiters = [], []
    state.shift(clocks.boot_s() - away_s - state.clock_s)
