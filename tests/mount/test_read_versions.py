"""No reader ever sees two versions mixed: files are replaced while they are read, mapped, opened and cached."""

import base64
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.mounting import Mounted, ThreadOf, mount_followed
from tests.support.patterns import pattern
from tests.support.sandbox import SandboxHandle

MIB = 1 << 20
LOOK = "GET /rest/v*documents"


def put(sandbox: SandboxHandle, name: str, data: bytes) -> None:
    """Somebody else's next version of a file."""
    sandbox.act("put", path=f"/{name}", base64=base64.b64encode(data).decode())


@contextmanager
def opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def rest_of(handle: int) -> bytes:
    """All that is left, in pieces of an odd size."""
    pieces = []
    while piece := os.read(handle, 99_999):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("size_bytes", [5 * MIB + 123, 40 * MIB + 4097], ids=["shorter", "longer"])
def test_a_file_replaced_while_it_is_read(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], size_bytes: int
) -> None:
    old, new = pattern(1, 24 * MIB + 77), pattern(2, size_bytes)
    sandbox.reset(0)
    put(sandbox, "big.bin", old)
    path = mount_followed(sandbox, mount, "freshness=0").path / "big.bin"
    with ExitStack() as stack:
        slow, second = stack.enter_context(opened(path)), stack.enter_context(opened(path))
        mapped = stack.enter_context(mmap.mmap(slow, 0, prot=mmap.PROT_READ))
        inode = os.fstat(slow).st_ino
        head = os.read(slow, 3 * MIB)
        assert mapped[20 * MIB] == old[20 * MIB]
        put(sandbox, "big.bin", new)
        fresh = stack.enter_context(opened(path))
        assert os.fstat(fresh).st_size == path.stat().st_size == len(new)
        assert os.fstat(fresh).st_ino == path.stat().st_ino != inode
        assert [(os.fstat(h).st_size, os.fstat(h).st_ino) for h in (slow, second)] == [(len(old), inode)] * 2
        assert os.fstat(slow).st_nlink == 0
        assert os.pread(fresh, MIB, 4 * MIB) == new[4 * MIB : 5 * MIB]
        assert mapped[10 * MIB : 11 * MIB] == old[10 * MIB : 11 * MIB]
        assert head + rest_of(slow) == old
        assert rest_of(fresh) == new
        assert rest_of(second) == old
        assert mapped[:] == old
    assert path.read_bytes() == new


