"""Collects the versions that matter in a bug report: ProcoreFS, Python, its libraries, libfuse and the kernel."""

import platform
import sqlite3
import subprocess
from importlib.metadata import PackageNotFoundError, version

from procorefs.storage.processes import child_environment

_LIBRARIES = ("pyfuse3", "trio", "httpx", "msgspec", "diskcache", "click")


def versions() -> dict[str, str]:
    """Name → version; what is not installed is left out."""
    found = {"procorefs": version("procorefs"), "Python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    found["SQLite"] = sqlite3.sqlite_version
    libfuse = _libfuse()
    if libfuse:
        found["libfuse"] = libfuse
    found["Linux"] = f"{platform.release()} {platform.machine()}"
    return found


def _libfuse() -> str:
    """The version that fusermount3 prints as "fusermount3 version: 3.14.0"; empty if there is none."""
    try:
        printed = subprocess.run(
            ["fusermount3", "--version"],
            env=child_environment(), capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return printed.stdout.rpartition(" ")[2].strip()
