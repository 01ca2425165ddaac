"""Checks which bytes an answer to a range request brings, from its status and headers. Pure."""

import re
from collections.abc import Mapping

import msgspec

from procorefs.procore.errors import Malformed

_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\s*", re.IGNORECASE)


class Body(msgspec.Struct, frozen=True):
    """The bytes [start, stop) of the file that a body brings."""

    start: int
    stop: int


def range_header(start: int, end: int) -> str:
    """The header that asks for [start, end)."""
    return f"bytes={start}-{end - 1}"


def body_of(status: int, headers: Mapping[str, str], position: int, size_bytes: int, action: str) -> Body:
    """What the answer 200 or 206 to a request from `position` brings. Raises Malformed when it cannot be
    the file of `size_bytes` bytes, or does not begin in time."""
    if status == 206:
        return _part(headers.get("content-range", ""), position, size_bytes, action)
    length = headers.get("content-length")
    if length is not None and length.strip() != str(size_bytes):
        raise _other_size(action, length[:20], size_bytes)
    return Body(0, size_bytes)


def _part(content_range: str, position: int, size_bytes: int, action: str) -> Body:
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None:
        raise Malformed(f"Could not {action}: the storage sent a part without saying which")
    first, last = int(match[1]), int(match[2])
    if match[3] != "*" and int(match[3]) != size_bytes:
        raise _other_size(action, match[3], size_bytes)
    if not first <= position <= last < size_bytes:
        raise Malformed(f"Could not {action}: the storage sent another part than was asked for")
    return Body(first, last + 1)


def strong_etag(headers: Mapping[str, str]) -> str | None:
    """An ETag that promises the same bytes; weak ones promise less."""
    etag = headers.get("etag", "")
    return etag if etag.startswith('"') and etag.isprintable() and len(etag) < 500 else None


def _other_size(action: str, found: str, size_bytes: int) -> Malformed:
    return Malformed(f"Could not {action}: the storage has {found} bytes of it, Procore lists {size_bytes}")
