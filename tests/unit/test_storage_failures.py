"""Trouble of many calls is told of twice: when it begins, and when it is over."""

import logging

import pytest

from procorefs.storage.failures import QUIET_S, Episode


def test_a_full_disk_is_told_of_once_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    log = logging.getLogger("test")
    trouble = Episode(log, "There is room again", lambda: now_s)
    with caplog.at_level(logging.INFO):
        trouble.went_well()
        for number in range(100):
            trouble.refused(logging.ERROR, "write of %d: no space", number)
            now_s += 1.0
            trouble.went_well()  # a small one, in between
        assert trouble.is_active
        now_s += QUIET_S
        trouble.went_well()
        assert not trouble.is_active
        trouble.refused(logging.ERROR, "write of %s: no space", "another")
    assert [record.getMessage() for record in caplog.records] == [
        "write of 0: no space",
        "There is room again: 100 were refused within 99 s.",
        "write of another: no space",
    ]
