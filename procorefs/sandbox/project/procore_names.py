"""Which names Procore takes for a file or folder. (procore-api.md, Names)"""

import re
import unicodedata

from procorefs.sandbox.api.refusals import ApiError, invalid
from procorefs.sandbox.faults.dialect import Dialect

_REFUSED = re.compile(r"[?<>:|\\*/\x00]")
_SPACE_AT_EXTENSION = re.compile(r"\s\.[^.]*\Z|\s\Z")
MAX_PATH_CHARACTERS = 255
_TYPES = (
    "apk app bat bin cmd com command cpl csh exe gadget inf1 ins inx ipa isu job jse ksh lnk msc msi msp mst osx out"
    " paf pif prg ps1 reg rgs run sct shb shs u3p vb vbe vbs vbscript workflow ws wsf"
)
STRICT_TYPES = frozenset(_TYPES.split())
"""The types that a company can block. (procore-api.md, Names)"""


def check_name(name: str) -> None:
    """Raises ApiError 400 for a name that may not be."""
    refused = _REFUSED.search(name)
    if not name or name in {".", ".."}:
        raise invalid("name", "can't be blank")
    if refused:
        raise invalid("name", f"can't contain {refused.group()!r}")
    if _SPACE_AT_EXTENSION.search(name):
        raise invalid("name", "can't have white space before or after its extension")


def stored(name: str, dialect: Dialect) -> str:
    """The name that a document gets when it was sent under this one."""
    if dialect.stored_names == "as_sent":
        return name
    composed = unicodedata.normalize("NFC", name)
    if dialect.stored_names == "nfc":
        return composed
    tidied = re.sub(r"\s+", " ", composed).lstrip()
    return tidied if dialect.stored_names == "tidied" else re.sub(r'[#%&~"]', "_", tidied)


def check_content(name: str, size: int | None, dialect: Dialect, *, at: str) -> None:
    """Raises ApiError 400 for an empty file or a blocked type, if such are refused `at` the upload or the file."""
    if size == 0 and dialect.empty_files == f"refused_at_{at}":
        raise _refused_content(dialect, {"base": ["The file is empty"]})
    if file_type(name) in STRICT_TYPES and dialect.strict_types == f"refused_at_{at}":
        raise _refused_content(dialect, {"name": ["has a file type that is not allowed"]})


def _refused_content(dialect: Dialect, errors: dict[str, list[str]]) -> ApiError:
    return ApiError(400, errors if dialect.refusals_name_rule else "This request can't be processed")


def check_path_length(characters: int) -> None:
    """Raises ApiError 400 when a path from the project's root is too long."""
    if characters > MAX_PATH_CHARACTERS:
        raise invalid("name", f"makes a path longer than {MAX_PATH_CHARACTERS} characters")


def name_taken() -> ApiError:
    """400: a living sibling bears the name."""
    return invalid("name", "has already been taken")


def free_name(name: str, taken: set[str]) -> str:
    """The first of `name`, `name (1)`, … that is not taken. (unique_name: true)"""
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{stem} ({number}){dot}{extension}"
    return candidate


def file_type(name: str) -> str:
    """The extension in small letters, without its dot."""
    stem, dot, extension = name.rpartition(".")
    return extension.lower() if dot and stem else ""
