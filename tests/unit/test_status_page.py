"""The status page and the metrics: who may see them, what they show of names, and how the budget is drawn."""

import json
import re
from pathlib import Path

import httpx
import msgspec
import pytest

from procorefs.cli.web import app as application
from procorefs.cli.web.access import COOKIE, Access
from procorefs.cli.web.app import last_warnings, make_app
from procorefs.cli.web.metrics import metrics_text
from procorefs.cli.web.mounts import SAMPLES, BudgetHistory, Sample
from procorefs.cli.web.plot import plot_of
from procorefs.config import find_paths
from procorefs.procore.api.calls import ApiCalls as CountedCalls
from procorefs.service.details import CallCount, KernelFigures, MountDetails, RequestTimes, call_counts
from procorefs.service.status import (
    ApiCalls,
    GuardedFolder,
    LimiterStatus,
    MountStatus,
    Named,
    OutboxItem,
    OutboxStatus,
    TreeStatus,
    WindowStatus,
)
from procorefs.tree.recent_changes import RecentChange
from procorefs.upload.commands import RunningUpload

TOKEN = "t0ken"
CODE = "c0de"
BASE = "http://127.0.0.1:8911"

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e"

STATUS = MountStatus(
    mountpoint="/srv/Secret Tower",
    project=Named(12, HOSTILE),
    company=Named(8, "Northwind"),
    pid=77,
    tree=TreeStatus(documents=1234, state="complete", age_seconds=5.0),
    outbox=OutboxStatus(
        pending=3,
        failed=1,
        eta_seconds=60.0,
        failures=[OutboxItem(f"Secret/{HOSTILE}", "Procore refuses it", "2026-11-30T03:00:00Z")],
        guarded=[GuardedFolder("Drawings", 510, 0)],
    ),
    limiter=LimiterStatus(hourly=WindowStatus(3600, 3000), used_by_people=40, used_by_background=560),
    api_calls=ApiCalls(total=9, by_route={"GET documents": 9}),
)


DETAILS = MountDetails(
    STATUS,
    KernelFigures(
        [0.001, 1.0],
        {"getattr": RequestTimes([5, 2, 1], 3.5)},
        {"entry": 4, "inode": 0, "listing": 2, "attributes": 1},
    ),
    [CallCount("GET documents", "200", 7), CallCount("GET documents", "429", 2)],
    [RunningUpload("Models/Tower.rvt", 250 << 20, 1000 << 20, 60.0)],
    [RecentChange(f"Drawings/{HOSTILE}", "new version", "Ada", 1.8e9)],
)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[MountDetails]:
    shown = [DETAILS]
    monkeypatch.setattr(application, "all_mounts", lambda _paths: shown)
    return shown


@pytest.fixture
async def client(tmp_path: Path, mounts: list[MountDetails]) -> httpx.AsyncClient:
    return client_of(tmp_path)


def client_of(home: Path, *, is_own_user: bool = True) -> httpx.AsyncClient:
    """A browser of this user, or of another one."""
    access = Access(8911, CODE, TOKEN, lambda _peer, _here: is_own_user)
    app = make_app(find_paths({"HOME": str(home)}), access)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE)


def forwarded_client(home: Path) -> httpx.AsyncClient:
    """A browser whose connection is forwarded to the socket file from another port."""
    access = Access(None, CODE, TOKEN, lambda _peer, _here: False)
    transport = httpx.ASGITransport(make_app(find_paths({"HOME": str(home)}), access))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:4242")


