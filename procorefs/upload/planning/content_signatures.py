"""Decides whether new bytes of a document are of another type than its name says: pure functions over first bytes.

A program that encrypts files leaves bytes that begin like no file of that type. Only types whose files always begin in
a known way are in the table: of a text file or a drawing exchange file, the first bytes tell nothing.
"""

from collections.abc import Callable

HEAD_BYTES = 1024
"""This many first bytes tell what a file is."""

_Test = Callable[[bytes], bool]


def _begins(*starts: bytes, at: int = 0) -> _Test:
    return lambda head: head.startswith(starts, at)


_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ISO_MEDIA = _begins(b"ftyp", at=4)
_OPEN_XML = _begins(*_ZIP, _OLE)
"""With a password, Office Open XML is in an OLE file."""
_TIFF = _begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SIGNATURES: dict[str, _Test] = {
    # A few bytes may stand before the header: readers look for it in the first kilobyte.
    "pdf": lambda head: b"%PDF-" in head,
    **dict.fromkeys(("docx", "docm", "xlsx", "xlsm", "xlsb", "pptx", "pptm", "vsdx"), _OPEN_XML),
    **dict.fromkeys(("odt", "ods", "odp", "odg", "zip", "kmz", "bcfzip", "ifczip", "jar"), _begins(*_ZIP)),
    **dict.fromkeys(("doc", "xls", "ppt", "vsd", "msg", "mpp", "rvt", "rfa", "rte"), _begins(_OLE, *_ZIP)),
    "png": _begins(b"\x89PNG\r\n\x1a\n"),
    **dict.fromkeys(("jpg", "jpeg"), _begins(b"\xff\xd8\xff")),
    "gif": _begins(b"GIF87a", b"GIF89a"),
    **dict.fromkeys(("tif", "tiff"), _TIFF),
    "bmp": _begins(b"BM"),
    "webp": _begins(b"RIFF"),
    **dict.fromkeys(("heic", "heif", "mp4", "m4v", "m4a"), _ISO_MEDIA),
    "psd": _begins(b"8BPS"),
    "dwg": _begins(b"AC1", b"AC2", b"MC0"),
    "ifc": lambda head: b"ISO-10303-21" in head,
    "rtf": _begins(b"{\\rtf"),
    "7z": _begins(b"7z\xbc\xaf\x27\x1c"),
    "rar": _begins(b"Rar!\x1a\x07"),
    "gz": _begins(b"\x1f\x8b"),
}
"""By extension: whether first bytes are those of such a file. Older programs write some of the newer types under the
older extension."""


def has_signature(name: str) -> bool:
    """Whether files with such a name begin in a known way."""
    return _extension(name) in _SIGNATURES


def is_other_type(head: bytes, name: str, new_name: str) -> bool:
    """Whether bytes are of another type than the document's name says, and than its new name says.

    `name`: as Procore has it; `new_name`: as programs see it. No bytes at all are of another type, too.
    """
    test, new_test = _SIGNATURES.get(_extension(name)), _SIGNATURES.get(_extension(new_name))
    if test is None or test(head):
        return False
    return new_test is None or not new_test(head)


def _extension(name: str) -> str:
    _, dot, extension = name.rpartition(".")
    return extension.lower() if dot else ""
