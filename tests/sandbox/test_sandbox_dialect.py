"""The remaining open questions of the contract: each switch changes what it says and nothing else."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from procorefs.sandbox.faults.dialect import STRICT, Dialect
from tests.support.dialects import choices, drawn_dialect
from tests.support.sandbox import SandboxHandle, plain


@pytest.fixture
def client(sandbox: SandboxHandle) -> Iterator[httpx.Client]:
    with sandbox.session() as client:
        yield client


def _times(client: httpx.Client, sandbox: SandboxHandle) -> dict[str, str]:
    """`updated_at` by name, of living and binned documents."""
    items: list[dict[str, Any]] = []
    for binned in ("false", "true"):
        query = {"per_page": 2000, "filters[is_in_recycle_bin]": binned}
        items += client.get(sandbox.documents_path, params=query).json()["data"]
    return {item["name"]: item["updated_at"] for item in items}


def _touched(client: httpx.Client, sandbox: SandboxHandle, op: str, **fields: Any) -> set[str]:
    """Names whose `updated_at` an act a minute later moves."""
    sandbox.act("create_folder", path="/Outer")
    sandbox.act("put", path="/Outer/inner.txt", text="x")
    before = _times(client, sandbox)
    sandbox.faults(clock_shift_s=60.0)
    sandbox.act(op, **fields)
    after = _times(client, sandbox)
    return {name for name, moment in after.items() if name in before and before[name] != moment}


@pytest.mark.parametrize(
    ("dialect", "op", "fields", "touched"),
    [
        ({}, "tag", {"path": "/Outer/inner.txt", "tag": "t"}, set[str]()),
        ({"tagging_touches": True}, "tag", {"path": "/Outer/inner.txt", "tag": "t"}, {"inner.txt"}),
        ({}, "put", {"path": "/Outer/more.txt", "text": "x"}, set[str]()),
        ({"child_touches_parent": True}, "put", {"path": "/Outer/more.txt", "text": "x"}, {"Outer"}),
        ({}, "delete", {"path": "/Outer"}, {"Outer"}),
        ({"delete_touches": False}, "delete", {"path": "/Outer"}, set[str]()),
        ({"descendants_touched": True}, "delete", {"path": "/Outer"}, {"Outer", "inner.txt"}),
    ],
)
def test_what_moves_updated_at(
    client: httpx.Client,
    sandbox: SandboxHandle,
    dialect: dict[str, Any],
    op: str,
    fields: dict[str, Any],
    touched: set[str],
) -> None:
    sandbox.faults(dialect=dialect)
    assert _touched(client, sandbox, op, **fields) == touched


def test_me_may_have_no_name(client: httpx.Client, sandbox: SandboxHandle) -> None:
    assert "name" in client.get("/rest/v1.0/me").json()
    sandbox.faults(dialect={"me_name": False})
    assert client.get("/rest/v1.0/me").json().keys() == {"id", "login"}


def test_revisions_may_not_exist(client: httpx.Client, sandbox: SandboxHandle) -> None:
    path = f"{sandbox.documents_path}/{sandbox.act('put', path='/x.txt', text='x')['id']}/revisions"
    assert client.get(path).status_code == 200
    sandbox.faults(dialect={"revisions": False})
    assert client.get(path).status_code == 404


def test_null_may_not_clear_a_description(client: httpx.Client, sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/x.txt", text="x")["id"]
    path, query = f"/rest/v1.0/files/{document_id}", {"project_id": sandbox.project_id}
    for text, shown in (("draft", "draft"), (None, None), ("again", "again"), ("", None)):
        answer = client.patch(path, params=query, json={"file": {"description": text}})
        assert answer.json()["description"] == shown
    sandbox.faults(dialect={"null_clears_description": False})
    assert client.patch(path, params=query, json={"file": {"description": None}}).status_code == 400


@pytest.mark.parametrize("status", [200, 201, 204])
def test_store_confirms_in_several_ways(client: httpx.Client, sandbox: SandboxHandle, status: int) -> None:
    sandbox.faults(dialect={"stored_status": status, "upload_status": "receiving"})
    path = f"/rest/v1.1/projects/{sandbox.project_id}/uploads"
    begun = client.post(path, json={"response_filename": "x"}).json()
    assert plain("POST", begun["url"], data=begun["fields"], files={"file": b"x"}).status_code == status
    assert client.get(f"{path}/{begun['uuid']}").json()["status"] == "receiving"


def test_refusals_of_the_login_server_in_the_shape_of_the_api(sandbox: SandboxHandle) -> None:
    sandbox.faults(dialect={"oauth_error_shape": "errors"})
    form = {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "x"}
    answer = plain("POST", f"{sandbox.login_url}/oauth/token", data=form)
    assert answer.status_code == 401
    assert answer.json().keys() == {"errors"}


def test_who_is_logged_in_sees_no_page(sandbox: SandboxHandle) -> None:
    sandbox.faults(dialect={"authorize_page": False})
    query = {
        "response_type": "code",
        "client_id": sandbox.client_id,
        "redirect_uri": "http://localhost:9/back?x=1",
    }
    answer = plain("GET", f"{sandbox.login_url}/oauth/authorize", params=query)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("http://localhost:9/back?x=1&code=")
    elsewhere = {**query, "redirect_uri": "https://elsewhere.example/"}
    assert plain("GET", f"{sandbox.login_url}/oauth/authorize", params=elsewhere).status_code == 400


def test_a_401_may_come_without_rate_headers(client: httpx.Client, sandbox: SandboxHandle) -> None:
    sandbox.faults(expire_tokens=True)
    assert "X-Rate-Limit-Limit" in client.get("/rest/v1.0/me").headers
    sandbox.faults(dialect={"unauthorized_has_rate_headers": False})
    answer = client.get("/rest/v1.0/me")
    assert answer.status_code == 401
    assert "X-Rate-Limit-Limit" not in answer.headers


def test_tracked_folders_and_the_bin_are_shown(client: httpx.Client, sandbox: SandboxHandle) -> None:
    folder_id = sandbox.act("create_folder", path="/Tracked")["id"]
    sandbox.act("tracked", path="/Tracked")
    sandbox.act("put", path="/Tracked/inside.txt", text="x")
    query = {"filters[search]": "inside.txt"}
    item = client.get(sandbox.documents_path, params=query).json()["data"][0]
    assert item["tracked_folder"] == {"id": str(folder_id), "name": "Tracked"}
    everything = client.get(sandbox.documents_path, params={"per_page": 2000}).json()["data"]
    assert [bin_["name"] for bin_ in everything if bin_["is_recycle_bin"]] == ["Recycle Bin"]
    sandbox.faults(dialect={"bin_folder_in_list": False, "root_in_list": False})
    fewer = client.get(sandbox.documents_path, params={"per_page": 2000}).json()["data"]
    assert len(fewer) == len(everything) - 2


def test_strict_answers_every_open_question_in_another_way(
    start_sandbox: Callable[..., SandboxHandle],
) -> None:
    handle = start_sandbox("--strict", "--hourly", "0", "--spike", "0")
    spoken = handle.state()["dialect"]
    assert {name: spoken[name] for name in STRICT} == STRICT
    usual = msgspec.to_builtins(Dialect())
    assert not [name for name, value in STRICT.items() if usual[name] == value]
    with handle.session() as client:
        assert client.get(handle.documents_path).status_code == 404
        root = client.get(handle.documents_path.replace("documents", "folders"), params={"per_page": 2000})
        assert root.status_code == 200
    handle.faults(dialect={"stored_names": "as_sent"})
    handle.faults(clear=True)
    assert handle.state()["dialect"] == spoken


def test_new_items_may_be_private(client: httpx.Client, sandbox: SandboxHandle) -> None:
    query = {"project_id": sandbox.project_id}
    for name, private in (("A", False), ("B", True)):
        sandbox.faults(dialect={"new_items_private": private})
        made = client.post("/rest/v1.0/folders", params=query, json={"folder": {"name": name}})
        assert made.json()["private"] is private


def test_a_move_may_take_out_of_the_bin(client: httpx.Client, sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/x.txt", text="x")["id"]
    folder_id = sandbox.act("create_folder", path="/Restored")["id"]
    sandbox.act("delete", path="/x.txt")
    path, query = f"/rest/v1.0/files/{document_id}", {"project_id": sandbox.project_id}
    move = {"file": {"parent_id": folder_id}}
    assert client.patch(path, params=query, json=move).status_code == 404
    sandbox.faults(dialect={"move_restores": True})
    assert client.patch(path, params=query, json=move).json()["parent_id"] == folder_id
    assert "/Restored/x.txt" in sandbox.inventory()["files"]


def test_what_a_short_view_leaves_out(client: httpx.Client, sandbox: SandboxHandle) -> None:
    sandbox.act("put", path="/x.txt", text="x")
    sandbox.act(
        "set_field",
        path="/x.txt",
        field="303",
        value={"data_type": "string", "value": "cost", "variant": None},
    )
    sandbox.faults(dialect={"normal_view": "short", "field_variants": True})
    query = {"filters[search]": "x.txt"}
    short = client.get(sandbox.documents_path, params=query).json()["data"][0]
    whole = client.get(sandbox.documents_path, params={**query, "view": "extended"}).json()["data"][0]
    assert whole.keys() - short.keys() == {"custom_fields", "children"}
    assert whole["custom_fields"]["custom_field_303"] == {
        "data_type": "string",
        "value": "cost",
        "variant": None,
    }


def test_a_filter_may_take_one_value(client: httpx.Client, sandbox: SandboxHandle) -> None:
    query = {"filters[file_type]": "pdf,jpg"}
    assert client.get(sandbox.documents_path, params=query).status_code == 200
    sandbox.faults(dialect={"several_values": False})
    assert client.get(sandbox.documents_path, params=query).status_code == 400
    assert client.get(sandbox.documents_path, params={"filters[file_type]": "pdf"}).status_code == 200


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("as_sent", "a #  b.txt"), ("nfc", "a #  b.txt"), ("tidied", "a # b.txt"), ("cleaned", "a _ b.txt")],
)
def test_names_may_be_stored_otherwise(
    client: httpx.Client, sandbox: SandboxHandle, kind: str, stored: str
) -> None:
    sandbox.faults(dialect={"stored_names": kind})
    made = client.post(
        "/rest/v1.0/folders",
        params={"project_id": sandbox.project_id},
        json={"folder": {"name": "a #  b.txt"}},
    )
    assert (made.status_code, made.json()["name"]) == (201, stored)


def test_drawn_dialects_are_spoken(sandbox: SandboxHandle) -> None:
    """Every choice of every open question is one that the sandbox knows."""
    for name, answers in choices().items():
        for answer in answers:
            assert sandbox.faults(dialect={name: answer})["dialect"][name] == answer
            sandbox.faults(clear=True)
    for seed in range(20):
        sandbox.faults(clear=True, dialect=drawn_dialect(seed))
