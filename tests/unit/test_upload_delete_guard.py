"""The delete guard's decisions: what is counted together, and when bytes are of another type than the name says."""

import random

import pytest

from procorefs.tree.nodes import Inode
from procorefs.upload.delete_guard import BUCKET_S, WINDOW_S, WishWindow
from procorefs.upload.planning.content_signatures import HEAD_BYTES, has_signature, is_other_type

LIMIT = 3
START_S = 1.8e9

PDF, ZIP, OLE = b"%PDF-1.7\n", b"PK\x03\x04....", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
RANDOM = random.Random(3).randbytes(HEAD_BYTES)


def window(*, wishes: int = 0, every_s: float = 1.0, sent: dict[int, int] | None = None) -> WishWindow:
    """A window with wishes of the inodes from 2 on, one after the other."""
    found = WishWindow(LIMIT, sent or {})
    for number in range(wishes):
        found.add(Inode(2 + number), START_S + number * every_s)
    return found


def test_more_than_the_limit_within_the_window_is_too_many() -> None:
    assert not window(wishes=LIMIT).is_exceeded
    assert window(wishes=LIMIT + 1).is_exceeded
    assert window(wishes=LIMIT + 1, every_s=(WINDOW_S - 1) / LIMIT).is_exceeded


def test_a_slow_deletion_passes_and_none_is_counted_for_ever() -> None:
    slow = window(wishes=50, every_s=WINDOW_S / LIMIT)
    assert not slow.is_exceeded
    assert len(slow.waiting) == LIMIT


def test_the_same_wish_counts_once_and_an_older_one_not_at_all() -> None:
    counts = window(wishes=LIMIT)
    assert counts.add(Inode(2), START_S)
    assert counts.add(Inode(2), START_S + 5)
    assert not counts.add(Inode(99), START_S - WINDOW_S)
    assert not counts.is_exceeded


def test_what_was_sent_counts_until_it_is_out_of_the_window() -> None:
    counts = window(wishes=LIMIT)
    for inode in counts.waiting:
        counts.was_sent(inode)
    assert counts.waiting == []
    assert sum(counts.sent.values()) == LIMIT
    counts.add(Inode(90), START_S + 10)
    assert counts.is_exceeded
    counts.add(Inode(91), START_S + WINDOW_S + 2 * BUCKET_S)
    assert not counts.is_exceeded


def test_what_an_earlier_run_sent_counts() -> None:
    counts = window(sent={int(START_S // BUCKET_S): LIMIT})
    counts.add(Inode(2), START_S + 1)
    assert counts.is_exceeded


def test_what_is_not_wanted_any_more_does_not_count() -> None:
    counts = window(wishes=LIMIT)
    counts.forget(Inode(3))
    counts.add(Inode(90), START_S + 10)
    assert not counts.is_exceeded


def test_what_is_held_counts_until_it_is_let_go() -> None:
    counts = window(wishes=LIMIT + 1)
    for inode in counts.waiting:
        counts.hold(inode)
    counts.add(Inode(90), START_S + 100 * WINDOW_S)
    assert counts.is_exceeded
    for inode in list(counts.held):
        counts.forget(inode)
    assert not counts.is_exceeded
    assert counts.waiting == [90]


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (PDF, "plan.pdf"),
        (b"\xef\xbb\xbf" + PDF, "PLAN.PDF"),
        (ZIP, "budget.xlsx"),
        (OLE, "budget with a password.xlsx"),
        (ZIP, "new in old clothes.xls"),
        (b"\x89PNG\r\n\x1a\n", "photo.png"),
        (b"\xff\xd8\xff\xe1", "photo.jpeg"),
        (b"\0\0\0\x18ftypheic", "photo.heic"),
        (b"AC1032", "plan.dwg"),
        (RANDOM, "notes.txt"),
        (RANDOM, "README"),
        (b"", "empty.csv"),
    ],
)
def test_bytes_of_the_type_that_the_name_says(head: bytes, name: str) -> None:
    assert not is_other_type(head, name, name)


@pytest.mark.parametrize(
    ("head", "name", "new_name"),
    [
        (RANDOM, "plan.pdf", "plan.pdf"),
        (RANDOM, "plan.pdf", "plan.pdf.locked"),
        (RANDOM, "model.rvt", "model.rvt"),
        (b"", "plan.pdf", "plan.pdf"),
        (ZIP, "plan.dwg", "plan.dwg"),
    ],
)
def test_bytes_of_another_type(head: bytes, name: str, new_name: str) -> None:
    assert has_signature(name)
    assert is_other_type(head, name, new_name)


def test_a_document_may_be_saved_as_another_type_under_a_new_name() -> None:
    assert not is_other_type(ZIP, "letter.pdf", "letter.docx")
    assert is_other_type(RANDOM, "letter.pdf", "letter.docx")
