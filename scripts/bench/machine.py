"""What the figures were measured on."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from scripts.bench.mounts import rclone_command
from scripts.bench.results import Fact


def machine_facts() -> list[Fact]:
    """Processor, memory, and the versions of all that lies between a program and the bytes."""
    return [
        ("CPU", _field("/proc/cpuinfo", "model name")),
        ("cores", str(os.cpu_count())),
        ("memory", f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.0f} GiB"),
        ("kernel", platform.release()),
        ("Python", platform.python_version()),
        ("libfuse", _version("fusermount3", "--version")),
        ("pyfuse3", importlib.metadata.version("pyfuse3")),
        ("rclone", _version(rclone_command(), "version")),
        ("load", f"{os.getloadavg()[0]:.1f} at the start"),
    ]


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _version(*command: str) -> str:
    """The first thing that looks like a version in what a program says."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
    except OSError:
        return "missing"
    found = re.search(r"\d+\.[\w.-]+", said)
    return found[0] if found else "unknown"
