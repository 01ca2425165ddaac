"""Whatever Procore sends becomes a checked model, a named defect, or a counted refusal."""

import json
from typing import Any

import pytest

from procorefs.procore.errors import Malformed
from procorefs.procore.wire import decoding
from procorefs.procore.wire.models import Document, Kind, Person, Version

ACTION = "list it"
MOMENT_S = 1_483_565_238  # 2017-01-04T21:27:18Z


def version_v2(**changes: Any) -> dict[str, Any]:
    return {
        "id": "70",
        "number": 3,
        "size": 1234,
        "notes": None,
        "url": "https://storage.example/x",
        "created_at": "2017-01-04T21:27:18Z",
        "created_by": {"id": "9", "login": "a@example.com", "name": "Ann"},
        "file_id": "7",
        **changes,
    }


def file_v2(version: Any = None, **changes: Any) -> dict[str, Any]:
    return {
        "id": "7",
        "name": "plan.pdf",
        "parent_id": "2",
        "created_at": "2017-01-04T21:27:18Z",
        "updated_at": "2017-01-04T21:27:18Z",
        "created_by": {"id": "9", "login": "a@example.com", "name": "Ann"},
        "document_type": "file",
        "read_only": True,
        "is_deleted": False,
        "is_recycle_bin": False,
        "is_tracked": True,
        "private": False,
        "custom_fields": {"custom_field_1": {"data_type": "string", "value": "x"}},
        "file": {
            "description": "Plan",
            "file_type": "pdf",
            "checked_out_by": {"id": "8", "login": "b@example.com", "name": "Bob"},
            "checked_out_until": "2017-01-04T21:27:18Z",
            "current_version": version_v2() if version is None else version,
        },
        **changes,
    }


def index(*items: Any) -> list[Document]:
    return listed(*items).kept


def listed(*items: Any) -> decoding.Items:
    return in_body(json.dumps({"data": items}).encode())


def in_body(body: bytes) -> decoding.Items:
    parts = list(decoding.documents(body, ACTION))
    return decoding.Items(
        [document for part in parts for document in part.kept], sum(part.refused for part in parts)
    )


def as_v1(value: Any) -> Any:
    """The same with integer ids."""
    if isinstance(value, dict):
        return {k: int(v) if k.endswith("id") and v is not None else as_v1(v) for k, v in value.items()}
    return value


def test_v2_and_v1_become_the_same_document() -> None:
    ann, bob = Person(9, "Ann", "a@example.com"), Person(8, "Bob", "b@example.com")  # type: ignore[arg-type]
    expected = Document(
        id=7,  # type: ignore[arg-type]
        parent_id=2,  # type: ignore[arg-type]
        name="plan.pdf",
        kind=Kind.FILE,
        created_at_s=MOMENT_S,
        updated_at_s=MOMENT_S,
        created_by=ann,
        read_only=True,
        deleted=False,
        recycle_bin=False,
        tracked=True,
        private=False,
        description="Plan",
        file_type="pdf",
        checked_out_by=bob,
        checked_out_until_s=MOMENT_S,
        custom_fields={"custom_field_1": {"data_type": "string", "value": "x"}},
        version=Version(70, 3, 1234, MOMENT_S, "https://storage.example/x", ann),  # type: ignore[arg-type]
    )
    assert index(file_v2()) == [expected]
    assert in_body(json.dumps([as_v1(file_v2())]).encode()).kept == [expected]


def test_a_long_page_is_read_in_parts() -> None:
    items = [file_v2(id=str(number)) for number in range(1, 2 * decoding.AT_ONCE + 2)]
    parts = list(decoding.documents(json.dumps({"data": items}).encode(), ACTION))
    assert [len(part.kept) for part in parts] == [decoding.AT_ONCE, decoding.AT_ONCE, 1]
    assert [document.id for part in parts for document in part.kept] == [int(item["id"]) for item in items]


