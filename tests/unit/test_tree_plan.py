"""Decisions of following: what totals mean, when a reading ends, which page comes next, when to list anew."""

import msgspec
import pytest

from procorefs.procore.wire.models import Document, DocumentId, Kind, Page
from procorefs.tree.sync import poll_plan
from procorefs.tree.sync.completeness import explaining
from procorefs.tree.sync.page_position import PageReading
from procorefs.tree.sync_state import COUNTINGS, Counting, KnownTotal, RowCounts

KNOWN = KnownTotal(total=102, rows=RowCounts(live=100, hidden=0, deleted=5))


def countings(total: int, rows: RowCounts) -> list[Counting]:
    return list(explaining(total, COUNTINGS, KNOWN, rows))


@pytest.mark.parametrize(
    ("what", "total", "rows", "with_deleted", "with_hidden"),
    [
        ("nothing happened", 102, RowCounts(100, 0, 5), {False, True}, {False, True}),
        ("a file was made", 103, RowCounts(101, 0, 5), {False, True}, {False, True}),
        ("a file was deleted, the bin is apart", 101, RowCounts(99, 0, 6), {False}, {False, True}),
        ("a file was deleted, the bin is in the list", 102, RowCounts(99, 0, 6), {True}, {False, True}),
        ("a folder of ten was deleted with all below", 91, RowCounts(99, 10, 6), {False}, {False}),
        ("a folder of ten was deleted, what is below lives on", 101, RowCounts(99, 10, 6), {False}, {True}),
        ("a folder of ten, all of it listed as deleted", 102, RowCounts(99, 10, 6), {True}, {True}),
        ("a folder of ten, below it nothing listed", 92, RowCounts(99, 10, 6), {True}, {False}),
    ],
)
def test_each_way_of_counting_explains_its_total(
    what: str, total: int, rows: RowCounts, with_deleted: set[bool], with_hidden: set[bool]
) -> None:
    expected = [
        one for one in COUNTINGS if one.with_deleted in with_deleted and one.with_hidden in with_hidden
    ]
    assert countings(total, rows) == expected, what


def test_no_way_explains_what_was_missed() -> None:
    assert countings(104, RowCounts(100, 0, 5)) == []
    assert countings(90, RowCounts(100, 0, 5)) == []


def documents(*times_s: int) -> list[Document]:
    return [
        Document(
            id=DocumentId(number),
            parent_id=None,
            name=str(number),
            kind=Kind.FOLDER,
            created_at_s=0,
            updated_at_s=time_s,
            created_by=None,
            read_only=None,
            deleted=False,
            recycle_bin=False,
            tracked=None,
            private=None,
            description="",
            file_type="",
            checked_out_by=None,
            checked_out_until_s=None,
            custom_fields={},
            version=None,
        )
        for number, time_s in enumerate(times_s)
    ]


@pytest.mark.parametrize(
    ("times_s", "unchanged", "final_s", "whole", "reads_on"),
    [
        ((), 0, 94, True, False),
        ((109, 108, 105, 90), 0, 94, True, False),
        ((109, 108, 105, 94), 0, 94, True, False),
        (
            (109, 108, 105, 101),
            99,
            200,
            False,
            True,
        ),  # all newer than what is known: our own changes end nothing
        ((100, 100, 99, 98), 0, 94, False, True),
        ((100, 100, 99, 98), 0, 100, True, False),  # nothing can appear there any more
        ((100, 100, 100, 100), 99, 94, False, False),  # a thousand files of one second, all known
        ((100, 100, 100, 100), 99, 94, True, True),
        ((100, 100, 100, 100), 49, 94, False, True),
        ((0, 0), 0, 94, True, False),  # no times at all
    ],
)
def test_a_poll_ends_where_nothing_is_new(
    times_s: tuple[int, ...], unchanged: int, final_s: int, whole: bool, reads_on: bool
) -> None:
    assert poll_plan.reads_on(documents(*times_s), unchanged, 100, final_s, whole=whole) is reads_on


def test_relisting_waits_longer_the_dearer_and_the_more_futile_it_is() -> None:
    assert poll_plan.relist_pause_s(1, 0) == 5
    assert poll_plan.relist_pause_s(10_000, 0) == 40_000
    assert poll_plan.relist_pause_s(1, 1) == 20
    assert (
        poll_plan.relist_pause_s(1, 20)
        == poll_plan.LONGEST_RELIST_PAUSE_S
        == poll_plan.relist_pause_s(10**9, 9)
    )


def page(number: int, *, total: int | None, of: int, size: int = 10, oldest_s: int = 0) -> Page[Document]:
    """Page `number` of `of`."""
    return Page(documents(oldest_s or 1000 - number), total, size, number + 1 if number < of else None)


def reading(total: int | None = 50, of: int = 5) -> PageReading:
    made = PageReading()
    assert made.take() == 1
    made.answered(1, page(1, total=total, of=of))
    return made


def test_pages_are_handed_out_once_each() -> None:
    pages = reading()
    assert [pages.take() for _ in range(5)] == [2, 3, 4, 5, None]
    assert pages.per_page == 10


def test_without_a_total_pages_follow_one_another() -> None:
    pages = reading(total=None)
    for number in range(2, 6):
        assert pages.take() == number
        assert pages.take() is None
        pages.answered(number, page(number, total=None, of=5))
    assert pages.take() is None


def test_a_total_with_an_upper_limit_does_not_end_the_reading() -> None:
    pages = reading(total=20, of=4)
    for number in (2, 3, 4):
        assert pages.take() == number
        pages.answered(number, page(number, total=20, of=4))
    assert pages.take() is None


def test_a_total_too_high_ends_with_the_pages() -> None:
    pages = reading(total=10_000, of=3)
    for number in (2, 3):
        assert pages.take() == number
        pages.answered(number, page(number, total=10_000, of=3))
    assert pages.take() is None


def test_a_deletion_has_pages_read_again() -> None:
    pages = reading()
    assert [pages.take(), pages.take()] == [2, 3]
    pages.answered(2, page(2, total=50, of=5))
    pages.answered(3, page(3, total=49, of=5))
    assert pages.disturbed
    assert pages.take() == 2
    assert pages.take() == 4


def test_a_deletion_while_pages_are_under_way_has_all_of_them_read_again() -> None:
    pages = reading()
    assert [pages.take(), pages.take(), pages.take()] == [2, 3, 4]
    pages.answered(4, page(4, total=38, of=4))
    assert pages.reached_s == 999
    assert [pages.take(), pages.take(), pages.take()] == [1, 2, 3]


def test_what_was_reached_has_no_gap() -> None:
    pages = reading()
    assert pages.reached_s == 999
    assert [pages.take(), pages.take(), pages.take()] == [2, 3, 4]
    pages.answered(4, page(4, total=50, of=5))
    pages.answered(3, page(3, total=50, of=5))
    assert pages.reached_s == 999
    pages.answered(2, page(2, total=50, of=5))
    assert pages.reached_s == 996


def test_pages_of_another_size_break_the_reading() -> None:
    pages = reading()
    assert pages.take() == 2
    pages.answered(2, page(2, total=50, of=10, size=5))
    assert pages.broken
    assert pages.take() is None


def test_refused_items_are_counted() -> None:
    pages = reading()
    assert pages.take() == 2
    pages.answered(2, msgspec.structs.replace(page(2, total=50, of=5), refused=3))
    assert pages.refused == 3
