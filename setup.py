"""Builds the C extension of the bridge; everything else stands in pyproject.toml."""

import subprocess

from setuptools import Extension, setup


def pkg_config(*words: str) -> list[str]:
    return subprocess.run(
        ["pkg-config", *words, "fuse3"], check=True, capture_output=True, text=True
    ).stdout.split()


setup(
    ext_modules=[
        Extension(
            "procorefs.kernel.bridge._bridge",
            sources=["procorefs/kernel/bridge/bridge.c"],
            depends=[
                "procorefs/kernel/bridge/flocks.h",
                "procorefs/kernel/bridge/guard.h",
                "procorefs/kernel/bridge/notices.h",
                "procorefs/kernel/bridge/quick.h",
            ],
            extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", *pkg_config("--cflags")],
            extra_link_args=pkg_config("--libs"),
        )
    ]
)
