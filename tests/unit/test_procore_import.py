"""A mount that is warm starts in a blink: nothing heavy comes with the client."""

import subprocess
import sys

HEAVY = {"click", "rich", "pygments", "keyring", "asyncio", "starlette", "diskcache"}


def test_the_client_brings_nothing_heavy() -> None:
    modules = "changes, client, downloads, metadata, uploads"
    code = f"import sys; from procorefs.procore.api import {modules}; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(printed.split())
