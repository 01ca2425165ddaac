"""One connection to Redis, one command at a time: the redis package in threads, since it does not know trio."""

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec
import trio

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

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
