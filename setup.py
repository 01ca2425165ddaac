"""Builds the C extension of the bridge; everything else stands in pyproject.toml."""

import subprocess
from pathlib import Path

from setuptools import Extension, setup

BRIDGE = Path("procorefs/kernel/bridge/src")


def pkg_config(*words: str) -> list[str]:
    return subprocess.run(
        ["pkg-config", *words, "fuse3"], check=True, capture_output=True, text=True
    ).stdout.split()


setup(
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
    ]
)