async def log_in(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", params={"code": CODE})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


async def test_the_page_shows_what_waits_and_escapes_names(client: httpx.AsyncClient) -> None:
    await log_in(client)
    answer = await client.get("/")
    assert answer.status_code == 200
    assert "1,234" in answer.text
    assert "Drawings" in answer.text
    assert 'value="262144000"' in answer.text
    assert "in 3 min" in answer.text
    assert "new version by\nAda" in answer.text
    assert "<script>alert" not in answer.text
    assert "\x1b" not in answer.text
    assert "\u202e" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "same-origin", "without it the Origin of a form is null"
    assert (await client.get("/static/style.css")).status_code == 200


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/", {"cookie": f"{COOKIE}=wrong"}),
        ("/?code=wrong", {}),
        (f"/?code={TOKEN}", {}),
        (f"/?token={TOKEN}", {}),
        ("/metrics", {"authorization": "Bearer wrong"}),
        ("/metrics", {"authorization": f"Bearer {CODE}"}),
        ("/", {"authorization": f"Bearer {TOKEN}"}),
        ("/mounts", {"authorization": f"Bearer {TOKEN}"}),
        ("/static/page.js", {}),
        ("/metrics", {}),
    ],
)
async def test_without_code_or_cookie_nothing_is_shown(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    assert (await client.get(path, headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8911"},
        {"host": "127.0.0.1"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8911"},
        {"origin": "null"},
        {"origin": "http://["},
    ],
)
async def test_another_site_cannot_use_the_cookie(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    await log_in(client)
    for method in ("GET", "POST"):
        answer = await client.request(method, "/act", headers=headers, data={"action": "retry"})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:4242"}, 200),
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:1"}, 200),
        ({"host": "evil.example:4242"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "localhost:4242@evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "null"}, 403),
    ],
)
@pytest.mark.usefixtures("mounts")
async def test_a_socket_file_answers_what_is_forwarded_and_no_other_site(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    client = forwarded_client(tmp_path)
    assert (await client.get("/")).status_code == 401
    await log_in(client)
    assert (await client.get("/", headers=headers)).status_code == status


async def test_no_get_and_no_bearer_token_changes_anything(client: httpx.AsyncClient) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert (await client.get("/metrics", headers=bearer)).status_code == 200
    assert (await client.post("/act", headers=bearer)).status_code == 401
    await log_in(client)
    assert (await client.get("/act", params={"action": "discard"})).status_code == 405
    assert (await client.post("/act", data={"action": "discard", "mount": "77"})).status_code == 404


def test_metrics_have_no_names() -> None:
    text = metrics_text([DETAILS]).decode()
    assert 'procorefs_outbox_changes{project="12",state="failed"} 1.0' in text
    assert 'procorefs_budget_used{by="background",project="12"} 560.0' in text
    assert 'procorefs_calls_total{answer="200",project="12",route="GET documents"} 7.0' in text
    assert "Secret" not in text
    assert "script" not in text


def test_latencies_are_a_histogram() -> None:
    text = metrics_text([DETAILS]).decode()
    name = "procorefs_request_seconds"
    assert f'{name}_bucket{{kind="getattr",le="0.001",project="12"}} 5.0' in text
    assert f'{name}_bucket{{kind="getattr",le="1.0",project="12"}} 7.0' in text
    assert f'{name}_bucket{{kind="getattr",le="+Inf",project="12"}} 8.0' in text
    assert f'{name}_sum{{kind="getattr",project="12"}} 3.5' in text
    assert 'procorefs_notifications_total{project="12",what="entry"} 4.0' in text


def test_a_server_that_invents_statuses_makes_few_labels() -> None:
    calls = CountedCalls(by_answer={("GET documents", status): 1 for status in range(1000)})
    assert len(call_counts(calls)) < 30
    assert sum(call.count for call in call_counts(calls)) == 1000


def test_the_dashboard_and_the_page_name_the_metrics_that_exist() -> None:
    docs = Path(__file__).parents[2] / "docs"
    dashboard = json.loads((docs / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 10
    text = metrics_text([DETAILS]).decode()
    existing = set(re.findall(r"^(procorefs_\w+)[{ ]", text, re.MULTILINE))
    assert {name for query in queries for name in re.findall(r"procorefs_\w+", query)} - existing == set()
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in existing}
    page = (docs / "server.md").read_text()
    assert {name for name in families if f"`{name}" not in page} == set()


def test_a_mount_that_does_not_answer_is_down() -> None:
    text = metrics_text([MountDetails(MountStatus("/m", Named(1), Named(2), state="not answering"))]).decode()
    assert 'procorefs_up{project="1"} 0.0' in text


def test_the_plot_fills_its_box() -> None:
    assert plot_of([Sample(0, 1, 1, 0, 10)]) is None
    plot = plot_of([Sample(0, 0, 0, 0, 600), Sample(1800, 60, 240, 150, 600), Sample(3600, 0, 600, 0, 600)])
    assert plot is not None
    assert plot.ours == "0,80 0.0,80.0 300.0,40.0 600.0,0.0 600,80"
    assert plot.total == "0,80 0.0,80.0 300.0,20.0 600.0,0.0 600,80"
    assert plot.people == "0,80 0.0,80.0 300.0,72.0 600.0,80.0 600,80"
    assert (plot.limit, plot.most, plot.hours) == ("0.0,0.0 300.0,0.0 600.0,0.0", 600, 1.0)


def test_the_history_has_the_newest_samples() -> None:
    history = BudgetHistory()
    for minute in range(SAMPLES + 5):
        history.record([DETAILS], 60.0 * minute)
    history.record([], 0.0)
    assert len(history.samples) == SAMPLES
    assert history.samples[0] == Sample(300.0, 40, 560, 0, 3600)


async def test_the_cookie_is_not_the_code_and_ends_with_the_server(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await log_in(client)
    cookie = client.cookies[COOKIE]
    assert CODE not in cookie
    assert TOKEN not in cookie
    async with client_of(tmp_path) as later:
        later.cookies.set(COOKIE, cookie)
        assert (await later.get("/")).status_code == 401


async def test_another_user_with_code_and_cookie_sees_and_does_nothing(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """The code is in the list of processes, and a browser sends the cookie to any port of the host."""
    async with client_of(tmp_path, is_own_user=False) as other:
        assert (await other.get("/", params={"code": CODE})).status_code == 403
        assert (await other.get("/", headers={"cookie": f"{COOKIE}=x"})).status_code == 403
        assert (await other.post("/act", data={"action": "discard", "mount": "77"})).status_code == 403
        prometheus = {"authorization": f"Bearer {TOKEN}"}
        assert (await other.get("/metrics", headers=prometheus)).status_code == 200


def test_the_warnings_of_a_log_are_the_newest(tmp_path: Path) -> None:
    log = tmp_path / "mount.log"
    assert last_warnings(log) == []
    lines = [f"2026-11-30 03:00:{number:02d},000 WARNING a: {number}\x1b" for number in range(30)]
    log.write_text("\n".join([*lines, "2026-11-30 03:01:00,000 INFO a: fine"]))
    shown = last_warnings(log)
    assert len(shown) == 10
    assert shown[0].endswith("WARNING a: 29\\u001b")


async def test_a_hundred_thousand_waiting_files_make_a_short_page(
    client: httpx.AsyncClient, mounts: list[MountDetails]
) -> None:
    many = [
        OutboxItem(f"Folder/{number}", "it was refused", "2026-11-30T03:00:00Z") for number in range(1000)
    ]
    outbox = OutboxStatus(
        pending=100_000, failed=100_000, held=100_000, failures=many, held_items=many, bytes_pending=1 << 40
    )
    mounts[:] = [MountDetails(msgspec.structs.replace(STATUS, outbox=outbox))]
    await log_in(client)
    page = (await client.get("/")).text
    assert "the oldest 100 of 100,000" in page
    assert page.count("Folder/") < 1000
    assert len(page) < 300_000
