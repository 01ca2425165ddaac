"""Runs an X server without a display, and sees when a picture of noise is drawn on its screen."""

import os
import select
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from operator import ne
from pathlib import Path

from scripts.bench.embedded import end

_WIDTH, _HEIGHT = 1280, 900
_TILE = 160
"""Thumbnails are smaller."""

_STEP = 16
"""One line of so many is looked at."""

START_S = 10.0


class Screen:
    """The frame buffer of the X server, which it keeps in a file in the format of xwd."""

    def __init__(self, display: str, frame: Path) -> None:
        self.display = display
        self._frame = frame

    def shows_noise(self) -> bool:
        """Whether a tile of the screen is full of pixels that differ from their neighbours."""
        data = self._frame.read_bytes()
        header = struct.unpack_from(">25I", data)
        begin, line_bytes = header[0] + 12 * header[19], header[12]
        in_a_row = [0] * (_WIDTH // _TILE)
        for y in range(0, _HEIGHT, _STEP):
            low = begin + y * line_bytes
            green = data[low + 1 : low + line_bytes : 4]
            for tile in range(len(in_a_row)):
                part = green[tile * _TILE : (tile + 1) * _TILE]
                is_noise = sum(map(ne, part, part[1:])) > 0.7 * _TILE
                in_a_row[tile] = in_a_row[tile] + 1 if is_noise else 0
                if in_a_row[tile] * _STEP >= _TILE:
                    return True
        return False


@contextmanager
def screen(folder: Path) -> Iterator[Screen | None]:
    """A screen for as long as the context lasts; None if Xvfb is not installed."""
    if shutil.which("Xvfb") is None:
        yield None
        return
    folder.mkdir()
    number_end, server_end = os.pipe()
    size = f"{_WIDTH}x{_HEIGHT}x24"
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(server_end), "-screen", "0", size, "-fbdir", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(server_end,),
        start_new_session=True,
    )
    os.close(server_end)
    try:
        ready, _, _ = select.select([number_end], [], [], START_S)
        number = os.read(number_end, 32).decode().strip() if ready else ""
        if not number:
            raise OSError("Xvfb did not start")
        yield Screen(f":{number}", folder / "Xvfb_screen0")
    finally:
        os.close(number_end)
        end(server)
