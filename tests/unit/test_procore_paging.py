"""What follows a page, whatever of the headers is there."""

import httpx
import pytest

from procorefs.procore.wire.decoding import Items
from procorefs.procore.wire.models import Page
from procorefs.procore.wire.paging import Answer, next_in_link, page_of


def page(
    headers: dict[str, str], count: int, number: int = 1, asked: int = 100
) -> tuple[int | None, int | None]:
    """Next page and size of a page with `count` items."""
    found: Page[int] = page_of(Answer(httpx.Headers(headers), b""), Items([0] * count, 0), number, asked)
    return found.next_page, found.per_page


def link(number: int) -> str:
    first = '<https://api.example/x?page=1&per_page=10>; rel="first"'
    return f'{first}, <https://api.example/x?per_page=10&page={number}>; rel="next"'


@pytest.mark.parametrize(
    ("headers", "count", "number", "expected"),
    [
        ({"Link": link(2), "Total": "25", "Per-Page": "10"}, 10, 1, (2, 10)),
        ({"Link": "", "Total": "5", "Per-Page": "10"}, 5, 1, (None, 10)),
        ({"Link": "", "Total": "10", "Per-Page": "10"}, 10, 1, (None, 10)),
        ({"Total": "25", "Per-Page": "10"}, 10, 1, (2, 10)),
        ({"Total": "25", "Per-Page": "10"}, 5, 3, (None, 10)),
        ({"Total": "25"}, 10, 1, (2, 10)),  # a cap that nobody told us of
        ({"Per-Page": "10"}, 10, 1, (2, 10)),
        ({"Per-Page": "10"}, 9, 1, (None, 10)),
        ({}, 100, 1, (2, 100)),
        ({}, 99, 1, (None, 100)),
        ({"Total": "x", "Per-Page": "-5", "Link": "nonsense"}, 3, 1, (None, 100)),
        ({"Per-Page": "0", "Total": "300"}, 100, 1, (2, 100)),
        ({"Link": link(1)}, 10, 3, (4, 10)),  # never backwards
        ({"Link": link(2), "Total": "9"}, 0, 1, (None, 100)),  # an empty page is the last
    ],
)
def test_next_page_and_size(
    headers: dict[str, str], count: int, number: int, expected: tuple[int | None, int]
) -> None:
    asked = 100 if number == 1 else 10
    assert page(headers, count, number, asked) == expected


@pytest.mark.parametrize(
    ("date", "took_s", "expected"),
    [
        ("Thu, 01 Jan 1970 00:20:00 GMT", 0.0, 1200),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 2.5, 1197),  # written just before it came
        ("", 2.5, None),
        ("tomorrow", 2.5, None),
        (None, 2.5, None),
    ],
)
def test_when_a_page_was_asked_for_by_the_servers_clock(
    date: str | None, took_s: float, expected: int | None
) -> None:
    headers = httpx.Headers({} if date is None else {"Date": date})
    found: Page[int] = page_of(Answer(headers, b"", took_s), Items([0], 0), 1, 100)
    assert found.asked_at_s == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (link(7), 7),
        ("<https://h/x?page=7>; rel=next", 7),
        ("<https://h/x?cursor=abc>; rel='next'", 3),
        ('<https://h/x?page=7>; rel="prev"', None),
        ("<https://[/x?page=7>; rel=next", 3),
        ("", None),
    ],
)
def test_link_headers(header: str, expected: int | None) -> None:
    assert next_in_link(header, 2) == expected
