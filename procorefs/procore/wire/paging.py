"""Finds the next page of a list from its headers, which may be missing or wrong."""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from procorefs.procore.wire.decoding import Items
from procorefs.procore.wire.models import Page

T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True):
    """A successful answer; header names are lower case or case is ignored."""

    headers: Mapping[str, str]
    body: bytes
    took_s: float = 0.0


def page_of(answer: Answer, items: Items, page: int, asked_per_page: int) -> Page[T]:
    """A page with the truth about its size and what follows (procore-api.md, Pagination).

    `next` of Link is followed. Without it there is more as long as Total says so; a smaller Total proves nothing, so
    without Link a full page has a successor.
    """
    count = len(items.kept) + items.refused
    total = _whole(answer.headers.get("total"))
    per_page = _whole(answer.headers.get("per-page")) or None
    link = answer.headers.get("link")
    linked = next_in_link(link or "", page)
    size = per_page or asked_per_page
    if count == 0:
        following = None
    elif linked is not None:
        following = linked
    else:
        # Where neither header nor item count tells the size of the pages, this page's own is the size.
        reached = page * per_page if per_page else (page - 1) * asked_per_page + count
        is_more = reached < (total or 0) or (link is None and count >= size)
        following = page + 1 if is_more else None
    if per_page is None and following is not None:
        size = count if page == 1 else asked_per_page
    return Page(items.kept, total, size, following, items.refused, _asked_at_s(answer))


def _asked_at_s(answer: Answer) -> int | None:
    """When the server was asked, by its own clock: it wrote the Date while we waited."""
    try:
        written_s = parsedate_to_datetime(answer.headers.get("date") or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return math.floor(written_s - answer.took_s)


def next_in_link(link: str, page: int) -> int | None:
    """The page that `rel="next"` names; None when there is none. An address without a page is the next one."""
    for part in link.split(","):
        address, _, parameters = part.partition(";")
        if not _is_next(parameters):
            continue
        try:
            values = parse_qs(urlsplit(address.strip().strip("<>")).query).get("page", [])
        except ValueError:
            values = []
        named = _whole(values[0]) if values else None
        return named if named is not None and named > page else page + 1
    return None


def _is_next(parameters: str) -> bool:
    words = parameters.replace('"', "").replace("'", "").lower()
    return any(word.strip() == "rel=next" for word in words.split(";"))


def _whole(value: str | None) -> int | None:
    if value is None or not value.isascii() or not value.strip().isdigit() or len(value) > 18:
        return None
    return int(value)
