"""Reads that the bridge answers without Python: the right bytes, and none older than what somebody has seen."""

import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.granting_filesystem import SIZE_BYTES

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

FILESYSTEM = Path(__file__).parents[1] / "support" / "granting_filesystem.py"
SOON_S = 30.0


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    mountpoint, folder = tmp_path / "mnt", tmp_path / "files"
    mountpoint.mkdir()
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, FILESYSTEM, mountpoint, folder], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            subprocess.run(["umount", "-l", mountpoint], check=False, capture_output=True, timeout=SOON_S)
            try:
                child.wait(SOON_S)
            finally:
                child.kill()


def generations(data: bytes, offset: int) -> set[int]:
    """The generations of words that were read at that offset; fails for words of another offset."""
    words = struct.unpack(f"<{len(data) // 8}Q", data)
    assert [word & 0xFFFFFFFF for word in words] == list(range(offset // 8, offset // 8 + len(words)))
    return {word >> 32 for word in words}


def test_no_read_is_older_than_one_before(tmp_path: Path, child: subprocess.Popen[str]) -> None:
    choose = random.Random(1)
    files = [os.open(tmp_path / "mnt" / name, os.O_RDONLY) for name in ("a", "b")]
    newest = 0
    for _ in range(200):
        # what is checked between two reads makes the next one come too late
        wanted = [
            (8 * choose.randrange(SIZE_BYTES // 8 + 10), choose.choice((8, 4096, 32_768))) for _ in range(50)
        ]
        found = [os.pread(choose.choice(files), size, offset) for offset, size in wanted]
        for data, (offset, size) in zip(found, wanted, strict=True):
            assert len(data) == max(min(size, SIZE_BYTES - offset), 0)
            if data:
                (generation,) = generations(data, offset)
                assert generation >= newest
                newest = generation
    for file in files:
        os.close(file)
    subprocess.run(["umount", tmp_path / "mnt"], check=True, timeout=SOON_S)
    assert child.stdout is not None
    granted, _, total = child.stdout.readline().removeprefix("granted ").partition(" of ")
    assert int(total) >= 10_000
    assert int(granted) > 0
    assert newest > 5, "the other task had no turn"
