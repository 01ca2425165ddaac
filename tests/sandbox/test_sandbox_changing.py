"""Changing the sandbox's tree: folders, files, versions, check-outs, tags, custom fields, names."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.sandbox import SandboxHandle
from tests.support.sandbox_project import Project


@pytest.fixture
def mine(sandbox: SandboxHandle) -> Iterator[Project]:
    with sandbox.session() as client:
        yield Project(sandbox, client)


@pytest.fixture
def theirs(sandbox: SandboxHandle) -> Iterator[Project]:
    with sandbox.session(second_user=True) as client:
        yield Project(sandbox, client)


def _soon(sandbox: SandboxHandle, seconds: int = 900) -> str:
    return datetime.fromtimestamp(sandbox.state()["now_s"] + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_file_is_made_changed_and_deleted(mine: Project) -> None:
    made = mine.create_file("a.txt", b"first", description="draft")
    assert made.status_code == 201
    file = made.json()
    assert (file["size"], file["description"], file["file_versions"][0]["number"]) == (5, "draft", 1)
    assert mine.bytes_of(file["id"]) == b"first"
    changed = mine.patch_file(file["id"], upload_uuid=mine.upload(b"second!"), name="b.txt", description="")
    assert changed.status_code == 200
    assert [version["number"] for version in changed.json()["file_versions"]] == [2, 1]
    assert (changed.json()["name"], changed.json()["description"]) == ("b.txt", None)
    assert mine.bytes_of(file["id"]) == b"second!"
    assert mine.delete_file(file["id"]).status_code == 204
    assert mine.file(file["id"])["is_deleted"]
    assert mine.delete_file(file["id"]).status_code == 404
    assert mine.create_file("b.txt").status_code == 201


def test_rename_and_move_make_no_version_unless_the_dialect_says_so(mine: Project) -> None:
    folder_id = mine.create_folder("Inbox").json()["id"]
    file_id = mine.create_file("a.txt").json()["id"]
    moved = mine.patch_file(file_id, name="c.txt", parent_id=folder_id).json()
    assert (moved["name_with_path"], len(moved["file_versions"])) == ("Inbox/c.txt", 1)
    mine.sandbox.faults(dialect={"patch_makes_version": True})
    assert len(mine.patch_file(file_id, name="d.txt").json()["file_versions"]) == 2


def test_folders_are_made_moved_and_binned(mine: Project) -> None:
    outer = mine.create_folder("Outer", is_tracked=True)
    assert (outer.status_code, outer.json()["is_tracked"]) == (201, True)
    inner_id = mine.create_folder("Inner", parent_id=outer.json()["id"]).json()["id"]
    into_itself = mine.patch_folder(outer.json()["id"], parent_id=inner_id)
    assert into_itself.status_code == 400
    moved = mine.patch_folder(inner_id, name="Moved", parent_id=mine.sandbox.state()["root_id"])
    assert (moved.status_code, moved.json()["name_with_path"]) == (200, "Moved")
    mine.sandbox.faults(dialect={"delete_status": 200})
    gone = mine.client.delete(f"/rest/v1.0/folders/{outer.json()['id']}", params=mine.query)
    assert gone.status_code == 200


def test_names_are_taken_per_folder(mine: Project) -> None:
    folder_id = mine.create_folder("Same").json()["id"]
    for taken in (mine.create_folder("Same"), mine.create_file("Same")):
        assert taken.status_code == 400
        assert taken.json() == {"errors": {"name": ["has already been taken"]}}
    assert mine.create_file("Same", parent_id=folder_id).status_code == 201
    assert mine.create_file("same").status_code == 201
    assert mine.create_file("Same", unique_name=True).json()["name"] == "Same (1)"
    mine.sandbox.faults(dialect={"case_sensitive_names": False})
    assert mine.create_folder("SAME").status_code == 400


@pytest.mark.parametrize(
    "name", ["a?b", "a<b", "a:b", "a|b", "a\\b", "a*b", "a/b", "a .txt", "a ", ".", "x" * 256]
)
def test_names_that_may_not_be(mine: Project, name: str) -> None:
    assert mine.create_folder(name).status_code == 400
    mine.sandbox.forget_violations()


def test_paths_have_at_most_255_characters(mine: Project) -> None:
    outer = mine.create_folder("x" * 100).json()["id"]
    inner = mine.create_folder("y" * 100, parent_id=outer).json()["id"]
    assert mine.create_folder("z" * 53, parent_id=inner).status_code == 201
    assert mine.create_folder("z" * 54, parent_id=inner).status_code == 400
    assert mine.patch_folder(outer, name="x" * 101).status_code == 400
    assert mine.patch_folder(outer, name="w" * 100).status_code == 200


def test_check_out_keeps_others_away_until_its_end(mine: Project, theirs: Project) -> None:
    file_id = mine.create_file("plan.pdf").json()["id"]
    held = theirs.patch_file(file_id, checked_out_until=_soon(mine.sandbox))
    assert held.json()["checked_out_by"]["name"] == "Robin Keller"
    assert len(held.json()["file_versions"]) == 1
    refused = mine.patch_file(file_id, upload_uuid=mine.upload(b"mine"))
    assert refused.status_code == 409
    assert refused.json()["errors"]["base"]
    assert refused.json()["file"]["checked_out_by"]["id"] == theirs.sandbox.second["user_id"]
    assert mine.delete_file(file_id).status_code == 409
    assert mine.patch_file(file_id, checked_out_until=_soon(mine.sandbox)).status_code == 409
    assert theirs.patch_file(file_id, upload_uuid=theirs.upload(b"theirs")).status_code == 200
    mine.sandbox.faults(clock_shift_s=901.0)
    assert mine.file(file_id)["checked_out_by"] is None
    assert mine.patch_file(file_id, name="plan 2.pdf").status_code == 200


def test_admin_may_end_anybodys_check_out(mine: Project, theirs: Project) -> None:
    file_id = mine.create_file("plan.pdf").json()["id"]
    theirs.patch_file(file_id, checked_out_until=_soon(mine.sandbox))
    mine.sandbox.act("membership", user="first", level="standard")
    assert mine.patch_file(file_id, checked_out_until=None).status_code == 409
    mine.sandbox.act("membership", user="first", level="admin")
    assert mine.patch_file(file_id, checked_out_until=None).json()["checked_out_by"] is None


def test_check_out_in_the_past_is_refused(mine: Project) -> None:
    file_id = mine.create_file("plan.pdf").json()["id"]
    assert mine.patch_file(file_id, checked_out_until="2020-01-01T00:00:00Z").status_code == 422


def test_readers_change_nothing(mine: Project) -> None:
    file_id = mine.create_file("plan.pdf").json()["id"]
    mine.sandbox.act("membership", user="first", level="read")
    assert mine.patch_file(file_id, name="x").status_code == 403
    assert mine.create_folder("x").status_code == 403
    assert mine.delete_file(file_id).status_code == 403
    listed = mine.client.get(mine.sandbox.documents_path, params={"filters[search]": "plan.pdf"}).json()[
        "data"
    ][0]
    assert listed["read_only"]


def test_read_only_documents_stay_as_they_are(mine: Project) -> None:
    file_id = mine.create_file("plan.pdf").json()["id"]
    mine.sandbox.act("read_only", id=file_id)
    assert mine.patch_file(file_id, name="x").status_code == 403
    assert mine.delete_file(file_id).status_code == 403


def test_version_with_notes(mine: Project) -> None:
    file_id = mine.create_file("plan.pdf").json()["id"]
    body = {"file_version": {"upload_uuid": mine.upload(b"v2"), "notes": "checked"}}
    query = {**mine.query, "file_id": file_id}
    made = mine.client.post("/rest/v1.0/file_versions", params=query, json=body)
    assert (made.status_code, made.json()["number"], made.json()["notes"]) == (201, 2, "checked")


def test_bodies_are_taken_strictly(mine: Project) -> None:
    file_id = mine.create_file("plan.pdf").json()["id"]
    wrong: list[Any] = [
        {"name": 5},
        {"bogus": 1},
        {"parent_id": "12"},
        {"parent_id": 1},
        {"custom_field_999": "x"},
    ]
    for fields in wrong:
        assert mine.patch_file(file_id, **fields).status_code == 400, fields
    assert mine.patch_file(file_id, parent_id=10**30).status_code == 400
    assert mine.client.get(f"/rest/v1.0/files/{2**63}", params=mine.query).status_code == 400
    assert mine.client.get(f"/rest/v1.0/files/{file_id}/", params=mine.query).status_code == 404
    path = f"/rest/v1.0/files/{file_id}"
    assert mine.client.patch(path, params=mine.query, json={"name": "x"}).status_code == 400
    assert mine.client.patch(path, params=mine.query, content=b"{").status_code == 400
    assert mine.client.patch(path, params=mine.query, data={"file": "x"}).status_code == 400
    assert mine.client.patch(path, json={"file": {}}).status_code == 400
    mine.sandbox.forget_violations()


def test_tags(mine: Project) -> None:
    path = f"/rest/v1.0/projects/{mine.sandbox.project_id}/document_custom_tags"
    folder_id = mine.create_folder("Tagged").json()["id"]
    file_id = mine.create_file("plan.pdf").json()["id"]
    before = mine.file(file_id)["updated_at"]
    tags = []
    for document_id in (folder_id, file_id, file_id):
        body = {"document_id": document_id, "document_custom_tag": {"name": "urgent"}}
        answer = mine.client.post(path, json=body)
        assert answer.status_code == 200
        tags.append(answer.json())
    assert tags[0] == tags[1] == tags[2]
    assert mine.client.get(path, params={"filters[document_id]": file_id}).json() == [tags[0]]
    assert mine.file(file_id)["updated_at"] == before
    bearers = mine.client.get(mine.sandbox.documents_path, params={"filters[custom_tag_ids]": tags[0]["id"]})
    assert {item["id"] for item in bearers.json()["data"]} == {str(folder_id), str(file_id)}
    taken_off = {"document_id": file_id}
    assert mine.client.delete(f"{path}/{tags[0]['id']}", params=taken_off).status_code == 204
    assert mine.client.delete(f"{path}/{tags[0]['id']}", params=taken_off).status_code == 404
    assert mine.client.get(path, params={"filters[document_id]": file_id}).json() == []


def test_custom_fields(mine: Project) -> None:
    query: dict[str, str | int] = {**mine.query, "view": "extended"}
    fields = mine.client.get("/rest/v1.0/custom_field_metadata", params=query).json()
    by_type = {field["data_type"]: field["custom_field_definition_id"] for field in reversed(fields)}
    assert len([field for field in fields if field["label"] == "Cost code"]) == 2
    entries_path = "/rest/v1.0/custom_field_definitions/{}/custom_field_lov_entries"
    company = {"company_id": mine.sandbox.company_id}
    entry = mine.client.get(entries_path.format(by_type["lov_entry"]), params=company).json()[0]
    trades = mine.client.get(entries_path.format(by_type["lov_entries"]), params=company).json()
    several = [trade["id"] for trade in trades if trade["active"]]
    values = {
        "string": "CC-1",
        "decimal": 12.5,
        "boolean": True,
        "lov_entry": entry["id"],
        "lov_entries": several,
    }
    written = {f"custom_field_{by_type[kind]}": value for kind, value in values.items()}
    file = mine.create_file("zoning.pdf", **written).json()
    shown = {field["data_type"]: field["value"] for field in file["custom_fields"].values()}
    assert shown["decimal"] == 12.5
    assert shown["lov_entry"] == {"id": entry["id"], "label": entry["label"]}
    listed = mine.client.get(mine.sandbox.documents_path, params={"filters[search]": "zoning.pdf"}).json()[
        "data"
    ][0]
    assert listed["custom_fields"][f"custom_field_{by_type['lov_entry']}"]["value"]["id"] == str(entry["id"])
    for kind, wrong in (("lov_entry", 1), ("decimal", "x"), ("boolean", "yes"), ("string", 5)):
        assert mine.patch_file(file["id"], **{f"custom_field_{by_type[kind]}": wrong}).status_code == 400
    cleared = mine.patch_file(file["id"], **{f"custom_field_{by_type['string']}": ""}).json()
    assert f"custom_field_{by_type['string']}" not in cleared["custom_fields"]
