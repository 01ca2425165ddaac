"""The sandbox's documents index: pages, filters, sorts, permissions, the bin, the dialects."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.support.sandbox import SandboxHandle


def _all(
    client: httpx.Client,
    path: str,
    *,
    per_page: int = 2000,
    sort: str | None = None,
    filters: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """All items, page by page, as the Link headers say."""
    query: dict[str, str | int] = {"per_page": per_page}
    query |= {f"filters[{name}]": value for name, value in (filters or {}).items()}
    if sort is not None:
        query["sort"] = sort
    answer = client.get(path, params=query)
    items: list[dict[str, Any]] = []
    while True:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        items += body["data"] if isinstance(body, dict) else body
        if "next" not in answer.links:
            assert len(items) == int(answer.headers["Total"])
            return items
        answer = client.get(answer.links["next"]["url"])


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


def _iso(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_v2_and_v1_list_the_same(sandbox: SandboxHandle) -> None:
    sandbox.faults(dialect={"deprecated_lists": "given"})
    with sandbox.session() as client:
        v2 = _all(client, sandbox.documents_path)
        without_company = _all(client, f"/rest/v2.0/projects/{sandbox.project_id}/documents")
        v1 = _all(client, f"/rest/v1.0/projects/{sandbox.project_id}/documents")
    assert len(v2) == 202
    assert [item["id"] for item in v2] == [item["id"] for item in without_company]
    assert [int(item["id"]) for item in v2] == [item["id"] for item in v1]
    file = next(item for item in v1 if item["document_type"] == "file")
    assert file["name_with_path"].endswith("/" + file["name"])
    assert not file["name_with_path"].startswith("/")
    assert all("the operation is deprecated" in violation for violation in sandbox.violations())
    sandbox.forget_violations()


def test_pages_cover_everything_once(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        whole = _all(client, sandbox.documents_path, sort="-updated_at")
        paged = _all(client, sandbox.documents_path, per_page=37, sort="-updated_at")
        first = client.get(sandbox.documents_path, params={"per_page": 37, "sort": "-updated_at"})
    assert [item["id"] for item in paged] == [item["id"] for item in whole]
    assert first.headers["Per-Page"] == "37"
    assert {"first", "next", "last"} == first.links.keys()
    times = [item["updated_at"] for item in whole]
    assert times == sorted(times, reverse=True)


def test_v2_gives_ten_unless_asked_and_believes_its_cap(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        assert len(client.get(sandbox.documents_path).json()["data"]) == 10
        sandbox.faults(settings={"per_page_cap": 100})
        capped = client.get(sandbox.documents_path, params={"per_page": 2000})
    assert capped.headers["Per-Page"] == "100"
    assert len(capped.json()["data"]) == 100


def test_filters(sandbox: SandboxHandle) -> None:
    path = sandbox.documents_path
    with sandbox.session() as client:
        everything = _all(client, path)
        files = _all(client, path, filters={"document_type": "file"})
        kept = [item["id"] for item in everything if item["document_type"] == "file"]
        assert [item["id"] for item in files] == kept
        assert {item["file"]["file_type"] for item in _all(client, path, filters={"file_type": "pdf"})} == {
            "pdf"
        }
        drawings = _named(everything, "01 Drawings")
        below = _all(client, path, filters={"folder_id": drawings["id"]})
        assert drawings["id"] in {item["id"] for item in below}
        assert all(
            item["parent_id"] in {other["id"] for other in below} for item in below if item != drawings
        )
        found = _all(client, path, filters={"search": "floor plan"})
        assert found
        assert all("floor plan" in item["name"].lower() for item in found)
        maker = files[0]["created_by"]["id"]
        by_maker = _all(client, path, filters={"created_by_id": maker})
        assert {item["created_by"]["id"] for item in by_maker} == {maker}


def test_time_ranges_include_both_ends(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        moment = _all(client, sandbox.documents_path, sort="-updated_at")[5]["updated_at"]
        found = _all(client, sandbox.documents_path, filters={"updated_at": f"{moment}...{moment}"})
    assert found
    assert {item["updated_at"] for item in found} == {moment}


@pytest.mark.parametrize(
    "sort", ["name", "-name", "document_type_then_name", "-document_type_then_updated_at"]
)
def test_sorts(sandbox: SandboxHandle, sort: str) -> None:
    with sandbox.session() as client:
        items = _all(client, sandbox.documents_path, sort=sort)
    by_sort: dict[str, list[tuple[bool | str, ...]]] = {
        "name": [(item["name"],) for item in items],
        "document_type_then_name": [(item["document_type"] == "file", item["name"]) for item in items],
        "document_type_then_updated_at": [
            (item["document_type"] == "file", item["updated_at"]) for item in items
        ],
    }
    keys = by_sort[sort.lstrip("-")]
    assert keys == sorted(keys, reverse=sort.startswith("-"))


def test_a_change_shows_in_one_look(sandbox: SandboxHandle) -> None:
    before_s = sandbox.state()["now_s"]
    sandbox.act("put", path="/01 Drawings/new.pdf", size_bytes=900)
    with sandbox.session() as client:
        span = f"{_iso(before_s)}...{_iso(before_s + 3600)}"
        changed = _all(client, sandbox.documents_path, sort="-updated_at", filters={"updated_at": span})
    assert [item["name"] for item in changed] == ["new.pdf"]
    assert changed[0]["file"]["current_version"]["created_by"]["name"] == "Robin Keller"


def test_deleting_a_folder_bins_all_below(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        drawings = _named(_all(client, sandbox.documents_path), "01 Drawings")
        count = len(_all(client, sandbox.documents_path, filters={"folder_id": drawings["id"]}))
        sandbox.act("delete", path="/01 Drawings")
        binned = _all(client, sandbox.documents_path, filters={"is_in_recycle_bin": "true"})
        living = _all(client, sandbox.documents_path)
        sandbox.act("restore", id=int(drawings["id"]))
        assert len(_all(client, sandbox.documents_path)) == 202
    assert len(binned) == count
    assert all(item["is_deleted"] for item in binned)
    assert _named(binned, "01 Drawings")["parent_id"] == str(sandbox.state()["bin_id"])
    assert len(living) == 202 - count
    assert drawings["id"] not in {item["id"] for item in living}


def test_dialects_of_the_bin(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        drawings = _named(_all(client, sandbox.documents_path), "01 Drawings")
        sandbox.act("delete", path="/01 Drawings")
        sandbox.faults(dialect={"deleted_parent": "old", "descendants": "living", "deleted_get": "404"})
        binned = _all(client, sandbox.documents_path, filters={"is_in_recycle_bin": "true"})
        living = _all(client, sandbox.documents_path)
        assert [item["id"] for item in binned] == [drawings["id"]]
        assert binned[0]["parent_id"] == drawings["parent_id"]
        assert any(item["parent_id"] == drawings["id"] for item in living)
        gone = client.get(f"/rest/v1.0/folders/{drawings['id']}", params={"project_id": sandbox.project_id})
        assert gone.status_code == 404
        sandbox.faults(dialect={"descendants": "hidden", "bin_in_list": True, "root_in_list": False})
        mixed = _all(client, sandbox.documents_path)
    assert _named(mixed, "01 Drawings")["is_deleted"]
    assert not any(item["parent_id"] == drawings["id"] for item in mixed)
    assert all(item["parent_id"] is not None for item in mixed)


def test_private_documents_are_invisible_to_others(sandbox: SandboxHandle) -> None:
    folder = sandbox.act("create_folder", path="/Contracts")
    sandbox.act("put", path="/Contracts/fee.pdf", size_bytes=1000)
    sandbox.act("private", path="/Contracts")
    sandbox.act("membership", user="first", level="standard")
    with sandbox.session() as client, sandbox.session(second_user=True) as other:
        assert not _all(client, sandbox.documents_path, filters={"search": "fee.pdf"})
        shown = _all(other, sandbox.documents_path, filters={"search": "fee.pdf"})[0]
        assert shown["private"]
        assert shown["private_parent"]["id"] == str(folder["id"])
        hidden = client.get(f"/rest/v1.0/folders/{folder['id']}", params={"project_id": sandbox.project_id})
        assert hidden.status_code == 404
        sandbox.act("grant", path="/Contracts")
        assert _all(client, sandbox.documents_path, filters={"search": "fee.pdf"})


def test_what_is_unknown_or_of_a_wrong_type_is_refused(sandbox: SandboxHandle) -> None:
    wrong: list[dict[str, Any]] = [
        {"bogus": 1},
        {"sort": "size"},
        {"per_page": 2001},
        {"page": 0},
        {"filters[updated_at]": "2026-01-01"},
        {"filters[is_in_recycle_bin]": "yes"},
        {"filters[folder_id]": "abc"},
    ]
    with sandbox.session() as client:
        for query in wrong:
            assert client.get(sandbox.documents_path, params=query).status_code == 400, query
        assert client.get(sandbox.documents_path, params=[("page", 1), ("page", 2)]).status_code == 400
    # openapi-core takes "yes" for a boolean; the sandbox does not.
    assert len(sandbox.violations()) == len(wrong) - 1
    sandbox.forget_violations()


def test_company_and_project_are_checked(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        del client.headers["Procore-Company-Id"]
        assert client.get(sandbox.documents_path).status_code == 400
        sandbox.faults(dialect={"missing_company_status": 403})
        assert client.get(sandbox.documents_path).status_code == 403
        assert client.get(sandbox.documents_path, headers={"Procore-Company-Id": "8802"}).status_code == 400
        away = client.get(
            "/rest/v1.1/projects", params={"company_id": 8802}, headers={"Procore-Company-Id": "8802"}
        )
        assert away.status_code == 403
    sandbox.forget_violations()


def test_projects_are_those_of_the_user(sandbox: SandboxHandle) -> None:
    query = {"company_id": sandbox.company_id}
    with sandbox.session() as client, sandbox.session(second_user=True) as other:
        mine = {
            project["name"]: project["id"]
            for project in client.get("/rest/v1.1/projects", params=query).json()
        }
        theirs = other.get("/rest/v1.1/projects", params=query).json()
        assert mine.keys() - {project["name"] for project in theirs} == {"Confidential Headquarters"}
        secret = mine["Confidential Headquarters"]
        path = f"/rest/v2.0/companies/{sandbox.company_id}/projects/{secret}/documents"
        assert client.get(path).status_code == 200
        assert other.get(path).status_code == 403
        everything: dict[str, str | int] = {**query, "filters[by_status]": "All", "view": "compact"}
        assert len(client.get("/rest/v1.1/projects", params=everything).json()) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_new_apps_may_not_call_deprecated_lists(sandbox: SandboxHandle, status: int) -> None:
    sandbox.faults(dialect={"deprecated_lists": status})
    with sandbox.session() as client:
        answer = client.get(f"/rest/v1.0/projects/{sandbox.project_id}/documents")
    assert answer.status_code == status
    assert sandbox.violations()
    sandbox.forget_violations()


def test_a_folder_and_what_is_below_it(sandbox: SandboxHandle) -> None:
    """The v2.0 folder reads: one mixed list without the folder; only with a filter, all below."""
    sandbox.reset(0)
    for path in ("/Outer", "/Outer/Inner", "/Outer/Secret"):
        sandbox.act("create_folder", path=path)
    for path in ("/top.txt", "/Outer/a.txt", "/Outer/Inner/b.txt", "/Outer/Secret/c.txt", "/Outer/gone.txt"):
        sandbox.act("put", path=path, text="x")
    outer = sandbox.act("touch", path="/Outer")["id"]
    sandbox.act("private", path="/Outer/Secret")
    sandbox.act("grant", path="/Outer/Secret")
    sandbox.act("delete", path="/Outer/gone.txt")
    root = sandbox.documents_path.replace("documents", "folders")
    with sandbox.session() as client:

        def items_of(path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
            answer = client.get(path, params={"per_page": "2000", **query})
            assert answer.status_code == 200, answer.text
            items: list[dict[str, Any]] = answer.json()["data"]
            assert len(items) == int(answer.headers["Total"])
            return items

        def names(path: str, query: Mapping[str, str]) -> list[str]:
            return [item["name"] for item in items_of(path, query)]

        assert names(root, {}) == ["Outer", "Recycle Bin", "top.txt"]
        assert names(f"{root}/{outer}", {}) == ["Inner", "Secret", "a.txt"]
        assert names(f"{root}/{outer}", {"exclude_folders": "true", "sort": "-name"}) == ["a.txt"]
        living = {"include_descendants": "true", "filters[is_in_recycle_bin]": "false"}
        assert sorted(names(f"{root}/{outer}", living)) == ["Inner", "Secret", "a.txt", "b.txt", "c.txt"]
        binned = {"include_descendants": "true", "filters[is_in_recycle_bin]": "true"}
        assert names(root, binned) == ["gone.txt"]
        private = {"include_descendants": "true", "filters[private]": "true"}
        assert names(root, private) == ["Secret"]
        items = {item["name"]: item for item in items_of(root, living)}
        assert {name: item["has_private_ancestor"] for name, item in items.items()} == {
            name: name == "c.txt" for name in items
        }
        assert all("private_parent" not in item for item in items.values())
        compact = items_of(root, {**living, "view": "sync_compact"})
        assert all("has_private_ancestor" not in item for item in compact)
        assert client.get(root, params={"include_descendants": "true"}).status_code == 400
        sandbox.faults(dialect={"folder_reads": False})
        assert client.get(root).status_code == 404


@pytest.mark.parametrize(("kind", "total"), [("exact", "202"), ("capped", "5")])
def test_the_total_of_the_documents_list(sandbox: SandboxHandle, kind: str, total: str) -> None:
    sandbox.faults(dialect={"documents_total": kind})
    with sandbox.session() as client:
        assert client.get(sandbox.documents_path).headers["Total"] == total


def test_the_documents_lists_may_be_missing(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        sandbox.faults(dialect={"documents_lists": "without_company"})
        assert client.get(sandbox.documents_path).status_code == 404
        assert client.get(f"/rest/v2.0/projects/{sandbox.project_id}/documents").status_code == 200
        sandbox.faults(dialect={"documents_lists": "none"})
        assert client.get(f"/rest/v2.0/projects/{sandbox.project_id}/documents").status_code == 404
        assert client.get(sandbox.documents_path.replace("documents", "folders")).status_code == 200
