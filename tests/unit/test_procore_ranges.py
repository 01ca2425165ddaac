"""What answers to range requests bring, and which are refused."""

import pytest

from procorefs.procore.errors import Malformed
from procorefs.procore.http.byte_ranges import Body, body_of, range_header, strong_etag


def test_the_header_names_the_last_byte() -> None:
    assert range_header(0, 1) == "bytes=0-0"


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (206, {"content-range": "bytes 10-19/100"}, Body(10, 20)),
        (206, {"content-range": "Bytes 10-14/*"}, Body(10, 15)),  # fewer than asked for
        (206, {"content-range": "bytes 5-99/100"}, Body(5, 100)),
        (200, {"content-length": "100"}, Body(0, 100)),
        (200, {}, Body(0, 100)),
    ],
)
def test_answers_that_can_be_used(status: int, headers: dict[str, str], expected: Body) -> None:
    assert body_of(status, headers, 10, 100, "read it") == expected


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {}),
        (206, {"content-range": "items 10-19/100"}),
        (206, {"content-range": "bytes 10-19/101"}),
        (206, {"content-range": "bytes 11-19/100"}),
        (206, {"content-range": "bytes 0-9/100"}),
        (206, {"content-range": "bytes 10-100/*"}),
        (206, {"content-range": "bytes 19-10/100"}),
        (206, {"content-type": "multipart/byteranges; boundary=x"}),
        (200, {"content-length": "99"}),
        (200, {"content-length": "101"}),
    ],
)
def test_answers_that_cannot_be_the_file(status: int, headers: dict[str, str]) -> None:
    with pytest.raises(Malformed, match="Could not read it"):
        body_of(status, headers, 10, 100, "read it")


def test_only_strong_etags_are_believed() -> None:
    assert strong_etag({"etag": '"abc"'}) == '"abc"'
    assert strong_etag({"etag": 'W/"abc"'}) is None
    assert strong_etag({}) is None
