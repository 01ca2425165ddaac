"""Which handles go past the kernel's pages: never some with pages while others write past them."""

from hypothesis import given
from hypothesis import strategies as st

from procorefs.kernel.open_handles import DirectIo
from procorefs.tree.nodes import Inode

FILE = Inode(7)


def test_who_only_writes_is_direct_the_pages() -> None:
    assert DirectIo("6.18.5").enter(FILE, reads=False, writes=True)


def test_who_reads_has_pages() -> None:
    pages = DirectIo("6.18.5")
    assert not pages.enter(FILE, reads=True, writes=False)
    assert not pages.enter(FILE, reads=True, writes=True)


def test_who_only_writes_has_pages_while_somebody_else_has() -> None:
    pages = DirectIo("6.18.5")
    pages.enter(FILE, reads=True, writes=False)
    assert not pages.enter(FILE, reads=False, writes=True)
    assert pages.enter(Inode(8), reads=False, writes=True)


def test_who_comes_while_somebody_writes_past_the_pages_does_the_same() -> None:
    pages = DirectIo("6.18.5")
    pages.enter(FILE, reads=False, writes=True)
    assert pages.enter(FILE, reads=True, writes=False)
    pages.leave(FILE, is_direct=True, writes=True)
    assert not pages.enter(FILE, reads=True, writes=False)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 9))))
def test_pages_and_writing_past_them_never_meet(steps: list[tuple[bool, bool, int]]) -> None:
    pages = DirectIo("6.18.5")
    handles: list[tuple[bool, bool]] = []  # goes past, writes
    for opens, reads, number in steps:
        if opens or not handles:
            writes = not reads or number % 2 == 0
            handles.append((pages.enter(FILE, reads=reads, writes=writes), writes))
        else:
            is_direct, writes = handles.pop(number % len(handles))
            pages.leave(FILE, is_direct=is_direct, writes=writes)
        with_pages = any(not is_direct for is_direct, _ in handles)
        writing_past = any(is_direct and writes for is_direct, writes in handles)
        assert not (with_pages and writing_past)


def test_an_old_kernel_would_go_on_reading_pages_that_were_written_past() -> None:
    for release in ("6.1.0-18-amd64", "5.15.0", "6.5.13", "nonsense"):
        assert not DirectIo(release).enter(Inode(5), reads=False, writes=True), release
    for release in ("6.6.0", "6.18.5-generic", "7.0.1"):
        assert DirectIo(release).enter(Inode(5), reads=False, writes=True), release
