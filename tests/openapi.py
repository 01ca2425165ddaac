"""Where the OpenAPI description is that tests check against."""

import os
from pathlib import Path

_BESIDE = Path(__file__).resolve().parent.parent.parent / "shared" / "procore-openapi.json"


def description_path() -> Path | None:
    """PROCORE_OPENAPI, else ../shared/procore-openapi.json beside the repository; None: tests run without it."""
    named = os.environ.get("PROCORE_OPENAPI")
    path = Path(named) if named else _BESIDE
    return path if path.is_file() else None
