"""Extents against a set of positions."""

from hypothesis import given
from hypothesis import strategies as st

from procorefs.staging.missing_ranges import Extents

PLACES = st.integers(0, 60)
CUTS = st.lists(st.tuples(PLACES, PLACES), max_size=12)


def ranges_of(positions: set[int]) -> list[tuple[int, int]]:
    """The fewest ranges that hold just these positions."""
    starts = sorted(place for place in positions if place - 1 not in positions)
    stops = sorted(place + 1 for place in positions if place + 1 not in positions)
    return list(zip(starts, stops, strict=True))


@given(whole=st.sets(PLACES), cuts=CUTS, low=PLACES, high=PLACES)
def test_cutting_is_like_taking_positions_out(
    whole: set[int], cuts: list[tuple[int, int]], low: int, high: int
) -> None:
    extents = Extents(ranges_of(whole))
    for start, stop in cuts:
        extents.cut(start, stop)
        whole -= set(range(start, stop))
        assert list(extents) == ranges_of(whole)
        assert extents.total == len(whole)
    within = whole & set(range(low, high))
    assert extents.overlap(low, high) == len(within)
    if low < high:
        assert extents.within(low, high) == ranges_of(within)
        assert extents.next(low, high) == next(iter(ranges_of(within)), None)
