"""What every test shares: async tests run on trio, and the fixtures of the sandbox and of mounts."""

import pytest

pytest_plugins = ["tests.sandbox", "tests.mounting"]


@pytest.fixture
def anyio_backend() -> str:
    return "trio"
