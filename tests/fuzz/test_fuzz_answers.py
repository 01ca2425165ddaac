"""Hostile JSON of Procore and its login service: models or Malformed, and models that everything else can take."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procorefs.procore import errors
from procorefs.procore.errors import Malformed, ProcoreError
from procorefs.procore.wire import decoding, upload_decoding
from procorefs.procore.wire.decoding import Items
from procorefs.procore.wire.field_values import entry_labels, same_value, writable_form
from procorefs.procore.wire.models import Document
from procorefs.procore.wire.upload_decoding import SegmentPlan
from procorefs.tree.document_detail import decode_detail, encode_detail
from procorefs.tree.naming.name_rules import shown_name
from procorefs.xattr.value_texts import moment
from tests.support.fuzzing import DEEP, JSON, bounded, damaged, fuzz, json_bytes, objects


def documents(body: bytes, action: str) -> Items:
    """The documents of a page, in one part."""
    parts = list(decoding.documents(body, action))
    return Items([document for part in parts for document in part.kept], sum(part.refused for part in parts))


DECODERS: list[Callable[[bytes, str], object]] = [
    documents,
    decoding.folder_listing,
    decoding.file,
    decoding.folder,
    decoding.versions,
    decoding.file_version,
    decoding.me,
    decoding.companies,
    decoding.projects,
    decoding.tags,
    decoding.tag,
    decoding.field_definitions,
    decoding.lov_entries,
    upload_decoding.look,
    upload_decoding.status_of,
]

TIMES = st.sampled_from(
    [
        "2017-01-04T21:27:18Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00",
        "x",
    ]
)
PERSON = objects(["id", "name", "login"])
VERSION = st.fixed_dictionaries(
    {
        "id": JSON,
        "number": JSON,
        "size": JSON,
        "url": st.sampled_from(["https://h/a", "http://h", "https://[", 1]),
    },
    optional={"created_at": TIMES | JSON, "created_by": PERSON | JSON},
)
ENTRY = {
    "id": st.integers(1, 9) | st.just("7") | JSON,
    "name": st.text(max_size=9) | JSON,
    "document_type": st.sampled_from(["file", "folder", "x", 1]),
}
MORE = {
    "parent_id": JSON,
    "created_at": TIMES | JSON,
    "updated_at": TIMES | JSON,
    "created_by": PERSON | JSON,
    "private": JSON,
    "custom_fields": objects(["custom_field_1"]) | JSON,
    "file": objects(["description", "file_type", "checked_out_by", "checked_out_until", "current_version"])
    | JSON,
    "file_versions": st.lists(VERSION | JSON, max_size=3) | JSON,
    "checked_out_until": TIMES | JSON,
}
DOCUMENT = st.fixed_dictionaries(ENTRY, optional=MORE)
LISTING = st.fixed_dictionaries(
    ENTRY,
    optional=MORE
    | {"files": st.lists(DOCUMENT | JSON, max_size=3), "folders": st.lists(DOCUMENT | JSON, max_size=3)},
)
SMALL = objects(
    ["id", "name", "label", "data_type", "custom_field_definition_id", "company", "status", "segments"]
)
ANSWERS = (
    st.one_of(
        JSON,
        DOCUMENT,
        LISTING,
        VERSION,
        SMALL,
        st.lists(DOCUMENT | SMALL | JSON, max_size=4),
        st.lists(DOCUMENT | JSON, max_size=4).map(lambda items: {"data": items}),
        DOCUMENT.map(lambda item: {"data": item}),
    ).map(json_bytes)
    | st.sampled_from(DEEP)
    | st.binary(max_size=60)
)


def found_in(answer: object) -> list[Document]:
    items = answer.kept if isinstance(answer, Items) else getattr(answer, "children", None) or [answer]
    return [item for item in items if isinstance(item, Document)]


@fuzz
@given(ANSWERS | damaged(ANSWERS))
@example(json_bytes([{"id": 1, "name": "a", "document_type": "file", "custom_fields": {"a": [10**400]}}]))
def test_answers_become_models_that_can_be_kept(body: bytes) -> None:
    for decode in DECODERS:
        with bounded():
            try:
                answer = decode(body, "fuzz")
            except Malformed:
                continue
        msgspec.json.encode(answer)
        for document in found_in(answer):
            detail = encode_detail(document, None)
            assert decode_detail(encode_detail(document, detail)) == decode_detail(detail)
            assert 0 < len(shown_name(document.name, document.id, lambda _name: False)) < 256
            for unix_s in (document.created_at_s, document.updated_at_s, document.checked_out_until_s or 0):
                moment(unix_s)
            for shown in document.custom_fields.values():
                same_value(writable_form(shown), writable_form(shown))
                entry_labels(shown)


FIELD = st.fixed_dictionaries(
    {"data_type": st.sampled_from(["string", "decimal", "boolean", "lov_entry", "lov_entries", "x"]) | JSON},
    optional={"value": st.lists(objects(["id", "label"]), max_size=3) | objects(["id", "label"]) | JSON},
)


@fuzz
@given(FIELD | JSON)
@example({"data_type": "lov_entry", "value": {"id": float("inf")}})
@example({"data_type": "lov_entry", "value": {"id": float("inf"), "label": "a"}})
def test_custom_fields_have_a_writable_form_or_none(shown: Any) -> None:
    form = writable_form(shown)
    same_value(form, form)
    assert all(isinstance(entry, int) for entry in entry_labels(shown))


@fuzz
@given(st.integers(100, 999), ANSWERS)
def test_every_refusal_is_an_error_with_a_printable_sentence(status: int, body: bytes) -> None:
    for error in (
        errors.error_of_answer("fuzz", status, body),
        errors.error_of_api("fuzz", status, body),
        errors.error_of_api("fuzz", status, body, is_list=True),
        errors.error_of_login("fuzz", status, body),
    ):
        assert isinstance(error, ProcoreError)
        assert str(error).isprintable()
        assert len(str(error)) < 1000


@pytest.mark.parametrize("levels", [990, 960, 900, 500, 100, 70])
def test_an_error_that_is_nested_as_deeply_as_python_can_is_told_in_short(levels: int) -> None:
    body = b'{"errors":' + b"[" * levels + b"]" * levels + b"}"
    assert str(errors.error_of_api("fuzz", 422, body)).isprintable()


PLAN = [SegmentPlan(size_bytes=5, sha256="aa")]
SEGMENT = st.fixed_dictionaries(
    {
        "size": st.just(5),
        "sha256": st.just("AA"),
        "url": st.sampled_from(["https://h/a", "https://[", "\ud800"]),
    },
    optional={"headers": objects(["Host", "x-a", "content-type", "Cookie"]), "etag": JSON},
)
UPLOAD = st.fixed_dictionaries(
    {"uuid": st.just("u-1") | JSON, "url": st.just("https://h/a") | JSON},
    optional={"fields": objects(["key", "policy"]), "segments": st.lists(SEGMENT | JSON, max_size=2)},
).map(json_bytes)


@fuzz
@given(UPLOAD | ANSWERS)
def test_uploads_are_addresses_and_headers_that_can_be_kept_and_sent(body: bytes) -> None:
    for decode in (
        lambda: upload_decoding.whole(body, 5, 0, "fuzz"),
        lambda: upload_decoding.segmented(body, PLAN, 0, "fuzz"),
    ):
        try:
            upload: Any = decode()
        except Malformed:
            continue
        assert msgspec.json.decode(msgspec.json.encode(upload), type=type(upload)) == upload
        for segment in getattr(upload, "segments", []):
            assert not {name.lower() for name in segment.headers} & {"host", "cookie", "authorization"}
            assert all(name.isascii() and value.isascii() for name, value in segment.headers.items())
