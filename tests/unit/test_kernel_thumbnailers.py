"""Who counts as a thumbnailer."""

import os

import pytest

from procorefs.kernel.bridge.callers import asks_for_thumbnail, is_thumbnailer


@pytest.mark.parametrize(
    "line",
    [
        b"/usr/bin/gdk-pixbuf-thumbnailer -s 256 file:///x /tmp/y",
        b"/usr/bin/ffmpegthumbnailer -i x -o y",
        b"/usr/lib/x86_64-linux-gnu/tumbler-1/tumblerd",
        b"/usr/lib/libexec/kf6/kioworker /usr/lib/plugins/kf6/kio/thumbnail.so thumbnail",
    ],
)
def test_thumbnailers(line: bytes) -> None:
    assert is_thumbnailer(line.split())


@pytest.mark.parametrize(
    "line",
    [
        b"cat thumbnail.jpg",
        b"/usr/bin/nautilus",
        b"kioworker kio_file.so file",
        b"rsync -a thumbnails/ x",
        b"",
    ],
)
def test_others(line: bytes) -> None:
    assert not is_thumbnailer(line.split())


def test_a_thread_that_cannot_be_seen_is_none() -> None:
    assert not asks_for_thumbnail(os.getpid())
    assert not asks_for_thumbnail(2**22 + 1)
