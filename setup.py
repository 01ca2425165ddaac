"""Builds the C extension of the bridge and adds manual pages to a wheel; pyproject.toml has everything else."""

import subprocess
from pathlib import Path

from setuptools import Extension, setup

BRIDGE = Path("procorefs/kernel/bridge/src")
MANUAL = Path("man")  # made by `make man`; there is none in a plain clone


def pkg_config(*words: str) -> list[str]:
    return subprocess.run(
        ["pkg-config", *words, "fuse3"], check=True, capture_output=True, text=True
    ).stdout.split()


setup(
    data_files=[
        (f"share/man/man{section}", sorted(str(page) for page in MANUAL.glob(f"*.{section}")))
        for section in (1, 5, 8)
    ],
    ext_modules=[
        Extension(
            "procorefs.kernel.bridge._bridge",
            sources=sorted(str(source) for source in BRIDGE.glob("*.c")),
            depends=[str(BRIDGE / "bridge.h")],
            extra_compile_args=[
                "-std=c11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-fvisibility=hidden",
                *pkg_config("--cflags"),
            ],
            extra_link_args=pkg_config("--libs"),
        )
    ],
)
