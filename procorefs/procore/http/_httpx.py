"""Imports httpx without its command line, which would import click, rich and pygments: half of its import time.

httpx itself copes without that module (it is an extra); it is hidden only while httpx is imported.
"""

import sys

_COMMAND_LINE = "httpx._main"

if "httpx" in sys.modules:
    import httpx
else:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # typeshed has no None, which stops an import
    import httpx

    del sys.modules[_COMMAND_LINE]

__all__ = ["httpx"]
