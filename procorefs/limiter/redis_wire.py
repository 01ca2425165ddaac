"""Just enough of Redis's protocol (RESP2) for the shared budget: one connection, one command at a time, on trio."""

import ssl
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import trio

PORT = 6379
LARGEST_REPLY_BYTES = 1 << 20

Reply = bytes | int | list["Reply"] | None


class RedisError(Exception):
    """Redis refused a command, or what answers is not Redis."""


class RedisAddress(msgspec.Struct, frozen=True):
    """Where a Redis is; the password is in no repr."""

    host: str = ""
    port: int = PORT
    #: of a Unix socket; then host and port mean nothing
    path: str = ""
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


def _database(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("the database is a number")
    return int(text)


class Connection:
    """An open connection; after any exception but RedisError it must be closed."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def command(self, *words: bytes | str | int) -> Reply:
        """Send one command and return its reply. Raises RedisError, OSError, trio.BrokenResourceError."""
        await self._stream.send_all(_packed(words))
        return await self._reply()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _reply(self) -> Reply:
        line = await self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode(errors="replace"))
        if kind not in (b":", b"$", b"*"):
            raise trio.BrokenResourceError("what answers is not Redis")
        number = int(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        if kind == b"$":
            return (await self._bytes(number + 2))[:-2]
        return [await self._reply() for _ in range(number)]

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            await self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._receive()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _receive(self) -> None:
        data = await self._stream.receive_some()
        if not data or len(self._buffer) > LARGEST_REPLY_BYTES:
            raise trio.BrokenResourceError("Redis closed the connection")
        self._buffer += data


async def connect(address: RedisAddress) -> Connection:
    """A connection that has logged in. Raises OSError, RedisError, trio.BrokenResourceError."""
    stream: trio.abc.Stream
    if address.path:
        stream = await trio.open_unix_socket(address.path)
    elif address.tls:
        context = ssl.create_default_context()
        stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, ssl_context=context)
    else:
        stream = await trio.open_tcp_stream(address.host, address.port)
    connection = Connection(stream)
    try:
        if address.password:
            user = [address.user] if address.user else []
            await connection.command("AUTH", *user, address.password)
        if address.database:
            await connection.command("SELECT", address.database)
    except BaseException:
        await connection.aclose()
        raise
    return connection


def _packed(words: Sequence[bytes | str | int]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