@pytest.mark.parametrize(
    "written",
    [
        "2017-01-04T21:27:18",
        "2017-01-04T21:27:18.987Z",
        "2017-01-04T22:27:18+01:00",
        "2017-01-04T21:27:18+00:00",
    ],
)
def test_times_with_and_without_zone_and_fractions(written: str) -> None:
    (document,) = index(file_v2(updated_at=written))
    assert document.updated_at_s == MOMENT_S


@pytest.mark.parametrize("absent", [None, "drop"])
def test_everything_optional_may_be_null_or_absent(absent: str | None) -> None:
    needed = {"id", "name", "document_type"}
    item = {k: v if k in needed else None for k, v in file_v2().items()}
    if absent == "drop":
        item = {k: item[k] for k in needed}
    (document,) = index(item)
    assert (document.parent_id, document.created_at_s, document.description) == (None, 0, "")
    assert (document.read_only, document.tracked, document.private) == (None, None, None)
    assert document.custom_fields == {}
    assert document.version is None
    assert "no version" in document.defect


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"size": -1}, "size"),
        ({"size": None}, "size"),
        ({"size": "12"}, "size"),
        ({"size": 1.5}, "size"),
        ({"size": 2**63}, "size"),
        ({"size": 10**400}, "size"),
        ({"size": True}, "size"),
        ({"url": None}, "address"),
        ({"url": ""}, "address"),
        ({"url": 5}, "address"),
        ({"url": "ftp://host/x"}, "address"),
        ({"url": "file:///etc/passwd"}, "address"),
        ({"url": "http://storage.example/x"}, "address"),
        ({"url": "https://user@storage.example/x"}, "address"),
        ({"url": "https://"}, "address"),
        ({"url": "/relative"}, "address"),
        ({"url": "https://storage.example/a\nb"}, "address"),
        ({"url": "https://stor\u0430ge.example/x"}, "address"),
        ({"id": None}, "id"),
        ({"id": "-5"}, "id"),
        ({"id": 0}, "id"),
        ({"id": str(2**63)}, "id"),
    ],
)
def test_an_unusable_version_is_a_defect_of_its_file_alone(broken: dict[str, Any], word: str) -> None:
    good, bad = index(file_v2(), file_v2(version_v2(**broken), id="8"))
    assert good.version is not None
    assert bad.version is None
    assert word in bad.defect
    assert (bad.name, bad.description) == ("plan.pdf", "Plan")  # the rest of it is kept


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/x",
        "http://localhost/x",
        "http://[::1]:1/x",
        "http://127.0.0.2:9/x",
        "https://a/B\u00fcro 1.pdf",
    ],
)
def test_plain_http_is_for_loopback_alone(url: str) -> None:
    (document,) = index(file_v2(version_v2(url=url)))
    assert document.version is not None
    assert document.version.url == url


@pytest.mark.parametrize(
    "item",
    [
        {"name": "x", "document_type": "folder"},
        {"id": "x", "name": "x", "document_type": "folder"},
        {"id": [], "name": "x", "document_type": "folder"},
        {"id": 2**63, "name": "x", "document_type": "folder"},
        {"id": 5, "document_type": "folder"},
        {"id": 5, "name": 6, "document_type": "folder"},
        {"id": 5, "name": "x", "document_type": "link"},
        {"id": 5, "name": "x"},
        {"id": 5, "name": "x", "document_type": "folder", "parent_id": "root"},
        "text",
        7,
        None,
        [],
    ],
)
def test_an_item_that_cannot_be_used_is_left_out_counted_and_logged(
    item: object, caplog: pytest.LogCaptureFixture
) -> None:
    found = listed(file_v2(), item, file_v2(id="9"))
    assert [document.id for document in found.kept] == [7, 9]
    assert found.refused == 1
    assert "left an item" in caplog.text


def test_wrong_types_cost_their_field_and_no_more() -> None:
    wrong = {
        "read_only": "yes",
        "created_at": 5,
        "updated_at": "soon",
        "created_by": "Ann",
        "custom_fields": [],
    }
    (document,) = index(file_v2(**wrong))
    assert (document.read_only, document.created_at_s, document.updated_at_s) == (None, 0, 0)
    assert (document.created_by, document.custom_fields) == (None, {})
    assert document.version is not None


