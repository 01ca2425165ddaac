"""What each level and granular right lets a user do, and what the permissions call says of it."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.sandbox import SandboxHandle
from tests.support.sandbox_project import Project

DELETE, RENAME = "Delete Folders and Files", "Rename Folders and Files"
MOVE, BIN = "Move and Copy Files and Folders", "See Recycle Bin"
PRIVATE, SET_PRIVATE = "Access Private Folders and Files", "Set Permissions"


@pytest.fixture
def project(sandbox: SandboxHandle) -> Iterator[Project]:
    with sandbox.session() as client:
        yield Project(sandbox, client)


def become(project: Project, level: str, *actions: str) -> None:
    project.sandbox.act("membership", user="first", level=level, actions=list(actions))


def tool(project: Project) -> dict[str, Any]:
    answer = project.client.get("/rest/v1.0/settings/permissions", params=project.query)
    assert answer.status_code == 200
    (found,) = (one for one in answer.json()["tools"] if one["name"] == "documents")
    return dict(found)


@pytest.mark.parametrize(
    ("level", "actions", "allowed"),
    [
        ("read", (), set()),
        ("read", (DELETE,), {"delete"}),
        ("standard", (), {"create", "version"}),
        ("standard", (RENAME,), {"create", "version", "rename"}),
        ("standard", (MOVE,), {"create", "version", "move"}),
        ("standard", (DELETE,), {"create", "version", "delete"}),
        ("standard", (SET_PRIVATE,), {"create", "version", "private"}),
        ("admin", (), {"create", "version", "rename", "move", "describe", "tag", "private", "delete"}),
    ],
)
def test_acts_of_the_table(project: Project, level: str, actions: tuple[str, ...], allowed: set[str]) -> None:
    folder_id = project.create_folder("Folder").json()["id"]
    file_id = project.create_file("plan.pdf").json()["id"]
    upload = project.upload(b"more")
    become(project, level, *actions)
    tags = f"/rest/v1.0/projects/{project.sandbox.project_id}/document_custom_tags"
    acts: dict[str, Callable[[], httpx.Response]] = {
        "create": lambda: project.create_folder("Another"),
        "version": lambda: project.patch_file(file_id, upload_uuid=upload),
        "rename": lambda: project.patch_file(file_id, name="other.pdf"),
        "move": lambda: project.patch_file(file_id, parent_id=folder_id),
        "describe": lambda: project.patch_file(file_id, description="x"),
        "tag": lambda: project.client.post(
            tags, json={"document_id": file_id, "document_custom_tag": {"name": "x"}}
        ),
        "private": lambda: project.patch_file(file_id, explicit_permissions=True),
        "delete": lambda: project.delete_file(file_id),
    }
    answered = {act: call().status_code for act, call in acts.items()}
    assert {act for act, status in answered.items() if status < 300} == allowed
    assert {status for status in answered.values() if status >= 300} <= {403}


def test_a_call_for_several_rights_is_refused_whole(project: Project) -> None:
    file_id = project.create_file("plan.pdf", b"old").json()["id"]
    become(project, "standard")
    refused = project.patch_file(file_id, name="new.pdf", upload_uuid=project.upload(b"newer"))
    assert refused.status_code == 403
    assert project.file(file_id)["size"] == 3


def test_without_the_bin_right_it_is_empty(project: Project) -> None:
    file_id = project.create_file("plan.pdf").json()["id"]
    project.delete_file(file_id)
    query = {"filters[is_in_recycle_bin]": "true"}

    def bin_of() -> list[dict[str, Any]]:
        return list(project.client.get(project.sandbox.documents_path, params=query).json()["data"])

    assert [one["id"] for one in bin_of()] == [str(file_id)]
    become(project, "standard")
    project.sandbox.faults(dialect={"bin_in_list": True})
    assert bin_of() == []
    listed = project.client.get(project.sandbox.documents_path, params={"per_page": 100}).json()["data"]
    assert not any(one["is_recycle_bin"] or one["is_deleted"] for one in listed)
    path = f"/rest/v1.0/files/{file_id}"
    assert project.client.get(path, params=project.query).status_code == 404
    become(project, "standard", BIN)
    assert [one["id"] for one in bin_of()] == [str(file_id)]


def test_private_documents_are_seen_with_the_right(project: Project) -> None:
    made = project.sandbox.act("put", path="/secret.pdf", text="x")
    project.sandbox.act("private", path="/secret.pdf")
    path = f"/rest/v1.0/files/{made['id']}"
    become(project, "standard")
    assert project.client.get(path, params=project.query).status_code == 404
    become(project, "standard", PRIVATE)
    assert project.client.get(path, params=project.query).status_code == 200


@pytest.mark.parametrize(
    ("words", "spelt"),
    [("snake", "see_recycle_bin"), ("title", "See Recycle Bin"), ("camel", "SeeRecycleBin")],
)
def test_what_the_permissions_call_says(project: Project, words: str, spelt: str) -> None:
    assert tool(project)["user_access_level"]["name"] == "Admin"
    become(project, "standard", BIN)
    project.sandbox.faults(dialect={"action_words": words})
    told = tool(project)
    assert told["user_access_level"]["name"] == "Standard"
    assert [action["action_name"] for action in told["permitted_actions"]] == [spelt]


def test_documents_may_be_off(project: Project) -> None:
    become(project, "off")
    assert tool(project)["user_access_level"]["name"] == "None"
    assert project.client.get(project.sandbox.documents_path).status_code == 403
    become(project, "none")
    path = "/rest/v1.0/settings/permissions"
    assert project.client.get(path, params=project.query).status_code == 403
    company = {"company_id": project.sandbox.company_id}
    assert project.client.get(path, params=company).status_code == 200
    assert project.client.get(path, params={**project.query, **company}).status_code == 400
    assert project.client.get(path).status_code == 400
