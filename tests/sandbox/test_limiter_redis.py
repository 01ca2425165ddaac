"""One budget, and one login, for several hosts through a real Redis that stops and starts."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from procorefs.limiter import Priority, open_limiter, redis_store
from procorefs.limiter.gate import Gate
from procorefs.limiter.redis_store import RedisStore, parse_address, with_password
from procorefs.procore.auth.shared_login import Seal
from procorefs.procore.auth.token_store import FileStore
from procorefs.procore.auth.tokens import Token, login_key
from procorefs.procore.errors import Unavailable
from procorefs.procore.settings import Grant
from tests.sandbox.test_client_login import VERIFIER, code_of, logins
from tests.support.api_client import client_of
from tests.support.redis_server import RedisServer, started_redis
from tests.support.sandbox import SandboxHandle

INTERACTIVE, WRITING, REFRESH = Priority
NO_PROCESSOR_S = 0.5
SOON_S = 8.0
"""Bound of every wait for what takes milliseconds on an idle machine, and less than the windows last."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = started_redis(tmp_path)
    yield server
    server.stop()


def told(limit: int, remaining: int, reset_in_s: float) -> dict[str, str]:
    return {
        "x-rate-limit-limit": str(limit),
        "x-rate-limit-remaining": str(remaining),
        "x-rate-limit-reset": str(time.time() + reset_in_s),
    }


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; for what gives no event."""
    with trio.fail_after(SOON_S):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await trio.sleep(0.01)


async def tell(gate: Gate, limit: int, remaining: int, reset_in_s: float) -> None:
    """An answer with these headers; returns when Redis has them."""
    gate.observe(200, told(limit, remaining, reset_in_s))
    await reported(gate)


async def reported(gate: Gate) -> None:
    """Return when the gate's task has brought all that was observed to Redis."""
    await until(lambda: not gate.reports)
    await gate.bring_reports()  # goes after the task's own


async def host(stack: AsyncExitStack, redis: RedisServer, folder: Path, number: int) -> Gate:
    """A gate as on another machine: it shares no state directory with the others."""
    return await stack.enter_async_context(open_limiter(folder / f"host{number}", "key", redis.url))


