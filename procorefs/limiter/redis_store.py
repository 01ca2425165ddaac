"""Keeps a budget in Redis, shared by hosts and users, and connects to it.

The record is changed by one atomic script: it puts the new record in place when nobody else changed it since it was
read, else it returns what is there now, and the step runs again on that. So the arithmetic is the same as everywhere,
and of several at a time one always gets through. The clock is Redis's own.
"""

import hashlib
import logging
import math
import random
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec
import trio

from procorefs.limiter.budget_state import State, begin_again, decode, encode
from procorefs.limiter.budget_store import Step, StoreAway, T

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

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


PORT = 6379
ANSWER_S = 5.0
"""A thread does not wait longer, whatever becomes of its caller."""

Reply = bytes | int | list["Reply"] | None


class RedisError(Exception):
    """Redis refused a command, or what answers is not Redis."""


class RedisAddress(msgspec.Struct, frozen=True):
    """Where a Redis is; the password is in no repr."""

    host: str = ""
    port: int = PORT
    path: str = ""
    """Of a Unix socket; then host and port mean nothing."""
    tls: bool = False
    user: str = ""
    password: str = ""
    database: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"RedisAddress({self})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("at", str(self))]


def parse_address(url: str) -> RedisAddress:
    """`redis://[user:password@]host[:port][/database]`, `rediss://…` (TLS), `unix:///path[?db=0]`.

    Raises ValueError, with what is wrong.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is not an address") from None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix" and parts.path:
        database = _database(parse_qs(parts.query).get("db", ["0"])[0])
        return RedisAddress(path=unquote(parts.path), user=user, password=password, database=database)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError(
            "an address looks like redis://host:6379/0, rediss://host/0 or unix:///path/to/socket"
        )
    return RedisAddress(
        host=parts.hostname,
        port=port or PORT,
        tls=parts.scheme == "rediss",
        user=user,
        password=password,
        database=_database(parts.path.strip("/") or "0"),
    )


def with_password(url: str, password: str) -> str:
    """The address with a password that comes from elsewhere: one in `-o` would stand in the list of processes."""
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}").geturl()


def _database(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("the database is a number")
    return int(text)


class Connection:
    """An open connection; after any exception but RedisError it must be closed."""

    def __init__(self, connection: "AbstractConnection") -> None:
        self._connection = connection

    async def command(self, *words: bytes | str | int) -> Reply:
        """Send one command and return its reply, undecoded. Raises as `connect`."""
        reply: Reply = await _in_thread(self._exchange, words)
        return reply

    async def aclose(self) -> None:
        await _in_thread(self._connection.disconnect)

    def _exchange(self, words: tuple[bytes | str | int, ...]) -> Any:  # noqa: ANN401 - whatever the reply is
        connection: Any = self._connection  # the package types little of it
        connection.send_command(*words)
        return connection.read_response()


async def connect(address: RedisAddress, answer_s: float = ANSWER_S) -> Connection:
    """A connection that has logged in, for commands that are answered in that time.

    The time is taken where the answer is waited for, in the thread: a process that gets no processor for a while finds
    the answer there, however late. Raises RedisError, trio.BrokenResourceError, TimeoutError.
    """
    connection = _connection(address, answer_s)
    try:
        await _in_thread(connection.connect)
    except BaseException:
        with trio.CancelScope(shield=True):
            await _in_thread(connection.disconnect)
        raise
    return Connection(connection)


def _connection(address: RedisAddress, answer_s: float) -> "AbstractConnection":
    from redis.backoff import NoBackoff  # here: it takes its time to import, and few need it
    from redis.connection import Connection as TcpConnection
    from redis.connection import SSLConnection, UnixDomainSocketConnection
    from redis.retry import Retry

    common: dict[str, Any] = {
        "db": address.database,
        "username": address.user or None,
        "password": address.password or None,
        "socket_timeout": answer_s,
        "retry": Retry(NoBackoff(), 0),  # when to try again is the store's to say
    }
    if address.path:
        local: Any = UnixDomainSocketConnection
        found: AbstractConnection = local(path=address.path, **common)
        return found
    kind = SSLConnection if address.tls else TcpConnection
    return kind(host=address.host, port=address.port, socket_connect_timeout=answer_s, **common)


async def _in_thread(call: Any, *arguments: Any) -> Any:  # noqa: ANN401 - the package types it loosely
    """Run a blocking call of the redis package; its exceptions become ours."""
    from redis import exceptions

    try:
        return await trio.to_thread.run_sync(partial(call, *arguments), abandon_on_cancel=True)
    except exceptions.NoScriptError as error:
        raise RedisError(f"NOSCRIPT {error}") from error
    except (exceptions.ResponseError, exceptions.AuthenticationError) as error:
        raise RedisError(str(error)) from error
    except exceptions.TimeoutError as error:
        raise TimeoutError("it says nothing") from error
    except exceptions.RedisError as error:
        raise trio.BrokenResourceError(str(error)) from error


class RedisStore:
    """One budget in one Redis."""

    shared_by = "redis"

    def __init__(self, address: RedisAddress, key: str) -> None:
        self._address = address
        self._key = f"procorefs:budget:{key}"
        self._connection: Connection | None = None
        self._using = trio.Lock()
        self._known = State()
        self._ahead_s = 0.0  # Redis's clock, of trio's
        self._known_s = -math.inf
        self._said_other = False

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
                state = self._begin_again(record)
            result = step(state, now_s)
            changed = encode(state)
            swapped, number, record, now_s = await self._swap(number, changed)
            if swapped:
                self._known, self._known_s = state, trio.current_time()
                self._ahead_s = now_s - self._known_s
                return result
            await trio.sleep(random.uniform(0, 0.002))

    def _begin_again(self, record: bytes) -> State:
        state = begin_again(record)
        if record and not self._said_other:
            self._said_other = True
            kept = f"its {state.limit:,} calls per hour are kept" if state.told else "it begins again"
            log.warning("Redis at %s holds the call budget of another version: %s", self._address, kept)
        return state

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
