"""The environment of a program that a test starts with nothing of the tests' own."""

import os

_OF_THE_LOADER = ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PYTHONMALLOC")
"""An extension that is built for AddressSanitizer cannot be loaded without them (scripts/asan)."""


def bare_environment() -> dict[str, str]:
    """PATH, and what the native extension needs to be loaded."""
    return {name: os.environ[name] for name in ("PATH", *_OF_THE_LOADER) if name in os.environ}