async def test_hosts_share_what_one_of_them_learnt(redis: RedisServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one = await host(stack, redis, tmp_path, 1)
        other = await host(stack, redis, tmp_path, 2)
        await one.acquire(INTERACTIVE)
        began = trio.current_time()
        await tell(one, 7, 0, 1.0)
        await other.acquire(INTERACTIVE)
        assert 1.5 < trio.current_time() - began < 4
        assert other.snapshot().spike.limit == 7
        assert other.snapshot().shared_by == "redis"


async def test_hosts_together_never_take_more_than_the_limit(redis: RedisServer, tmp_path: Path) -> None:
    """All at once: no two of them get the same call."""
    taken = 0

    async def take(gate: Gate) -> None:
        nonlocal taken
        await gate.acquire(INTERACTIVE)
        taken += 1

    async with AsyncExitStack() as stack:
        gates = [await host(stack, redis, tmp_path, number) for number in range(6)]
        await gates[0].acquire(INTERACTIVE)
        await tell(gates[0], 20, 19, 9)
        async with trio.open_nursery() as nursery:
            for gate in gates * 5:
                nursery.start_soon(take, gate)
            await until(lambda: taken >= 19)
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        assert taken == 19


async def test_a_cancelled_wait_takes_nothing(redis: RedisServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        gate = await host(stack, redis, tmp_path, 1)
        await gate.acquire(INTERACTIVE)
        await tell(gate, 9, 0, 5)
        with trio.move_on_after(0.3) as scope:
            await gate.acquire(INTERACTIVE)
        assert scope.cancelled_caught
        assert gate.snapshot().waiting == 0


async def test_without_redis_a_host_goes_on_with_a_share_and_comes_back(
    redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with AsyncExitStack() as stack:
        one = await host(stack, redis, tmp_path, 1)
        other = await host(stack, redis, tmp_path, 2)
        for gate in (one, other):
            await gate.acquire(INTERACTIVE)
            await tell(gate, 20, 18, 9)
        redis.stop()
        granted = 0

        async def take() -> None:
            nonlocal granted
            while True:
                await one.acquire(INTERACTIVE)
                granted += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await until(lambda: granted >= 5)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert 5 <= granted <= 10  # half of the window, less what was used
        assert one.snapshot().shared_by == "user (redis is away)"
        assert one.snapshot().spike.limit == 20
        assert caplog.text.count("does not answer") == 1
        for _ in range(granted):
            one.observe(200, {})
        redis.start()
        await until(lambda: one.snapshot().shared_by == "redis")
        assert caplog.text.count("answers again") == 1
        await reported(one)
        # The Redis forgot everything; what this host knows and has spent is there again.
        state, _ = RedisProbe(redis).state
        assert state.spike_limit == 20
        assert state.spike_limit - len(state.recent) - state.spike_others <= 18 - granted + 1


async def test_an_emptied_redis_gets_what_was_learnt_before_it_was_away(
    redis: RedisServer, tmp_path: Path
) -> None:
    """Also where no call was answered meanwhile."""
    async with AsyncExitStack() as stack:
        gate = await host(stack, redis, tmp_path, 1)
        await gate.acquire(INTERACTIVE)
        await tell(gate, 20, 18, 9)
        redis.stop()
        await gate.acquire(INTERACTIVE)
        assert gate.snapshot().shared_by == "user (redis is away)"
        redis.start()
        await until(lambda: gate.snapshot().shared_by == "redis")
        state, _ = RedisProbe(redis).state
        assert state.spike_limit == 20


async def test_a_silent_redis_is_away(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_store, "SILENT_S", 0.2)
    async with AsyncExitStack() as stack:
        gate = await host(stack, redis, tmp_path, 1)
        await gate.acquire(INTERACTIVE)
        redis.pause()
        with trio.fail_after(redis_store.TIMEOUT_S / 2):
            await gate.acquire(INTERACTIVE)
        assert gate.snapshot().shared_by == "user (redis is away)"
        assert "says nothing" in caplog.text


async def test_who_gets_no_processor_does_not_take_redis_for_silent(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "SILENT_S", 0.2)
    async with AsyncExitStack() as stack:
        gate = await host(stack, redis, tmp_path, 1)
        await gate.acquire(INTERACTIVE)
        redis.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.acquire, INTERACTIVE)
            await trio.testing.wait_all_tasks_blocked()
            redis.resume()
            time.sleep(NO_PROCESSOR_S)  # noqa: ASYNC251 - nothing of ours runs
        assert gate.snapshot().shared_by == "redis"


class RedisProbe:
    """Looks at the budget in Redis as another host would."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis

    @property
    def state(self) -> Any:
        async def look() -> Any:
            store = RedisStore(parse_address(self._redis.url), "key")
            await store.change(lambda _state, _now_s: None)
            found = store.peek()
            await store.aclose()
            return found

        return _in_thread(look)


def _in_thread(look: Any) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(trio.run, look).result()


async def test_a_redis_that_is_not_there_is_no_obstacle(tmp_path: Path) -> None:
    began = trio.current_time()
    async with open_limiter(tmp_path, "key", f"unix://{tmp_path}/none") as gate:
        await gate.acquire(INTERACTIVE)
        gate.observe(200, {})
    assert trio.current_time() - began < 2


@pytest.mark.parametrize(
    "url", ["redis://", "http://host", "redis://host/x", "redis://host:99999", "host:6379"]
)
def test_a_wrong_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(url)


@pytest.mark.parametrize(
    "url", ["redis://host:7/2", "redis://somebody@host:7/2", "rediss://[::1]/2", "unix:///run/r?db=2"]
)
def test_a_password_from_elsewhere_joins_an_address(url: str) -> None:
    plain, joined = parse_address(url), parse_address(with_password(url, "p@ss:/?#"))
    assert joined.password == "p@ss:/?#"
    assert msgspec.structs.replace(joined, password="") == plain


def test_the_password_of_an_address_is_never_shown() -> None:
    address = parse_address("rediss://me:s3cr3t%21@example.org:7000/2")
    assert (address.host, address.port, address.password, address.tls) == (
        "example.org",
        7000,
        "s3cr3t!",
        True,
    )
    assert "s3cr3t" not in f"{address!r} {address} {address.__rich_repr__()}"


PERSON: dict[str, Any] = {"grant": Grant.AUTHORIZATION_CODE}


def files(folder: Path, settings: Any) -> FileStore:
    return FileStore(folder, login_key(settings))


async def test_hosts_with_one_login_refresh_it_once(
    sandbox: SandboxHandle, redis: RedisServer, tmp_path: Path
) -> None:
    """The stored login was copied to a second host; its refresh token works once."""
    hosts = [{"token_dir": tmp_path / name, "login_shared_at": redis.url, **PERSON} for name in ("a", "b")]
    async with client_of(sandbox, **hosts[0]) as one, client_of(sandbox, **hosts[1]) as other:
        await one.auth.login_by_code(code_of(one, sandbox), VERIFIER)
        token = files(tmp_path / "a", one.settings).load()
        assert token is not None
        files(tmp_path / "b", other.settings).save(token)
        me = await one.me()
        for _ in range(3):
            assert await other.me() == me
            before = logins(sandbox)
            sandbox.faults(expire_tokens=True)
            async with trio.open_nursery() as nursery:
                for client in (one, other) * 2:
                    nursery.start_soon(client.me)
            assert logins(sandbox) == before + 1
    assert files(tmp_path / "a", one.settings).load() == files(tmp_path / "b", other.settings).load()


async def test_logins_of_different_people_stay_apart(
    sandbox: SandboxHandle, redis: RedisServer, tmp_path: Path
) -> None:
    """Two hosts with the same client id and profile name, each with an authorization of its own."""
    hosts = [{"token_dir": tmp_path / name, "login_shared_at": redis.url, **PERSON} for name in ("a", "b")]
    async with client_of(sandbox, **hosts[0]) as one, client_of(sandbox, **hosts[1]) as other:
        for client in (one, other):
            await client.auth.login_by_code(code_of(client, sandbox), VERIFIER)
        for _ in range(2):
            sandbox.faults(expire_tokens=True)
            await one.me()
            await other.me()
    first, second = (files(tmp_path / name, one.settings).load() for name in ("a", "b"))
    assert first is not None
    assert second is not None
    assert first.lineage != second.lineage


async def test_without_redis_no_refresh_token_is_spent(
    sandbox: SandboxHandle, redis: RedisServer, tmp_path: Path
) -> None:
    async with client_of(sandbox, token_dir=tmp_path / "a", login_shared_at=redis.url, **PERSON) as client:
        await client.auth.login_by_code(code_of(client, sandbox), VERIFIER)
        await client.me()
        redis.stop()
        sandbox.faults(expire_tokens=True)
        before = logins(sandbox)
        with pytest.raises(Unavailable, match="through which hosts share it"):
            await client.me()
        assert logins(sandbox) == before
        redis.start()
        await client.me()
        assert logins(sandbox) == before + 1


def test_a_token_can_be_opened_with_the_same_secret_alone(caplog: pytest.LogCaptureFixture) -> None:
    token = Token("access", 1.0, "refresh", "lineage", 3)
    sealed = Seal("secret").sealed(token)
    assert b"refresh" not in sealed
    assert Seal("secret").opened(sealed) == token
    assert Seal("other").opened(sealed) is None
    assert Seal("secret").opened(sealed[:-1] + b"x") is None
    assert "another client secret" in caplog.text


def test_a_budget_of_another_version_is_replaced_and_keeps_the_told_limit(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Hosts are brought up to date one after the other."""
    address = parse_address(redis.url)

    async def play() -> tuple[int, bool]:
        connection = await redis_store.connect(address)
        record = msgspec.msgpack.encode([3, 900, True, 12.5, "what only that version understands"])
        await connection.command("HSET", "procorefs:budget:key", "number", "7", "record", record)
        await connection.aclose()
        store = RedisStore(address, "key")
        try:
            for _ in range(2):
                found = await store.change(lambda state, _now_s: (state.limit, state.told))
        finally:
            await store.aclose()
        return found

    assert trio.run(play) == (900, True)
    sentence = f"Redis at {address} holds the call budget of another version: its 900 calls per hour are kept"
    assert [record.message for record in caplog.records if "another version" in record.message] == [sentence]
