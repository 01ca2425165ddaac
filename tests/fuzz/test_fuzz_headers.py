"""Hostile headers: limits, Date, Retry-After, Content-Range, Link, ETag, Location, and addresses."""

import ipaddress
import math
from contextlib import suppress
from urllib.parse import urlsplit

from hypothesis import example, given
from hypothesis import strategies as st

from procorefs.limiter.answers import LONGEST_S, ServerClock, read_report
from procorefs.limiter.gate import LocalLimiter
from procorefs.procore.errors import Malformed
from procorefs.procore.http.addresses import AddressRule, acceptable_url, redirected
from procorefs.procore.http.byte_ranges import body_of, strong_etag
from procorefs.procore.wire.decoding import Items
from procorefs.procore.wire.paging import Answer, page_of
from tests.support.fuzzing import ODD, bounded, damaged, fuzz

VALUES = st.one_of(
    st.sampled_from(
        [*ODD, "nan", "inf", "-inf", "1e999", "1e300", "-1", "1_0", "٣", "0x10", " 5 ", "9" * 5000]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.text(max_size=20),
)
DATES = st.one_of(
    VALUES,
    st.sampled_from(
        [
            "Wed, 04 Jan 2017 21:27:18 GMT",
            "1 Jan 0001 00:00:00 +2359",
            "Mon, 1 Jan 99999 00:00:00 +9999999999",
            "Mon, 99999999999999999999 Nov 2024 00:00:00 GMT",
            "31 Dec 9999 23:59:59 -2359",
        ]
    ),
    damaged(st.just(b"Wed, 04 Jan 2017 21:27:18 GMT")).map(lambda text: text.decode("latin-1")),
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "date": DATES,
        "retry-after": DATES,
        "x-rate-limit-limit": VALUES,
        "x-rate-limit-remaining": VALUES,
        "x-rate-limit-reset": VALUES,
    },
)


@fuzz
@given(st.lists(st.tuples(st.sampled_from([0, 200, 429, 503, 500, 999]), LIMITS), max_size=5))
async def test_the_budget_learns_from_any_headers(answers: list[tuple[int, dict[str, str]]]) -> None:
    gate = LocalLimiter(unix_time_s=lambda: 1.7e9, jitter=lambda: 0.5)
    with bounded():
        for status, headers in answers:
            gate.observe(status, headers)
    status_now = gate.snapshot()
    assert status_now.hourly.limit >= 0
    assert 0 <= status_now.hourly.remaining <= max(status_now.hourly.limit, 0)
    assert status_now.paused_until is None or math.isfinite(status_now.paused_until)


@fuzz
@given(st.integers(0, 999), LIMITS, st.floats(0, 1e10))
def test_no_header_names_a_pause_longer_than_a_window(
    status: int, headers: dict[str, str], now_s: float
) -> None:
    report = read_report(status, headers, now_s)
    assert report.retry_after_s is None or 0 <= report.retry_after_s <= LONGEST_S
    assert report.reading is None or report.reading.reset_in_s <= LONGEST_S
    assert math.isfinite(ServerClock().unix_s(headers.get("date"), 0.0, 1.0, now_s))


RANGES = st.one_of(
    VALUES,
    st.from_regex(r"\s*bytes\s+\d{1,25}-\d{1,25}/(\d{1,25}|\*)\s*", fullmatch=True),
    damaged(st.just(b"bytes 0-9/10")).map(lambda text: text.decode("latin-1")),
)
PARTS = st.fixed_dictionaries(
    {}, optional={"content-range": RANGES, "content-length": VALUES, "etag": VALUES}
)


@fuzz
@given(st.sampled_from([200, 206]), PARTS, st.integers(0, 20), st.integers(1, 20))
@example(206, {"content-range": "bytes 0-9/10"}, 3, 10)
def test_a_body_is_within_the_file(
    status: int, headers: dict[str, str], position: int, size_bytes: int
) -> None:
    try:
        body = body_of(status, headers, position, size_bytes, "fuzz")
    except Malformed as error:
        assert len(str(error)) < 300
    else:
        assert 0 <= body.start <= body.stop <= size_bytes
    etag = strong_etag(headers)
    assert etag is None or (etag.isprintable() and len(etag) < 500)


LINKS = VALUES | st.from_regex(
    r'(<https://h/a\?page=\d{0,30}[^>]?>; ?rel="?(next|last)"?,? ?){0,3}', fullmatch=True
)
PAGING = st.fixed_dictionaries(
    {}, optional={"total": VALUES, "per-page": VALUES, "link": LINKS, "date": DATES}
)


@fuzz
@given(PAGING, st.integers(0, 5), st.integers(1, 50), st.integers(1, 1000))
@example({"link": "<http://[>; rel=next"}, 1, 1, 1)
def test_what_follows_a_page_comes_later(
    headers: dict[str, str], count: int, page: int, per_page: int
) -> None:
    with bounded():
        found: object = page_of(Answer(headers, b""), Items([None] * count, 0), page, per_page).next_page
    assert found is None or (isinstance(found, int) and found > page)


ADDRESSES = st.one_of(
    st.sampled_from(
        [
            "https://h/a", "http://127.0.0.1/a", "http://[::1]:1/", "https://[", "http://[x", "//h", "/a", "?a",
            "https://169.254.169.254/", "https://2130706433/", "https://0x7f.1/", "https://localhost./",
            "https://127.1/", "https://[::ffff:10.0.0.1]/", "https://u@h/", "https://h\\@10.0.0.1/", "https://H:x/",
            "file:///etc/passwd", "https://10.0.0.1./", "https://api.example.com", "https://\uff4cocalhost/",
        ]
    ),
    st.text(max_size=30).map(lambda text: f"https://{text}"),
    damaged(st.just(b"https://api.example.com:443/a?b#c")).map(lambda text: text.decode("latin-1")),
    VALUES,
)  # fmt: skip


@fuzz
@given(ADDRESSES, ADDRESSES)
@example("https://h/a", "http://[x")
@example("https://h/a", "https://localhost./")
@example("https://h/a", "https://10.0.0.1./")
def test_a_redirect_leads_to_an_acceptable_address_or_nowhere(url: str, location: str) -> None:
    rule = AddressRule("api.example.com")
    target = redirected(url, location)
    if rule.accepts(target):
        assert target.lower().startswith("https://")
        assert acceptable_url(target)
        host = (urlsplit(target).hostname or "").rstrip(".")
        assert host != "localhost"
        with suppress(ValueError):
            assert ipaddress.ip_address(host).is_global
