"""Two daemons on one Procore with small windows share what it allows: no answer is 429, and both get on."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from procorefs.sandbox.project.invented_project import QUIET_PROJECT_ID
from tests.support.mounting import Home, Mounted, ThreadOf, wait_until
from tests.support.redis_server import RedisServer, started_redis
from tests.support.sandbox import SandboxHandle

SPIKE = 12
FOLDERS = 40
PAGE = 8  # a listing takes many calls


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = started_redis(tmp_path)
    yield server
    server.stop()


def narrow(start_sandbox: Callable[..., SandboxHandle], spike: int) -> SandboxHandle:
    """Two projects, lists in small pages, few calls in ten seconds."""
    sandbox = start_sandbox("--hourly", "500", "--spike", str(spike))
    for number in range(FOLDERS):
        for project_id in (sandbox.project_id, QUIET_PROJECT_ID):
            sandbox.act("create_folder", path=f"/folder {number}", project_id=project_id)
    sandbox.faults(settings={"per_page_cap": PAGE})
    return sandbox


def mounted_at(sandbox: SandboxHandle, home: Home, path: Path, project_id: int, *options: str) -> Mounted:
    path.mkdir()
    env = {**sandbox.env(), "PROCOREFS_PROJECT_ID": str(project_id)}
    words = ["-o", ",".join(options)] if options else []
    answer = home.procorefs("mount", *words, path, env=env)
    assert answer.returncode == 0, answer.stderr
    return Mounted(home, path, env)


def walked(mounted: Mounted) -> int:
    return sum(1 for folder in mounted.path.iterdir() for _ in [*folder.iterdir(), folder])


def both_walk(one: Mounted, other: Mounted) -> None:
    with ThreadOf(lambda: walked(one)) as first, ThreadOf(lambda: walked(other)) as second:
        assert first.result(60) == FOLDERS
        assert second.result(60) == FOLDERS


def no_call_was_refused(one: Mounted, other: Mounted, sandbox: SandboxHandle) -> None:
    statuses = [mounted.status() for mounted in (one, other)]
    assert [status["api_calls"]["throttled"] for status in statuses] == [0, 0]
    assert sandbox.calls()["total"] > SPIKE
    windows = [status["limiter"]["hourly"] for status in statuses]
    assert windows[0]["reset"] == windows[1]["reset"]


def test_two_mounts_of_a_user_share_one_budget(
    start_sandbox: Callable[..., SandboxHandle], home: Home, tmp_path: Path
) -> None:
    sandbox = narrow(start_sandbox, SPIKE)
    with ExitStack() as mounts:
        one = mounted_at(sandbox, home, tmp_path / "one", sandbox.project_id)
        mounts.callback(one.end)
        other = mounted_at(sandbox, home, tmp_path / "other", QUIET_PROJECT_ID)
        mounts.callback(other.end)
        both_walk(one, other)
        no_call_was_refused(one, other, sandbox)
        assert one.status()["limiter"]["shared_by"] == "user"


def test_two_hosts_share_one_budget_through_redis(
    start_sandbox: Callable[..., SandboxHandle], redis: RedisServer, tmp_path: Path
) -> None:
    sandbox = narrow(start_sandbox, 25)
    option = f"limiter={redis.url}"
    with ExitStack() as mounts:
        one = mounted_at(sandbox, Home(tmp_path / "a"), tmp_path / "one", sandbox.project_id, option)
        mounts.callback(one.end)
        other = mounted_at(sandbox, Home(tmp_path / "b"), tmp_path / "other", sandbox.project_id, option)
        mounts.callback(other.end)
        both_walk(one, other)
        no_call_was_refused(one, other, sandbox)
        assert one.status()["limiter"]["shared_by"] == "redis"
        for mounted in (one, other):
            mounted.expect_warning("does not answer")
        redis.stop()
        assert walked(one) == FOLDERS  # what is known needs no call
        assert walked(other) == FOLDERS


def test_status_says_whether_redis_is_away(sandbox: SandboxHandle, redis: RedisServer, home: Home) -> None:
    """Its first answer already, of a mount that had nothing to ask Procore; and a second after it comes or goes."""
    place = home.directory / "one"
    place.mkdir()

    def ran(*words: str) -> str:
        answer = home.procorefs(*words, place, env=sandbox.env())
        assert (answer.returncode, answer.stderr) == (0, "")
        return answer.stdout

    mount = ("mount", "-o", f"limiter={redis.url}")
    ran(*mount)
    assert list(place.iterdir())
    ran("umount")
    redis.stop()
    ran(*mount)
    first = ran("status")
    mounted = Mounted(home, place, sandbox.env())
    mounted.expect_warning("Redis .* does not answer")
    try:
        assert "shared by user (redis is away), limited to 50 %" in first
        redis.start()
        wait_until(lambda: "shared by redis\n" in ran("status"), "Redis to be found again")
        redis.stop()
        wait_until(lambda: mounted.status()["limiter"]["share"] == 0.5, "Redis to be missed")
        redis.start()
        wait_until(lambda: mounted.status()["limiter"]["share"] == 1, "Redis once more")
        redis.stop()
        file = place / ".procore/status"
        away = "user (redis is away)"
        wait_until(
            lambda: json.loads(file.read_text())["limiter"]["shared_by"] == away, "the same in the file"
        )
    finally:
        mounted.end()
