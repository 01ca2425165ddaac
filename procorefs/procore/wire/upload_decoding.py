"""Decodes and checks the API's answers about uploads: where bytes go, and with which headers. All of it fits JSON."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from procorefs.procore.errors import Malformed
from procorefs.procore.http.addresses import acceptable_url
from procorefs.procore.wire.lenient_json import object_in, untyped

COMPLETE = "complete"
_UUID = re.compile(r"[0-9A-Za-z-]{1,100}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
"""A header's name."""

_FIELD = re.compile(r'[^"\x00-\x1f\x7f]{1,200}')
"""A form field's name."""

_HEADERS = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-md5",
        "content-type",
    }
)
"""Headers that a storage may ask for with a segment, beside its own `x-…` ones; none that carries a login."""

_MISLEADING = ("x-forwarded", "x-http-method", "x-method", "x-original", "x-real-ip", "x-rewrite")
_STATUSES = ("non_segmented", "ready", "receiving", COMPLETE)
MAX_VALUE = 64 * 1024
"""Characters of one form field or header."""

MAX_ETAG = 200


class WholeUpload(msgspec.Struct, frozen=True, gc=False):
    """Where a file goes in one piece, for an hour from `created_at_s` on (Unix seconds)."""

    uuid: str
    url: str
    fields: dict[str, str]
    size_bytes: int
    created_at_s: int


class SegmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One piece as it is announced; digests are hexadecimal."""

    size_bytes: int
    sha256: str
    md5: str | None = None


class Segment(SegmentPlan, frozen=True, kw_only=True):
    """The same, and where it goes."""

    url: str
    headers: dict[str, str]


class SegmentedUpload(msgspec.Struct, frozen=True, gc=False):
    """Where the segments of a file go, in the file's order."""

    uuid: str
    segments: list[Segment]
    created_at_s: int


class UploadLook(msgspec.Struct, frozen=True):
    """What Procore says of an upload now."""

    uuid: str
    status: str
    """Non_segmented, ready, receiving, complete; empty: it did not say."""
    etags: list[str | None]
    """Of the segments that the storage has, as far as the answer tells; empty: a whole one."""


def whole(body: bytes, size_bytes: int, created_at_s: int, action: str) -> WholeUpload:
    """The answer to a new upload in one piece. Raises Malformed."""
    answer = object_in(untyped(body, action), action)
    fields = _texts(answer.get("fields"))
    if fields is None or not all(_FIELD.fullmatch(name) for name in fields):
        raise Malformed(f"Could not {action}: the form's fields cannot be used")
    return WholeUpload(_uuid(answer, action), _url(answer, action), fields, size_bytes, created_at_s)


def segmented(body: bytes, plan: Sequence[SegmentPlan], created_at_s: int, action: str) -> SegmentedUpload:
    """The answer to a new upload in segments, which must be those that were planned. Raises Malformed."""
    answer = object_in(untyped(body, action), action)
    found = answer.get("segments")
    if not isinstance(found, list) or len(found) != len(plan):
        raise Malformed(f"Could not {action}: Procore's segments are not those that were announced")
    segments = [_segment(one, wanted, action) for one, wanted in zip(found, plan, strict=True)]
    return SegmentedUpload(_uuid(answer, action), segments, created_at_s)


def status_of(body: bytes, action: str) -> str:
    """The status an upload has; empty when the answer does not say. Raises Malformed."""
    status = object_in(untyped(body, action), action).get("status")
    return status if status in _STATUSES else ""


def look(body: bytes, action: str) -> UploadLook:
    """An upload as it is now. Raises Malformed."""
    answer = object_in(untyped(body, action), action)
    found = answer.get("segments")
    segments = found if isinstance(found, list) else []
    etags = [bare_etag(one.get("etag")) if isinstance(one, dict) else None for one in segments]
    return UploadLook(_uuid(answer, action), status_of(body, action), etags)


def bare_etag(value: object) -> str | None:
    """An etag without its quotes; None when it is none."""
    if not isinstance(value, str):
        return None
    bare = value.strip().removeprefix("W/").strip('"')
    return bare if bare and bare.isascii() and bare.isprintable() and len(bare) <= MAX_ETAG else None


def _segment(found: object, wanted: SegmentPlan, action: str) -> Segment:
    if not isinstance(found, dict):
        raise Malformed(f"Could not {action}: one of Procore's segments is no object")
    size, sha256, headers = found.get("size"), found.get("sha256"), _texts(found.get("headers", {}))
    if str(size) != str(wanted.size_bytes) or not _same_digest(sha256, wanted.sha256):
        raise Malformed(f"Could not {action}: Procore's segments are not those that were announced")
    if headers is None or not all(_sendable(name, value, wanted) for name, value in headers.items()):
        raise Malformed(f"Could not {action}: the headers for a segment cannot be sent")
    return Segment(
        size_bytes=wanted.size_bytes,
        sha256=wanted.sha256,
        md5=wanted.md5,
        url=_url(found, action),
        headers=headers,
    )


def _same_digest(found: object, wanted: str) -> bool:
    """The digest that came back, where one did."""
    return found is None or (isinstance(found, str) and found.lower() == wanted.lower())


def _sendable(name: str, value: str, wanted: SegmentPlan) -> bool:
    """Can it go out as a header, and does it leave the body what it is?"""
    lower = name.lower()
    if lower == "content-length":
        return value == str(wanted.size_bytes)
    is_allowed = lower in _HEADERS or (lower.startswith("x-") and not lower.startswith(_MISLEADING))
    good = _TOKEN.fullmatch(name) and is_allowed
    return bool(good) and value.isascii() and (value.isprintable() or not value)


def _texts(value: object) -> dict[str, str] | None:
    """An object of nothing but texts; None when it is something else."""
    if not isinstance(value, dict):
        return None
    good = all(isinstance(text, str) and len(text) <= MAX_VALUE for text in value.values())
    return value if good else None


def _uuid(answer: dict[str, Any], action: str) -> str:
    uuid = answer.get("uuid")
    if not isinstance(uuid, str) or not _UUID.fullmatch(uuid):
        raise Malformed(f"Could not {action}: Procore's answer does not name the upload")
    return uuid


def _url(answer: dict[str, Any], action: str) -> str:
    url = answer.get("url")
    if not isinstance(url, str) or not acceptable_url(url):
        raise Malformed(f"Could not {action}: Procore names an address that may not be used")
    return url
