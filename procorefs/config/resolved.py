"""A mount with nothing left to ask: what the daemon is started with."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from procorefs.config.account import Account
from procorefs.config.options import MountOptions
from procorefs.config.paths import Paths


class ResolvedMount(msgspec.Struct, frozen=True):
    """One project at one mount point."""

    account: Account
    company_id: int
    project_id: int
    #: absolute, links resolved
    mountpoint: Path
    options: MountOptions
    paths: Paths

    @property
    def spec(self) -> str:
        """The project for people and for the first column of /proc/mounts."""
        return f"{self.company_id}/{self.project_id}"

    @property
    def control_socket(self) -> Path:
        """Where the daemon answers the other commands."""
        return self.paths.runtime_dir / f"{mount_key(self.mountpoint)}.sock"

    def state_dir(self, user_id: int) -> Path:
        """The one place of this project's tree: it belongs to API host, company, project and Procore user."""
        return self._project_dir(self.paths.state_dir, user_id)

    def cache_dir(self, user_id: int) -> Path:
        """Where content of this project may be kept; losing it costs only time."""
        return self._project_dir(self.paths.cache_dir, user_id)

    def _project_dir(self, base: Path, user_id: int) -> Path:
        host = urlsplit(self.account.api_url).netloc.lower().replace(":", "_")
        return base / host / f"{self.company_id}-{self.project_id}-{user_id}"


def mount_key(mountpoint: Path) -> str:
    """A short name for a mount point that any file name can hold."""
    return hashlib.sha256(bytes(mountpoint)).hexdigest()[:16]
