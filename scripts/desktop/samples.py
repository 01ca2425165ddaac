"""Makes a project of files that people open: a long PDF, an archive, photos, texts, and files of unknown type."""

import random
import shutil
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

PAGES = 60
_WIDTH, _HEIGHT = 1150, 1150
_HEAD_BYTES = 4096


def make_samples(folder: Path, *, big_mib: int = 1024, archive_mib: int = 300, photos: int = 40) -> None:
    """Fill the folder; the same bytes each time."""
    noise = random.Random(1)
    (folder / "plans.pdf").write_bytes(pdf(noise, PAGES))
    _archive(folder / "handover.zip", noise, archive_mib)
    with (folder / "sensors.log").open("wb") as log:
        log.truncate((big_mib << 20) - 4000)
        log.seek(0, 2)
        log.write(b"2026-11-30 pour finished\n" * 160)
    _letter(folder)
    (folder / "photos").mkdir()
    for number in range(photos):
        (folder / "photos" / f"photo {number:02}.png").write_bytes(png(noise, 1000))
    (folder / "models").mkdir()
    for number in range(200):
        data = noise.randbytes(60_000)
        (folder / "models" / f"element {number:03}.rvt").write_bytes(data)
        (folder / "models" / f"element {number:03}.q{number % 9}x").write_bytes(data)


def pdf(noise: random.Random, pages: int) -> bytes:
    """A scanned document: an image of 1.3 MB a page, each beside its page object, and the table at the end."""
    out, offsets = bytearray(b"%PDF-1.4\n"), {}

    def put(number: int, body: bytes) -> None:
        offsets[number] = len(out)
        out.extend(b"%d 0 obj\n" % number + body + b"\nendobj\n")

    for page in range(pages):
        first = 3 + 3 * page
        image = noise.randbytes(_WIDTH * _HEIGHT)
        head = b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8/Length %d>>"
        put(first, head % (_WIDTH, _HEIGHT, len(image)) + b"stream\n" + image + b"\nendstream")
        drawing = b"595 0 0 842 0 0 cm /I Do"
        put(first + 1, b"<</Length %d>>stream\n" % len(drawing) + drawing + b"\nendstream")
        put(
            first + 2,
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R/Resources<</XObject<</I %d 0 R>>>>>>"
            % (first + 1, first),
        )
    kids = b" ".join(b"%d 0 R" % (5 + 3 * page) for page in range(pages))
    put(2, b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, kids))
    put(1, b"<</Type/Catalog/Pages 2 0 R>>")
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    out += b"".join(b"%010d 00000 n \n" % offsets[number] for number in sorted(offsets))
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(offsets) + 1, table)
    return bytes(out)


def png(noise: random.Random, side: int) -> bytes:
    """A square picture of noise, about 3 bytes a pixel."""
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _letter(folder: Path) -> None:
    """An OpenDocument text, if LibreOffice is here to make it."""
    if shutil.which("soffice") is not None:
        (folder / "letter.txt").write_text("Dear Robin\n" * 200)
        profile = f"-env:UserInstallation=file://{folder.parent}/profile"
        words = [
            "soffice",
            profile,
            "--headless",
            "--convert-to",
            "odt",
            "--outdir",
            str(folder),
            str(folder / "letter.txt"),
        ]
        subprocess.run(words, capture_output=True, check=True)


def _archive(path: Path, noise: random.Random, size_mib: int) -> None:
    data = noise.randbytes(100 * 1024)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(size_mib * 10):
            archive.writestr(zipfile.ZipInfo(f"handover/room {number // 50:03}/sheet {number:05}.dat"), data)