def test_names_that_are_no_unicode_become_encodable() -> None:
    body = json.dumps({"data": [file_v2(name="a\ud800b")]}).encode()
    (document,) = in_body(body).kept
    assert document.name.encode().startswith(b"a")
    body = json.dumps({"data": [file_v2(name="aXb")]}).encode().replace(b"aXb", b"a\xffb")
    (document,) = in_body(body).kept
    assert document.name == "a\ufffdb"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", b"{}", b"7", b"null", b'{"data": null}', b'{"data": {}}', b"[" * 9999]
)
def test_a_body_without_a_list_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="Could not list it"):
        in_body(body)


def folder_v1(**changes: Any) -> dict[str, Any]:
    return {"id": 2, "name": "Drawings", "parent_id": 1, "updated_at": "2017-01-04T21:27:18Z", **changes}


def file_v1(**changes: Any) -> dict[str, Any]:
    return {"id": 7, "name": "plan.pdf", "parent_id": 2, "size": 5, "file_versions": [], **changes}


def folder(**changes: Any) -> Any:
    return decoding.folder_listing(json.dumps(folder_v1(**changes)).encode(), ACTION)


def test_a_folder_lists_one_level() -> None:
    versions = [as_v1(version_v2(id=str(70 + number), number=number, size=number)) for number in (2, 11, 3)]
    listing = folder(folders=[folder_v1(id=3, folders=[], files=[])], files=[file_v1(file_versions=versions)])
    assert (listing.folder.id, listing.folder.kind, listing.folder.read_only) == (2, Kind.FOLDER, None)
    below, plan = listing.children
    assert (below.id, below.kind) == (3, Kind.FOLDER)
    assert plan.kind is Kind.FILE
    assert plan.version.number == 11  # whatever their order
    assert plan.read_only is None  # this listing does not say


def test_the_newest_version_is_not_replaced_by_an_older_one_that_can_be_read() -> None:
    versions = [as_v1(version_v2(number=1)), as_v1(version_v2(id="71", number=2, size=-1))]
    (plan,) = folder(files=[file_v1(file_versions=versions)]).children
    assert plan.version is None
    assert "size" in plan.defect


def test_a_broken_child_leaves_its_folder_whole() -> None:
    listing = folder(folders=[folder_v1(id=3), {"id": 4}], files=[file_v1(), 5, file_v1(id=None)])
    assert [child.id for child in listing.children] == [3, 7]
    assert listing.refused == 3


@pytest.mark.parametrize("changes", [{}, {"folders": None, "files": None}, {"folders": 5, "files": "x"}])
def test_excluded_lists_may_be_absent(changes: dict[str, Any]) -> None:
    assert folder(**changes).children == []


def test_a_folder_without_id_is_malformed() -> None:
    with pytest.raises(Malformed, match="Could not list it"):
        folder(id=None)


def test_single_answers_and_their_defects() -> None:
    version = decoding.file_version(json.dumps(as_v1(version_v2())).encode(), ACTION)
    assert (version.id, version.size_bytes) == (70, 1234)
    with pytest.raises(Malformed):
        decoding.file_version(json.dumps(as_v1(version_v2(size=-1))).encode(), ACTION)
    assert decoding.file(json.dumps(file_v1()).encode(), ACTION).defect
    assert decoding.me(b'{"id": 5, "login": "a"}', ACTION).name == ""
    assert decoding.me(b'{"id": "5", "login": "a", "name": null}', ACTION).id == 5
    with pytest.raises(Malformed):
        decoding.me(b"[]", ACTION)
    found = decoding.companies(b'[{"id": 1, "name": "A", "is_active": false}, {"id": 2}, {}]', ACTION)
    assert [(c.id, c.active) for c in found.kept] == [(1, False), (2, True)]
    assert found.refused == 1
    (project,) = decoding.projects(b'[{"id": 1, "name": "A", "project_number": null}]', ACTION).kept
    assert (project.project_number, project.active) == ("", True)
