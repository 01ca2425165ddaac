"""How one sandbox is set up: ports, data directory, seed, rate limits."""

from pathlib import Path
from typing import Literal

import msgspec

PUBLISHED_HOURLY_CALLS = 3600
PUBLISHED_SPIKE_CALLS = 25


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that stay as they are while the sandbox runs."""

    port: int = 0
    """API and login port on 127.0.0.1; 0: any free one."""
    storage_port: int = 0
    storage_host: str = "localhost"
    """Name under which clients reach the store: another host than the API's, on purpose."""
    data_dir: Path | None = None
    """None: rows in memory, content files in a temporary directory that goes at the end."""
    documents: int = 0
    """Documents to invent in the first project when it is new."""
    seed: int = 1
    import_dir: Path | None = None
    big_file_bytes: int = 0
    """Size of one generated file `Large/federated-model.bin`; 0: none."""
    hourly_calls: int = PUBLISHED_HOURLY_CALLS
    spike_calls: int = PUBLISHED_SPIKE_CALLS
    """0: that window has no limit."""
    hour_s: int = 3600
    """How long an hour takes, for tests that have no hour."""
    openapi_path: Path | None = None
    """Check every request and answer against this description."""
    strict: bool = False
    """Answer every open question as in dialect.STRICT."""
    version_urls: Literal["api", "api_bytes", "storage"] = "api"
    """See Dialect.version_urls."""
