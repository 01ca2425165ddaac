"""What a step at one of two names means after a step at the other."""

import pytest
from trio.testing import MockClock

from procorefs.tree.nodes import Inode
from procorefs.xattr.attribute_names import DESCRIPTION, TAGS, XDG_COMMENT, XDG_TAGS
from procorefs.xattr.copy_aliases import ONE_COPY_S, CopyAliases

FILE, OTHER = Inode(7), Inode(8)


@pytest.fixture
def clock() -> MockClock:
    return MockClock()


@pytest.fixture
def steps(clock: MockClock) -> CopyAliases:
    return CopyAliases(clock.current_time)


@pytest.mark.parametrize(("ours", "theirs"), [(TAGS, XDG_TAGS), (DESCRIPTION, XDG_COMMENT)])
def test_ours_wins(steps: CopyAliases, ours: str, theirs: str) -> None:
    steps.did(1, FILE, ours, is_set=True)
    assert steps.is_superseded(1, FILE, theirs)
    assert not steps.is_superseded(1, FILE, ours)
    steps.did(1, OTHER, theirs, is_set=True)
    assert not steps.is_superseded(1, OTHER, ours)


def test_only_in_one_copy(steps: CopyAliases, clock: MockClock) -> None:
    steps.did(1, FILE, TAGS, is_set=True)
    assert not steps.is_superseded(2, FILE, XDG_TAGS)
    assert not steps.is_superseded(1, OTHER, XDG_TAGS)
    assert not steps.is_superseded(1, FILE, XDG_COMMENT)
    clock.jump(ONE_COPY_S + 1)
    assert not steps.is_superseded(1, FILE, XDG_TAGS)


def test_who_looks_in_between_means_each(steps: CopyAliases) -> None:
    steps.did(1, FILE, TAGS, is_set=True)
    steps.looked(2, FILE, TAGS)
    assert steps.is_superseded(1, FILE, XDG_TAGS)
    steps.looked(1, FILE, XDG_TAGS)
    assert not steps.is_superseded(1, FILE, XDG_TAGS)


def test_removing_what_the_source_lacks_takes_nothing_away(steps: CopyAliases) -> None:
    steps.did(1, FILE, XDG_TAGS, is_set=True)
    assert steps.is_lacking_in_source(1, FILE, TAGS)
    assert not steps.is_lacking_in_source(1, FILE, XDG_TAGS)


def test_removing_both(steps: CopyAliases) -> None:
    steps.did(1, FILE, TAGS, is_set=False)
    assert steps.is_removed_with_alias(1, FILE, XDG_TAGS)
    assert not steps.is_removed_with_alias(1, FILE, TAGS)
    assert not steps.is_lacking_in_source(1, FILE, XDG_TAGS)


def test_names_without_a_twin(steps: CopyAliases) -> None:
    steps.did(1, FILE, "user.procore.private", is_set=True)
    assert not steps.is_superseded(1, FILE, "user.procore.private")
    steps.looked(1, FILE, "user.other")
