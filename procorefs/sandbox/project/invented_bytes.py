"""Bytes of invented documents: the same for the same (kind, number, size), and real enough to be opened.

Each maker returns exactly `size` bytes, or a plain run of noise when the size is too small for its format.
"""

import random
import struct

_PDF_OVERHEAD = 700
_JPEG_SEGMENT_BYTES = 65_000


def invented_bytes(kind: str, number: int, size_bytes: int) -> bytes:
    """`kind` is a file type such as pdf, jpg, dwg, txt, csv; `number` seeds it."""
    if kind == "pdf" and size_bytes >= _PDF_OVERHEAD:
        return _pdf(number, size_bytes)
    if kind == "jpg" and size_bytes >= len(_jpeg_of(b"")) + 8:
        return _jpeg(number, size_bytes)
    if kind in {"txt", "csv", "md"}:
        return _text(number, size_bytes)
    if kind == "dwg":
        return (b"AC1032\x00\x00\x00\x00\x00\x00" + _noise(number, size_bytes))[:size_bytes]
    return _noise(number, size_bytes)


def _noise(number: int, size_bytes: int) -> bytes:
    return random.Random(number).randbytes(size_bytes)


def _text(number: int, size_bytes: int) -> bytes:
    words = (
        "beam",
        "column",
        "level",
        "checked",
        "revised",
        "approved",
        "slab",
        "duct",
        "north",
        "fire",
        "concrete",
    )
    choose = random.Random(number)
    line = " ".join(choose.choice(words) for _ in range(12)).capitalize() + ".\n"
    return (line * (size_bytes // len(line) + 1)).encode()[:size_bytes]


def _pdf(number: int, size_bytes: int) -> bytes:
    """One page that says its number; a comment fills it up to the size."""
    page = b"BT /F1 24 Tf 72 720 Td (Sheet %d) Tj ET" % number
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for index, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (index, content)
    table = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%010d\n%%%%EOF\n"
    filler = size_bytes - len(body) - len(table) - len(trailer % 0) - 2
    body += b"%" + _noise(number, filler // 2 + 1).hex().encode()[:filler] + b"\n"
    return body + table + trailer % len(body)


def _jpeg(number: int, size_bytes: int) -> bytes:
    """A grey square of 8 by 8; comment segments fill it up to the size."""
    missing = size_bytes - len(_jpeg_of(b""))
    comments = b""
    while missing:
        length = missing if missing <= _JPEG_SEGMENT_BYTES else min(missing - 4, _JPEG_SEGMENT_BYTES)
        comments += b"\xff\xfe" + struct.pack(">H", length - 2) + _noise(number, length - 4)
        missing -= length
    return _jpeg_of(comments)


def _jpeg_of(comments: bytes) -> bytes:
    quantisation = b"\xff\xdb\x00\x43\x00" + b"\x10" * 64
    frame = b"\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00"
    one_code = b"\x01" + b"\x00" * 15 + b"\x00"
    tables = b"\xff\xc4\x00\x14\x00" + one_code + b"\xff\xc4\x00\x14\x10" + one_code
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x3f"
    return b"\xff\xd8" + comments + quantisation + frame + tables + scan + b"\xff\xd9"
