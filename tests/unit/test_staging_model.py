"""Staged files against plain bytes: whatever is done in whatever order, they are the same."""

import os
import tempfile
from pathlib import Path

import msgspec
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procorefs.staging.quota import Outlook
from procorefs.staging.staging_area import StagedFile, StagedRecord, Staging
from tests.support.content_source import content_of
from tests.support.staged_base import Bases, base_of, bytes_of

SIZES = st.one_of(st.integers(0, 40), st.integers(0, 20_000))
STEPS = st.one_of(
    st.tuples(st.just("write"), SIZES, st.binary(max_size=40) | st.integers(1, 9_000)),
    st.tuples(st.just("truncate"), SIZES),
    st.tuples(st.just("read"), SIZES, SIZES),
    st.tuples(st.just("complete")),
    st.tuples(st.just("copy")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("hold")),
    st.tuples(st.just("release")),
)


class Model:
    """One staged file and the bytes it must have; `flushed` is what a restart must bring back."""

    def __init__(self, directory: Path, bases: Bases) -> None:
        self.directory = directory
        self.bases = bases
        self.staging = Staging(directory, 2**40, bases.open, lambda: Outlook.NONE)

    def begin(self, base_size: int) -> None:
        base = base_of(base_size) if base_size else None
        self.file = self.staging.create(base)
        self.bytes = bytearray(content_of(base, 0, base_size) if base is not None else b"")
        self.holds = 0
        self.flush()

    def flush(self) -> None:
        self.record = msgspec.msgpack.encode(self.file.record())
        self.dirty: list[tuple[int, int]] = []  # written since: a restart may bring either
        self.flushed = bytes(self.bytes)

    async def write(self, offset: int, data: bytes) -> None:
        if not self.file.write_now(offset, data):
            await self.file.write(offset, data)
        if data:
            if offset > len(self.bytes):
                self.bytes.extend(bytes(offset - len(self.bytes)))
            self.bytes[offset : offset + len(data)] = data
            self.dirty.append((offset, offset + len(data)))

    async def truncate(self, size: int) -> None:
        if size < len(self.flushed):
            self.record = msgspec.msgpack.encode(self.file.record(size))
            self.flushed = bytes(self.bytes[:size])
            self.dirty = []
        await self.file.truncate(size)
        del self.bytes[size:]
        self.bytes.extend(bytes(size - len(self.bytes)))

    def restart(self) -> None:
        self.release_all()
        self.staging.close()
        self.staging = Staging(self.directory, 2**40, self.bases.open, lambda: Outlook.NONE)
        record = msgspec.msgpack.decode(self.record, type=StagedRecord)
        self.file = self.staging.adopt(record)
        self.staging.sweep({record.number})

    async def compare_after_restart(self) -> None:
        found = bytearray(await bytes_of(self.file))
        assert len(found) == len(self.flushed)
        self.bytes = bytearray(found)
        for low, high in self.dirty:
            found[low:high] = self.flushed[low:high]
        assert bytes(found[: len(self.flushed)]) == self.flushed
        self.flush()

    async def copy(self) -> StagedFile:
        """Go on with a copy; the original must be what it was."""
        original = self.file
        self.release_all()
        self.file = await self.staging.freeze_copy(original)
        return original

    def release_all(self) -> None:
        while self.holds:
            self.file.release()
            self.holds -= 1

    def check(self) -> None:
        assert self.file.size_bytes == len(self.bytes)
        assert self.staging.used_bytes == self.file.stored_bytes
        data = self.file.read_now(0, len(self.bytes))
        assert data is None or bytes(data) == self.bytes


async def do(model: Model, step: tuple) -> None:  # type: ignore[type-arg]
    match step:
        case ("write", offset, int(size)):
            await model.write(offset, bytes([1 + size % 255]) * size)
        case ("write", offset, data):
            await model.write(offset, data)
        case ("truncate", size):
            await model.truncate(size)
        case ("read", offset, size):
            assert bytes(await model.file.read(offset, size)) == model.bytes[offset : offset + size]
        case ("complete",):
            await model.file.complete()
            assert model.file.is_complete
        case ("copy",):
            before = bytes(model.bytes)
            original = await model.copy()
            await model.write(3, b"only in the copy")
            assert await bytes_of(original) == before
            original.delete()
            model.flush()
        case ("flush",):
            model.flush()
        case ("restart",):
            model.restart()
            await model.compare_after_restart()
        case ("hold",):
            model.file.hold()
            model.holds += 1
        case ("release",) if model.holds:
            model.file.release()
            model.holds -= 1


@given(base_size=SIZES, steps=st.lists(STEPS, max_size=20))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_staged_file_is_like_plain_bytes(base_size: int, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    async def play() -> None:
        with tempfile.TemporaryDirectory() as directory:
            bases = Bases()
            model = Model(Path(directory), bases)
            model.begin(base_size)
            for step in steps:
                await do(model, step)
                model.check()
            model.release_all()
            assert await bytes_of(model.file) == model.bytes
            model.file.delete()
            assert model.staging.used_bytes == 0
            assert bases.open_readers == 0
            model.staging.close()
            assert not os.listdir(directory)

    trio.run(play)
