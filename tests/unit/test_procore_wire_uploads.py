"""What the API says of uploads, checked before anything is sent anywhere."""

import json
from typing import Any

import pytest

from procorefs.procore.errors import Malformed
from procorefs.procore.wire.upload_decoding import SegmentPlan, bare_etag, look, segmented, status_of, whole

SHA = "ab" * 32
PLAN = [SegmentPlan(size_bytes=5, sha256=SHA), SegmentPlan(size_bytes=3, sha256=SHA, md5="cd" * 16)]


def answer(**changes: Any) -> bytes:
    segments = [
        {"size": 5, "sha256": SHA, "md5": None, "url": "https://store/0", "headers": {"x-a": "b"}},
        {"size": "3", "sha256": SHA.upper(), "md5": None, "url": "https://store/1", "headers": {}},
    ]
    return json.dumps({"uuid": "U-1", "status": "ready", "segments": segments, **changes}).encode()


def first(**changes: Any) -> bytes:
    segments = json.loads(answer())["segments"]
    segments[0] |= changes
    return answer(segments=segments)


def test_segments_are_those_that_were_planned() -> None:
    found = segmented(answer(), PLAN, 7, "begin")
    assert (found.uuid, found.created_at_s) == ("U-1", 7)
    assert [(one.size_bytes, one.sha256, one.md5, one.url, one.headers) for one in found.segments] == [
        (5, SHA, None, "https://store/0", {"x-a": "b"}),
        (3, SHA, "cd" * 16, "https://store/1", {}),
    ]


@pytest.mark.parametrize(
    "body",
    [
        answer(uuid=None),
        answer(uuid="a/b"),
        answer(segments=[]),
        answer(segments="x"),
        answer(segments=[5, 6]),
        first(size=6),
        first(size=None),
        first(sha256="00" * 32),
        first(sha256=5),
        first(url="http://store/0"),
        first(url=None),
        first(headers=None),
        first(headers={"x-a": 5}),
        first(headers={"x a": "b"}),
        first(headers={"x-a": "b\r\nc: d"}),
        first(headers={"x-a": "ü"}),
        first(headers={"Content-Length": "6"}),
        first(headers={"transfer-encoding": "chunked"}),
        b"<html>",
        b"[" * 100_000,
    ],
)
def test_other_segments_are_refused(body: bytes) -> None:
    with pytest.raises(Malformed, match="Could not begin: "):
        segmented(body, PLAN, 7, "begin")


def test_fields_keep_their_order_and_their_text() -> None:
    fields = {"z": "1", "a": "multi\r\nline", "key": 'with "quotes"', "Content-Type": ""}
    body = json.dumps({"uuid": "U", "url": "https://store/x?sig=1", "fields": fields}).encode()
    found = whole(body, 5, 7, "begin")
    assert list(found.fields.items()) == list(fields.items())
    wrapped = json.dumps({"data": json.loads(body)}).encode()
    assert whole(wrapped, 5, 7, "begin") == found


@pytest.mark.parametrize(
    ("value", "bare"),
    [
        ('"abc"', "abc"),
        ("abc", "abc"),
        ('W/"abc"', "abc"),
        (' "a-1" ', "a-1"),
        ("", None),
        ('""', None),
        ("ü", None),
        ("a\nb", None),
        ("x" * 999, None),
        (None, None),
        (5, None),
    ],
)
def test_etags_lose_their_quotes(value: object, bare: str | None) -> None:
    assert bare_etag(value) == bare


def test_a_look_takes_what_is_there() -> None:
    assert look(b'{"uuid": "U"}', "look").status == ""
    seen = look(b'{"uuid": "U", "status": "receiving", "segments": [{"etag": "\\"a\\""}, {}, 5]}', "look")
    assert (seen.status, seen.etags) == ("receiving", ["a", None, None])
    assert status_of(b'{"status": "exploded"}', "look") == ""
    with pytest.raises(Malformed):
        look(b'{"status": "ready"}', "look")
