"""What every test shares: async tests run on trio."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "trio"
