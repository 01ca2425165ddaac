"""A budget in Redis, shared by hosts and users.

The record is changed by one atomic script: it puts the new record in place when nobody else changed it since it was
read, else it returns what is there now, and the step runs again on that. So the arithmetic is the same as everywhere,
and of several at a time one always gets through. The clock is Redis's own.
"""

import hashlib
import logging
import math
import random

import trio

from procorefs.limiter.budget_state import State, decode, encode, fresh
from procorefs.limiter.budget_store import Step, StoreAway, T
from procorefs.limiter.redis_connection import Connection, RedisAddress, RedisError, connect

log = logging.getLogger(__name__)

SILENT_S = 1.5  # without a word Redis is away; of a lost packet it hears again within a second
TIMEOUT_S = 5.0  # for one change, with what holds up ourselves: no processor, other changes of this process
CURRENT_S = 1.0
KEPT_MS = 7 * 86_400_000  # a budget that nobody used for so long is forgotten

# KEYS: the budget. ARGV: the number of the record that was read ("" to read), the new record, how long it is kept.
# Returns: was it put in place, the number of the record that is there now, the record, Redis's time.
SWAP = b"""
local number = redis.call('HGET', KEYS[1], 'number') or '0'
local swapped = 0
if ARGV[1] == number then
  redis.call('HSET', KEYS[1], 'number', string.format('%.0f', number + 1), 'record', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  swapped = 1
end
local time = redis.call('TIME')
return {swapped, number, redis.call('HGET', KEYS[1], 'record') or '', time[1], time[2]}
"""
SWAP_SHA = hashlib.sha1(SWAP, usedforsecurity=False).hexdigest()


class RedisStore:
    """One budget in one Redis."""

    shared_by = "redis"

    def __init__(self, address: RedisAddress, key: str) -> None:
        self._address = address
        self._key = f"procorefs:budget:{key}"
        self._connection: Connection | None = None
        self._using = trio.Lock()
        self._known = fresh()
        self._ahead_s = 0.0  # Redis's clock, of trio's
        self._known_s = -math.inf

    async def change(self, step: Step[T]) -> T:
        with trio.move_on_after(TIMEOUT_S, shield=True):
            async with self._using:
                try:
                    return await self._change(step)
                except (
                    OSError,
                    RedisError,
                    trio.BrokenResourceError,
                    trio.ClosedResourceError,
                    ValueError,
                ) as error:
                    await self._drop()
                    raise StoreAway(f"{type(error).__name__}: {error}") from error
                except trio.Cancelled:
                    await self._drop()  # in the middle of a reply
                    raise
        raise StoreAway(f"no answer in {TIMEOUT_S:.0f} s")

    def change_now(self, step: Step[T]) -> T:  # noqa: ARG002 - there is nothing that could be done at once
        raise StoreAway("Redis must be waited for")

    def peek(self) -> tuple[State, float]:
        return self._known, trio.current_time() + self._ahead_s

    def is_current(self) -> bool:
        return trio.current_time() - self._known_s < CURRENT_S

    async def aclose(self) -> None:
        await self._drop()

    async def _change(self, step: Step[T]) -> T:
        _, number, record, now_s = await self._swap(b"", b"")
        while True:
            state = decode(record) if record else None
            if state is None:
                state = fresh()
            result = step(state, now_s)
            changed = encode(state)
            swapped, number, record, now_s = await self._swap(number, changed)
            if swapped:
                self._known, self._known_s = state, trio.current_time()
                self._ahead_s = now_s - self._known_s
                return result
            await trio.sleep(random.uniform(0, 0.002))

    async def _swap(self, number: bytes, record: bytes) -> tuple[bool, bytes, bytes, float]:
        if self._connection is None:
            self._connection = await connect(self._address, SILENT_S)
        arguments = (1, self._key, number, record, KEPT_MS)
        try:
            reply = await self._connection.command("EVALSHA", SWAP_SHA, *arguments)
        except RedisError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            reply = await self._connection.command("EVAL", SWAP, *arguments)
        match reply:
            case [int(swapped), bytes(found), bytes(kept), bytes(seconds), bytes(microseconds)]:
                return swapped == 1, found, kept, int(seconds) + int(microseconds) / 1e6
        raise RedisError("the script answered something else")

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with trio.CancelScope(shield=True):
                await connection.aclose()
