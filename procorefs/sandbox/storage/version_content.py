"""Where a version's bytes come from: a content file, or a generator that makes them when they are asked for.

A source is text in the version's row: `blob:<name>` is a file in the content directory, `seed:<kind>:<number>` are
invented bytes (invented_bytes.py).
"""

import shutil
import tempfile
from pathlib import Path

from procorefs.sandbox.project.invented_bytes import invented_bytes
from procorefs.sandbox.project.records import Version

_BLOCK_BYTES = 1024 * 1024


class Contents:
    """The content directory; temporary when the sandbox keeps nothing."""

    def __init__(self, data_dir: Path | None) -> None:
        self._temporary = data_dir is None
        self._folder = (
            Path(tempfile.mkdtemp(prefix="procorefs-sandbox-")) if data_dir is None else data_dir / "content"
        )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def close(self) -> None:
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def empty(self) -> None:
        """Remove all content files."""
        for path in self._folder.iterdir():
            path.unlink()

    def path(self, name: str) -> Path:
        return self._folder / name

    def blob(self, source: str) -> Path | None:
        """The content file behind a source; None: the bytes are invented."""
        scheme, _, name = source.partition(":")
        return self.path(name) if scheme == "blob" else None

    def invented(self, version: Version) -> bytes:
        """The bytes of a `seed:` source."""
        _, kind, number = version.source.split(":")
        return invented_bytes(kind, int(number), version.size)

    def read(self, version: Version) -> bytes:
        blob = self.blob(version.source)
        return blob.read_bytes() if blob else self.invented(version)

    def put(self, name: str, data: bytes) -> str:
        """Write a content file; returns its source."""
        self.path(name).write_bytes(data)
        return f"blob:{name}"

    def copy_in(self, name: str, path: Path) -> str:
        shutil.copyfile(path, self.path(name))
        return f"blob:{name}"

    def put_numbered(self, name: str, size_bytes: int, seed: int) -> str:
        """A big file whose every MiB begins with its number, so that no two are alike; for megabytes and more."""
        noise = invented_bytes("bin", seed, _BLOCK_BYTES)
        with self.path(name).open("wb") as file:
            for number in range(size_bytes // _BLOCK_BYTES):
                file.write(b"%016d" % number + noise[16:])
            file.write(noise[: size_bytes % _BLOCK_BYTES])
        return f"blob:{name}"
