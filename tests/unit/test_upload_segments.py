"""How large files are cut up, and what is tried otherwise on a line that is too slow."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from procorefs.journal.change import Change
from procorefs.procore.api.uploads import MAX_SEGMENT_BYTES
from procorefs.procore.errors import UploadExpired
from procorefs.procore.wire.models import Kind
from procorefs.procore.wire.upload_decoding import Segment, SegmentedUpload, SegmentPlan
from procorefs.staging.quota import Outlook
from procorefs.staging.staging_area import Staging
from procorefs.tree.nodes import Inode
from procorefs.upload.outcomes import Reaction, reaction_to
from procorefs.upload.sending.byte_upload import (
    SEGMENT_BYTES,
    SEGMENTS_AT_ONCE,
    WHOLE_BYTES,
    Uploader,
    segment_size,
)
from tests.support.changes import make_change

GIB = 1 << 30


def test_segments_stay_countable_and_within_what_procore_takes() -> None:
    assert segment_size(WHOLE_BYTES + 1, all_at_once=False) == SEGMENT_BYTES
    for size_bytes in (GIB, 100 * GIB, 4000 * GIB):
        segment_bytes = segment_size(size_bytes, all_at_once=False)
        assert -(-size_bytes // segment_bytes) <= 1000
        assert segment_bytes <= MAX_SEGMENT_BYTES
    assert -(-GIB // segment_size(GIB, all_at_once=True)) == SEGMENTS_AT_ONCE
    assert segment_size(400 * GIB, all_at_once=True) == MAX_SEGMENT_BYTES


class SlowStorage:
    """Takes one segment, and then an hour has gone by; the second upload is taken whole."""

    def __init__(self) -> None:
        self.plans: list[int] = []
        self.sent = 0

    async def begin_segments(self, _name: str, _kind: str, plans: list[SegmentPlan]) -> SegmentedUpload:
        self.plans.append(len(plans))
        segments = [
            Segment(size_bytes=p.size_bytes, sha256=p.sha256, url="https://store.example/", headers={})
            for p in plans
        ]
        return SegmentedUpload(f"uuid-{len(self.plans)}", segments, 2**40)

    async def send_segment(self, upload: SegmentedUpload, index: int, *_: object) -> str:
        self.sent += 1
        if upload.uuid == "uuid-1" and self.sent > 1:
            raise UploadExpired("Could not send: it has expired")
        return f"etag-{index}"

    async def complete(self, upload: SegmentedUpload, etags: list[str]) -> None:
        assert len(etags) == len(upload.segments)


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    with closing(
        Staging(
            tmp_path / "staging",
            1 << 30,
            lambda _version: pytest.fail("there is no base"),
            lambda: Outlook.NONE,
        )
    ) as area:
        yield area


async def test_an_upload_that_took_longer_than_an_hour_sends_all_segments_at_once(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procorefs.upload.sending.byte_upload.WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr("procorefs.upload.sending.byte_upload.SEGMENT_BYTES", 64 << 10)
    storage: Any = SlowStorage()
    noted: list[Change] = []
    uploader = Uploader(storage, noted.append)
    file = staging.create()
    with file.held():
        await file.write(0, bytes(2 << 20))
    change = make_change(Inode(5), Kind.FILE, staged=file.record())
    with pytest.raises(UploadExpired):
        await uploader.store(change, file, "slow.bin")
    assert change.upload is None
    upload = await uploader.store(change, file, "slow.bin")
    assert upload.is_stored
    assert storage.plans == [32, SEGMENTS_AT_ONCE]


async def test_a_segment_that_could_not_be_noted_fails_as_what_the_disk_says(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not as a group of errors, which nobody would try again."""
    monkeypatch.setattr("procorefs.upload.sending.byte_upload.WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr("procorefs.upload.sending.byte_upload.SEGMENT_BYTES", 64 << 10)
    storage: Any = SlowStorage()
    storage.sent = -100

    def note(change: Change) -> None:
        if change.upload is not None and change.upload.etags:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = staging.create()
    with file.held():
        await file.write(0, bytes(2 << 20))
    change = make_change(Inode(5), Kind.FILE, staged=file.record())
    with pytest.raises(OSError, match="No space") as failed:
        await Uploader(storage, note).store(change, file, "plan.bin")
    assert reaction_to(failed.value, 0) is Reaction.TRY_AGAIN