def test_a_file_replaced_twice_while_three_read(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    versions = [pattern(tag, size) for tag, size in ((1, 9 * MIB), (2, 2 * MIB + 5), (3, 11 * MIB + 1))]
    sandbox.reset(0)
    put(sandbox, "twice.bin", versions[0])
    path = mount_followed(sandbox, mount, "freshness=0").path / "twice.bin"
    with ExitStack() as stack:
        handles = [stack.enter_context(opened(path))]
        for data in versions[1:]:
            os.pread(handles[-1], 200_000, 0)
            put(sandbox, "twice.bin", data)
            handles.append(stack.enter_context(opened(path)))
        assert len({os.fstat(handle).st_ino for handle in handles}) == 3
        # as nobody had looked between two versions, the one between is met by nobody
        put(sandbox, "twice.bin", pattern(4, 3 * MIB))
        put(sandbox, "twice.bin", pattern(5, 3 * MIB + 1))
        assert path.read_bytes() == pattern(5, 3 * MIB + 1)
        for handle, data in zip(handles, versions, strict=True):
            assert os.fstat(handle).st_size == len(data)
            assert rest_of(handle) == data


def test_with_nobody_inside_the_inode_goes_on(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    sandbox.reset(0)
    put(sandbox, "plain.bin", pattern(1, 300_000))
    path = mount_followed(sandbox, mount, "freshness=0").path / "plain.bin"
    inodes = set()
    for tag, size in enumerate((300_000, 100_001, 2 * MIB + 3, 0, 1, 4096, 4095, 700_000), start=1):
        if tag > 1:
            put(sandbox, "plain.bin", pattern(tag, size))
        with opened(path) as handle:
            assert os.fstat(handle).st_size == path.stat().st_size == size
            assert rest_of(handle) == pattern(tag, size)
            inodes.add(os.fstat(handle).st_ino)
        with opened(path) as handle, ExitStack() as stack:
            if size:
                mapped = stack.enter_context(mmap.mmap(handle, 0, prot=mmap.PROT_READ))
                assert mapped[:] == pattern(tag, size)
    assert len(inodes) == 1


def test_a_file_replaced_during_open(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """The look's answer is older than the change, then so slow that open goes on without it."""
    sandbox.reset(0)
    put(sandbox, "late.bin", pattern(1, 3 * MIB))
    path = mount_followed(sandbox, mount, "freshness=0").path / "late.bin"
    assert path.read_bytes() == pattern(1, 3 * MIB)

    sandbox.faults(rules=[{"kind": "silence", "route": LOOK, "when": "after"}])
    with ThreadOf(lambda: os.open(path, os.O_RDONLY)) as opening:
        sandbox.wait_for_silent_calls()
        put(sandbox, "late.bin", pattern(2, MIB))
        sandbox.release()
        early = opening.result()
    with opened(path) as handle:
        assert rest_of(handle) == pattern(2, MIB)
    assert rest_of(early) == pattern(1, 3 * MIB)
    os.close(early)

    sandbox.faults(rules=[{"kind": "silence", "route": LOOK, "when": "before"}])
    put(sandbox, "late.bin", pattern(3, 2 * MIB))
    with opened(path) as handle:
        inode = os.fstat(handle).st_ino
        head = os.read(handle, 10)
        sandbox.release()
        with opened(path) as fresh:
            assert rest_of(fresh) == pattern(3, 2 * MIB)
            assert os.fstat(fresh).st_ino != inode
        assert head + rest_of(handle) == pattern(2, MIB)


def test_a_file_replaced_while_its_chunks_come(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """The storage falls silent in the middle of the old version: the new one comes past it, the old one later."""
    old, new = pattern(1, 20 * MIB), pattern(2, 6 * MIB)
    sandbox.reset(0)
    put(sandbox, "part.bin", old)
    path = mount_followed(sandbox, mount, "freshness=0").path / "part.bin"
    with opened(path) as slow:
        head = os.read(slow, 100)
        sandbox.faults(rules=[{"kind": "silence", "route": "storage GET", "count": 1}])
        with ThreadOf(lambda: os.pread(slow, 4096, 12 * MIB)) as waiting:
            sandbox.wait_for_silent_calls()
            put(sandbox, "part.bin", new)
            with opened(path) as fresh:
                assert rest_of(fresh) == new
            sandbox.release()
            assert waiting.result() == old[12 * MIB : 12 * MIB + 4096]
        assert head + rest_of(slow) == old


def test_readers_race_with_writers_elsewhere(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """Versions follow each other as fast as they can, and every read is one of them and whole."""
    sandbox.reset(0)
    sizes = {tag: (tag * 7919) % 400_000 + 1 for tag in range(1, 41)}
    put(sandbox, "race.bin", pattern(1, sizes[1]))
    path = mount_followed(sandbox, mount, "freshness=0").path / "race.bin"
    newest = 1
    wrong: list[str] = []
    seen: set[int] = set()
    over = threading.Event()

    def read_on() -> None:
        while not over.is_set():
            known = newest
            with opened(path) as handle:
                told = os.fstat(handle).st_size
                data = rest_of(handle)
            tag = int(data[:3])
            seen.add(tag)
            if len(data) != told or data != pattern(tag, sizes[tag]):
                wrong.append(f"{len(data)} of {told} bytes, first version {tag} of {sizes[tag]} bytes")
            if tag < known:
                wrong.append(f"version {tag} was read after {known} was there")

    readers = [threading.Thread(target=read_on) for _ in range(4)]
    for reader in readers:
        reader.start()
    for tag in range(2, 41):
        put(sandbox, "race.bin", pattern(tag, sizes[tag]))
        newest = tag
        time.sleep(0.02)
    over.set()
    for reader in readers:
        reader.join(30)
    assert not wrong, wrong[:5]
    assert len(seen) > 5


def test_an_open_looks_for_what_came_before_it(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """A look that runs already may have asked too early: then there is another."""
    sandbox.reset(0)
    put(sandbox, "known.bin", pattern(1, 1000))
    mounted = mount_followed(sandbox, mount, "freshness=0")
    sandbox.faults(rules=[{"kind": "silence", "route": LOOK, "when": "after", "count": 1}])
    assert not (mounted.path / "unknown").exists()  # which begins a look
    sandbox.wait_for_silent_calls()
    put(sandbox, "known.bin", pattern(2, 2000))
    with ThreadOf((mounted.path / "known.bin").read_bytes) as reading:
        time.sleep(0.1)
        sandbox.release()
        assert reading.result() == pattern(2, 2000)


MAP_AS_KNOWN = """
import ctypes, os, sys
size = os.stat(sys.argv[1]).st_size
print(size, flush=True)
sys.stdin.readline()
handle = os.open(sys.argv[1], os.O_RDONLY)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
at = libc.mmap(None, ctypes.c_size_t(size), 1, 1, handle, ctypes.c_long(0))
print(ctypes.string_at(at, 16), flush=True)
print(ctypes.string_at(at + 200_000, 1), flush=True)
"""


def test_nothing_is_mapped_beyond_the_end(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """A program that trusts an older size meets SIGBUS beyond the new end, as on any disk, and no zeros."""
    sandbox.reset(0)
    put(sandbox, "shrinks.bin", pattern(1, 300_000))
    mounted = mount_followed(sandbox, mount, "freshness=0")
    path = mounted.path / "shrinks.bin"
    assert path.read_bytes() == pattern(1, 300_000)
    with subprocess.Popen(
        [sys.executable, "-c", MAP_AS_KNOWN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "300000\n"
        put(sandbox, "shrinks.bin", pattern(2, 100_001))
        said, _ = program.communicate("go\n", timeout=20)
    assert said == f"{pattern(2, 16)!r}\n"
    assert program.returncode == -signal.SIGBUS
