"""The grid, the spans and the read-ahead: pure arithmetic."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from procorefs.cache import chunks
from procorefs.cache.reader import ReadAhead
from procorefs.storage.intervals import Intervals

MIB = 1024 * 1024
OFFSETS = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 40 * MIB))


@given(OFFSETS)
def test_every_byte_lies_in_the_chunk_that_the_grid_names(offset: int) -> None:
    number = chunks.chunk_at(offset)
    assert chunks.chunk_start(number) <= offset < chunks.chunk_start(number + 1)


@given(st.integers(0, 5000))
def test_chunks_follow_each_other_and_are_at_most_4_mib(number: int) -> None:
    assert chunks.chunk_at(chunks.chunk_start(number)) == number
    assert 0 < chunks.chunk_start(number + 1) - chunks.chunk_start(number) <= chunks.CHUNK_BYTES


@given(st.integers(0, 30 * MIB))
def test_the_chunks_of_a_version_make_up_its_size(size: int) -> None:
    number, total = 0, 0
    while (length := chunks.chunk_length(number, size)) > 0:
        total += length
        number += 1
    assert total == size


@given(OFFSETS, OFFSETS)
def test_round_up_ends_at_a_boundary_or_the_end(offset: int, size: int) -> None:
    up = chunks.round_up(offset, size)
    assert up == size or (offset <= up and chunks.chunk_start(chunks.chunk_at(up)) == up)
    assert up <= size


def test_the_first_chunks_are_small() -> None:
    assert [chunks.chunk_start(n) for n in range(6)] == [0, 65536, 524288, 4 * MIB, 8 * MIB, 12 * MIB]


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(RANGES, st.integers(0, 60), st.integers(0, 60))
def test_spans_are_a_set_of_positions(ranges: list[tuple[int, int]], low: int, high: int) -> None:
    spans, model = Intervals(), set()
    for start, stop in ranges:
        spans.add(start, stop)
        model |= set(range(start, stop))
    wanted = set(range(low, high))
    gaps = spans.gaps(low, high)
    assert {x for start, stop in gaps for x in range(start, stop)} == wanted - model
    assert all(a[1] < b[0] for a, b in itertools.pairwise(gaps))
    assert not wanted or spans.covers(low, high) == (wanted <= model)


def test_read_ahead_grows_with_sequential_reading_and_starts_over_after_a_seek() -> None:
    ahead = ReadAhead()
    ahead.note(0, 4096)
    assert ahead.window(32 * MIB) == 4096
    for offset in range(0, 8 * MIB, MIB):
        ahead.note(offset, offset + MIB)
    assert ahead.window(32 * MIB) == 8 * MIB
    assert ahead.window(MIB) == MIB
    ahead.note(100 * MIB, 100 * MIB + 4096)
    assert ahead.window(32 * MIB) == 0
    ahead.note(100 * MIB + 4096, 100 * MIB + 8192)
    assert ahead.window(32 * MIB) == 8192


def test_a_reader_jumps_until_it_has_read_four_mebibytes_in_one_go() -> None:
    ahead = ReadAhead()
    ahead.note(0, 4096)
    assert not ahead.jumps
    ahead.note(50 * MIB, 50 * MIB + 4096)
    assert ahead.jumps
    for offset in range(50 * MIB, 54 * MIB, 64 * 1024):
        assert ahead.jumps
        ahead.note(offset + 4096, offset + 4096 + 64 * 1024)
    assert not ahead.jumps


def test_a_reader_that_has_jumped_often_takes_longer_and_is_read_ahead_for_less() -> None:
    ahead = ReadAhead()
    for place in range(1, 60):
        ahead.note(place * 50 * MIB, place * 50 * MIB + 4096)
    begin = ahead.frontier
    for offset in range(begin, begin + 16 * MIB, 64 * 1024):
        assert ahead.jumps
        ahead.note(offset, offset + 64 * 1024)
        if ahead.jumps:
            assert ahead.window(32 * MIB) <= max(256 * 1024, ahead.run_bytes // 4)
    assert not ahead.jumps
    assert ahead.window(32 * MIB) == 16 * MIB
    ahead.note(4096, 8192)  # since then, its first jump
    assert ahead.jumps
    ahead.note(8192, 4 * MIB + 8192)
    assert not ahead.jumps


def test_a_reader_that_goes_back_to_the_beginning_reads_on() -> None:
    ahead = ReadAhead()
    ahead.note(0, 4096)
    ahead.note(100 * MIB, 100 * MIB + 4096)
    ahead.note(0, 4096)
    assert not ahead.jumps
    ahead.note(4096, MIB + 4096)
    assert ahead.window(32 * MIB) == MIB


def test_a_reader_that_skips_most_of_what_it_passes_jumps_and_is_not_read_ahead_for() -> None:
    ahead = ReadAhead()
    for offset in range(0, 8 * MIB, 256 * 1024):
        ahead.note(offset, offset + 4096)
    assert ahead.jumps
    assert ahead.window(32 * MIB) == 0


@given(RANGES, st.sets(st.integers(0, 70)))
def test_what_lies_outside_of_blocks_that_are_here(ranges: list[tuple[int, int]], here: set[int]) -> None:
    size = chunks.BLOCK_BYTES
    spans = Intervals()
    for start, stop in ranges:  # in quarters of a block
        spans.add(start * size // 4, stop * size // 4)
    outside = chunks.outside_blocks(spans.ranges(), here.__contains__)
    quarters = {
        place
        for start, stop in spans.ranges()
        for place in range(start, stop, size // 4)
        if place // size not in here
    }
    assert {place for start, stop in outside for place in range(start, stop, size // 4)} == quarters
    assert all(a[1] < b[0] for a, b in itertools.pairwise(outside))


@given(OFFSETS)
def test_no_block_lies_in_two_chunks_or_has_the_key_of_one(offset: int) -> None:
    block = chunks.block_at(offset)
    low, high = chunks.block_start(block), chunks.block_stop(block, 2**63)
    assert low <= offset < high
    assert chunks.chunk_at(low) == chunks.chunk_at(high - 1)
    assert chunks.block_key(7, block) != chunks.chunk_key(7, chunks.chunk_at(offset))
    assert chunks.version_of(chunks.block_key(7, block)) == 7


@given(st.permutations(range(16)))
def test_read_ahead_tolerates_parallel_reads_out_of_order(order: list[int]) -> None:
    ahead, size = ReadAhead(), 128 * 1024
    for start in range(0, 16 * 4 * size, 4 * size):  # the kernel's window moves on; within it any order
        for number in [n for n in order if n < 4]:
            ahead.note(start + number * size, start + (number + 1) * size)
    assert ahead.frontier == 64 * size
    assert ahead.run_bytes == 64 * size
