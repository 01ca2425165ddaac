"""What others do is shown, whatever Procore answers where its documentation leaves a choice."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.support.followed_tree import Tree, following
from tests.support.sandbox import SandboxHandle

DIALECTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no root": {"root_in_list": False},
    "no bin folder": {"bin_folder_in_list": False},
    "nothing but documents": {"root_in_list": False, "bin_folder_in_list": False, "deleted_parent": "old"},
    "bin in the list": {"bin_in_list": True},
    "bin in the list, old parent": {"bin_in_list": True, "deleted_parent": "old", "root_in_list": False},
    "bin in the list, living below": {"bin_in_list": True, "descendants": "living"},
    "bin in the list, hidden below": {"bin_in_list": True, "descendants": "hidden"},
    "living below": {"descendants": "living", "deleted_parent": "old"},
    "hidden below": {"descendants": "hidden"},
    "all below touched": {"descendants_touched": True},
    "deleting moves no time": {"delete_touches": False},
    "deleting moves no time, bin in the list": {"delete_touches": False, "bin_in_list": True},
    "parents touched": {"child_touches_parent": True, "versions_order": "oldest"},
}


SERVERS: list[tuple[str, int | None]] = [("both", None), ("without_company", 3), ("none", 7)]
"""The documents lists that exist, and how many documents a page has at most."""


@pytest.mark.parametrize(
    ("dialect", "server"),
    list(zip(DIALECTS.values(), itertools.cycle(SERVERS), strict=False)),
    ids=DIALECTS.keys(),
)
async def test_changes_by_others_are_shown(
    sandbox: SandboxHandle, tmp_path: Path, dialect: dict[str, Any], server: tuple[str, int | None]
) -> None:
    sandbox.reset(0)
    lists, per_page = server
    sandbox.faults(dialect={**dialect, "documents_lists": lists}, settings={"per_page_cap": per_page})
    tree: Tree = {}
    folders = ("/Drawings", "/Drawings/A", "/Drawings/A/old", "/Photos")
    for path in folders:
        sandbox.act("create_folder", path=path)
        tree[path] = None
    for path in (
        "/plan.pdf",
        "/Drawings/1.dwg",
        "/Drawings/A/2.dwg",
        "/Drawings/A/old/3.dwg",
        "/Photos/a.jpg",
    ):
        sandbox.act("create_file", path=path, text="first")
        tree[path] = 5
    async with following(sandbox, tmp_path / "tree") as followed:
        await followed.becomes(tree)
        plan = followed.node("/plan.pdf").inode

        sandbox.act("put", path="/plan.pdf", text="second")
        sandbox.act("rename_to", path="/plan.pdf", to="/Photos/plan 2.pdf")
        sandbox.act("create_folder", path="/New")
        sandbox.act("rename_to", path="/Photos/a.jpg", to="/New/a.jpg")
        del tree["/plan.pdf"], tree["/Photos/a.jpg"]
        tree |= {"/Photos/plan 2.pdf": 6, "/New": None, "/New/a.jpg": 5}
        await followed.becomes(tree)
        assert followed.node("/Photos/plan 2.pdf").inode == plan

        folder_id = sandbox.act("delete", path="/Drawings/A")["id"]
        whole = dict(tree)
        for path in [path for path in tree if path.startswith("/Drawings/A")]:
            del tree[path]
        await followed.becomes(tree)

        sandbox.act("restore", id=folder_id)
        await followed.becomes(whole)

        sandbox.reset_calls()
        for _ in range(3):
            assert await followed.tree() == whole
        if per_page is None:  # pages of a few documents do not reach over the last seconds
            assert sandbox.calls()["total"] <= 3 * 2
