"""The full listing when the server is slow, fails, falls silent or talks nonsense, and when the daemon dies."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from procorefs.procore.errors import ProcoreError
from procorefs.tree.nodes import ROOT
from tests.support.followed_tree import following
from tests.support.sandbox import SandboxHandle

DOCUMENTS = 200
ITEMS = DOCUMENTS + 2
"""With the root and the bin."""

INDEX = "GET /rest/v2.0/companies/{company_id}/projects/{project_id}/documents"
SOON_S = 30.0


def pages(sandbox: SandboxHandle) -> int:
    """Pages of the index that were asked for."""
    return sum(n for route, n in sandbox.calls()["by_route"].items() if route.endswith("/documents"))


async def test_a_listing_costs_its_pages(sandbox: SandboxHandle, tmp_path: Path) -> None:
    sandbox.faults(settings={"per_page_cap": 7})
    sandbox.reset_calls()
    async with following(sandbox, tmp_path / "tree") as followed:
        with trio.fail_after(SOON_S):
            await followed.follower.listed.wait()
        assert sandbox.calls()["total"] == 1 + math.ceil(ITEMS / 7)
        assert len(await followed.tree()) == DOCUMENTS == followed.follower.poll_state().documents


async def test_a_killed_listing_goes_on(sandbox: SandboxHandle, tmp_path: Path) -> None:
    sandbox.faults(settings={"per_page_cap": 10})
    sandbox.reset_calls()
    sandbox.faults(rules=[{"kind": "silence", "route": INDEX, "skip": 12}])
    async with following(sandbox, tmp_path / "tree") as followed:
        await sandbox.silent_calls(1)
        with trio.fail_after(SOON_S):
            while followed.store.counts.live() < 120:  # noqa: ASYNC110 - answers before the silent one are still read
                await trio.sleep(0.01)
    assert pages(sandbox) <= 16
    sandbox.release()
    sandbox.act("create_folder", path="/Made meanwhile")
    async with following(sandbox, tmp_path / "tree") as followed:
        assert not followed.follower.complete
        with trio.fail_after(SOON_S):
            await followed.follower.listed.wait()
        # Pages left, those that were under way, a second's overlap, and the changes since the first start.
        assert pages(sandbox) <= math.ceil(ITEMS / 10) + 3 + 2 + 2
        tree = await followed.tree()
        assert len(tree) == DOCUMENTS + 1
        assert "/Made meanwhile" in tree


async def test_a_failing_listing_goes_on_where_it_was(
    sandbox: SandboxHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults(settings={"per_page_cap": 10})
    sandbox.reset_calls()
    sandbox.faults(rules=[{"kind": "error", "status": 502, "route": INDEX, "skip": 9, "count": 4}])
    async with following(sandbox, tmp_path / "tree", retry_for_s=0.0) as followed:
        with pytest.raises(ProcoreError):
            await followed.tree()
        with trio.fail_after(SOON_S):
            await followed.follower.listed.wait()
        assert len(await followed.tree()) == DOCUMENTS
        assert pages(sandbox) <= math.ceil(ITEMS / 10) + 4 + 6
    assert "Listing the project failed" in caplog.text


async def test_who_gives_up_waiting_leaves_the_others(sandbox: SandboxHandle, tmp_path: Path) -> None:
    sandbox.faults(rules=[{"kind": "silence", "route": INDEX, "count": 1}])
    async with following(sandbox, tmp_path / "tree") as followed:
        folders = [node.inode for node in followed.store.children(ROOT) if node.is_folder]
        for folder in folders[:1]:
            await followed.follower.children_known(folder)  # by itself, ahead of the pages
        done: list[int] = []

        async def patient() -> None:
            await followed.follower.children_known(folders[1])
            done.append(folders[1])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(patient)
            await sandbox.silent_calls(1)
            with trio.move_on_after(0.1) as scope:
                await followed.follower.children_known(folders[2])
            assert scope.cancelled_caught
            assert not done
            sandbox.release()
        assert done


async def test_items_that_make_no_sense_cost_no_listing_again_and_again(
    start_sandbox: Callable[..., SandboxHandle], tmp_path: Path
) -> None:
    sandbox = start_sandbox("--seed", "50", "--hourly", "0", "--spike", "0")
    sandbox.act("create_file", path="/a.txt", text="a")
    sandbox.act("create_file", path="/b.txt", text="b")
    async with following(sandbox, tmp_path / "tree") as followed:
        before = await followed.tree()
        sandbox.act("create_file", path="/c.txt", text="c")
        sandbox.faults(
            malformed=[{"path": "/a.txt", "set": {"name": None}}, {"path": "/b.txt", "set": {"size": -1}}]
        )
        sandbox.act("put", path="/b.txt", text="bb")
        sandbox.act("touch", path="/a.txt")
        await followed.becomes(before | {"/c.txt": 1, "/b.txt": -1})
        assert followed.node("/b.txt").defect
        sandbox.reset_calls()
        for _ in range(10):
            await followed.tree()
            await trio.sleep(0.05)
        assert sandbox.calls()["total"] <= 10 * 2 + 3


async def test_two_users_see_what_each_does(sandbox: SandboxHandle, tmp_path: Path) -> None:
    second = {
        "client_id": sandbox.second["client_id"],
        "client_secret": sandbox.second["client_secret"],
    }
    async with (
        following(sandbox, tmp_path / "first") as first,
        following(sandbox, tmp_path / "second", **second) as other,
    ):
        tree = await first.tree()
        await other.becomes(tree)
        sandbox.act("create_file", path="/of the first.txt", text="1", user="first")
        sandbox.act("create_file", path="/of the other.txt", text="22", user="other")
        tree |= {"/of the first.txt": 1, "/of the other.txt": 2}
        await first.becomes(tree)
        await other.becomes(tree)


async def test_a_walk_after_a_restart_costs_one_look(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with following(sandbox, tmp_path / "tree", freshness_s=30) as followed:
        assert len(await followed.tree()) == DOCUMENTS
    sandbox.reset_calls()
    async with following(sandbox, tmp_path / "tree", freshness_s=30) as followed:
        assert len(await followed.tree()) == DOCUMENTS
        assert len(await followed.tree()) == DOCUMENTS
    assert sandbox.calls()["total"] <= 2


async def test_a_thousand_documents_of_one_second_are_not_read_at_each_look(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1000):
        (source / f"{number}.txt").touch()
    sandbox.reset(0)
    sandbox.import_tree(source)
    async with following(sandbox, tmp_path / "tree") as followed:
        assert len(await followed.tree()) == 1000
        sandbox.reset_calls()
        for _ in range(5):
            await followed.tree()
        assert sandbox.calls()["total"] <= 5 * 2
