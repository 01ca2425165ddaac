"""What every test shares: async tests run on trio, and the fixtures of the sandbox and of mounts."""

import os

from hypothesis import settings

pytest_plugins = ["tests.sandbox", "tests.mounting", "tests.writing"]

# In CI the same examples each time: what a person's run finds anew becomes a named test, not a surprise for others.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
