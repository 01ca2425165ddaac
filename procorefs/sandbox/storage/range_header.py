"""Range and If-Range of HTTP, for one range. (RFC 9110, section 14)"""

import re

_ONE_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*\Z")


class NotSatisfiable(Exception):
    """416: the range begins behind the end."""


def requested_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """[start, end) of the bytes asked for; None: all of it (no range, several, or one that makes no sense).

    Raises NotSatisfiable.
    """
    match = _ONE_RANGE.match(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = int(last)
        if length == 0 or size_bytes == 0:
            raise NotSatisfiable
        return max(size_bytes - length, 0), size_bytes
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        raise NotSatisfiable
    return start, min(int(last) + 1, size_bytes) if last else size_bytes


def still_same(if_range: str | None, etag: str) -> bool:
    """Does If-Range allow a part; a weak etag never does."""
    return if_range is None or (if_range == etag and not etag.startswith("W/") and etag != "")
