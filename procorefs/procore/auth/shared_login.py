"""Shares one login between hosts through Redis: its refresh token works once, so one host at a time renews it.

Hosts share a login when the stored login of one was copied to the other: both go back to the same authorization. The
lock and the newest token are in the Redis that the hosts share. A host that gets the lock first takes the token that
another host stored, and stores its own before it releases the lock. The token is sealed with the client secret, which
all these hosts have and Redis does not. The lock of a host that dies expires; a token that it could not store is on its
own disk, and goes to Redis with its next renewal.
"""

import base64
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec
import trio

from procorefs.limiter.redis_store import Connection, RedisError, connect, parse_address
from procorefs.procore.auth.tokens import Token, TokenStore, lineage_of
from procorefs.procore.errors import Unavailable

log = logging.getLogger(__name__)

HELD_MS = 15_000
"""The lock of a holder that is gone ends after this time."""

RENEW_LOCK_S = 4.0
LOOK_S = 0.1
"""At a lock that another host holds."""

ANSWER_S = 3.0
"""Redis is away when it takes longer."""

KEPT_MS = 90 * 86_400_000

# Both only when the lock is still ours. KEYS: the lock. ARGV: our name, how long.
EXTEND = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2])"
RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"
# KEYS: the lock, the token. ARGV: our name, the sealed token, how long it is kept. A lost lock means a newer token.
PUBLISH = """
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
"""


class SharedLogin:
    """A TokenStore that keeps tokens in `store` and shares them, and the right to renew, through Redis."""

    def __init__(self, store: TokenStore, url: str, client_secret: str) -> None:
        self._store = store
        self._address = parse_address(url)
        self._seal = Seal(client_secret)

    def load(self) -> Token | None:
        return self._store.load()

    def save(self, token: Token) -> None:
        self._store.save(token)

    def check_writable(self) -> None:
        self._store.check_writable()

    def delete(self) -> None:
        self._store.delete()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """No other task, process or host renews this token. Raises Unavailable when Redis does not answer.

        Going on without the lock could spend the refresh token twice, which ends the login of every host.
        """
        async with self._store.locked():
            own = await trio.to_thread.run_sync(self._store.load)
            if own is None or own.refresh_token is None:
                yield  # nothing that could be spent
                return
            redis = await self._connected()
            turn = _Turn(redis, lineage_of(own))
            try:
                with self._noticing():
                    await turn.take()
                    shared = await self._take_over(turn, own)
                async with self._holding(turn, shared):
                    yield
            finally:
                with trio.CancelScope(shield=True):
                    await redis.aclose()

    @asynccontextmanager
    async def _holding(self, turn: "_Turn", shared: Token | None) -> AsyncIterator[None]:
        """Keep the lock; at the end let the other hosts have what came of it."""
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_lock, turn)
            try:
                yield
            except trio.Cancelled:
                raise
            except BaseException as error:
                failure = error  # raised below: a nursery would put it into a group
            finally:
                with trio.move_on_after(ANSWER_S, shield=True):
                    await self._publish(turn, shared)
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RedisError, trio.BrokenResourceError, ValueError) as error:
            raise self._away(str(error)) from error

    async def _connected(self) -> Connection:
        with trio.move_on_after(ANSWER_S), self._noticing():
            return await connect(self._address)
        raise self._away("no answer")

    async def _take_over(self, turn: "_Turn", own: Token) -> Token | None:
        """What the hosts share, also put on this one's disk when it is newer than what is there."""
        sealed = await turn.redis.command("GET", turn.token_key)
        shared = self._seal.opened(sealed) if isinstance(sealed, bytes) else None
        if shared is not None and shared.renewals > own.renewals:
            await trio.to_thread.run_sync(self._store.save, shared)
        return shared

    async def _publish(self, turn: "_Turn", shared: Token | None) -> None:
        try:
            own = await trio.to_thread.run_sync(self._store.load)
            if own is None:
                await turn.redis.command("DEL", turn.token_key)
            elif lineage_of(own) == turn.lineage and (shared is None or own.renewals > shared.renewals):
                keys = (2, turn.lock_key, turn.token_key)
                await turn.redis.command("EVAL", PUBLISH, *keys, turn.name, self._seal.sealed(own), KEPT_MS)
            await turn.redis.command("EVAL", RELEASE, 1, turn.lock_key, turn.name)
        except (OSError, RedisError, trio.BrokenResourceError) as error:
            log.warning("the new login could not be given to the other hosts (%s)", error)

    async def _keep_lock(self, turn: "_Turn") -> None:
        """Hold the lock for as long as the renewal takes, on a connection of its own."""
        while True:
            await trio.sleep(RENEW_LOCK_S)
            try:
                redis = await self._connected()
                try:
                    await redis.command("EVAL", EXTEND, 1, turn.lock_key, turn.name, HELD_MS)
                finally:
                    await redis.aclose()
            except (Unavailable, OSError, RedisError, trio.BrokenResourceError):
                log.warning("the lock of the login could not be kept in Redis")

    def _away(self, reason: str) -> Unavailable:
        return Unavailable(
            f"Could not renew the login: Redis at {self._address}, through which hosts share it, does not answer "
            f"({reason})"
        )


class _Turn:
    """The lock of one login, held under a name that nobody else has."""

    def __init__(self, redis: Connection, lineage: str) -> None:
        self.redis = redis
        self.lineage = lineage
        self.name = secrets.token_hex(16)
        self.lock_key = f"procorefs:login:{lineage}:lock"
        self.token_key = f"procorefs:login:{lineage}:token"

    async def take(self) -> None:
        """Wait until no other host has it."""
        while True:
            if await self.redis.command("SET", self.lock_key, self.name, "NX", "PX", HELD_MS) is not None:
                return
            await trio.sleep(LOOK_S)


class Seal:
    """Encrypts and authenticates (Fernet) with a key made from the client secret."""

    def __init__(self, client_secret: str) -> None:
        from cryptography.fernet import Fernet  # here: it takes its time to import, and few need it

        key = hmac.digest(client_secret.encode(), b"procorefs login: seal", "sha256")
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def sealed(self, token: Token) -> bytes:
        return self._fernet.encrypt(msgspec.json.encode(token))

    def opened(self, sealed: bytes) -> Token | None:
        """None when it was not sealed with the same secret."""
        from cryptography.fernet import InvalidToken

        try:
            return msgspec.json.decode(self._fernet.decrypt(sealed), type=Token)
        except InvalidToken:
            log.warning("the login in Redis was made with another client secret and is not used")
            return None
