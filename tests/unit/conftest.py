"""What all unit tests share: how fast the disk is at the moment is no property of an example."""

import math

import pytest

from procorefs.staging import staged_bytes


@pytest.fixture(autouse=True)
def no_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes long on a busy machine does not count as slow; a test may say otherwise."""
    monkeypatch.setattr(staged_bytes, "SLOW_WRITE_S", math.inf)
