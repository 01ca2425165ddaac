"""The settings of one mount, complete: what the daemon is started with."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from procorefs.config.options import MountOptions
from procorefs.config.paths import Paths
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import CompanyId, ProjectId
from procorefs.storage.mountinfo import SUBTYPE


class ResolvedMount(msgspec.Struct, frozen=True):
    """One project at one mount point."""

    api: ApiSettings
    """With company and project."""
    mountpoint: Path
    """Absolute, links resolved."""
    options: MountOptions
    paths: Paths
    source: str
    """SPEC as it was given: the first column of /proc/mounts, which mount(8) compares with /etc/fstab."""
    log_file: Path | None = None
    """None: the log goes to stderr."""

    @property
    def company_id(self) -> CompanyId:
        """The company whose header every call carries."""
        assert self.api.company_id is not None
        return self.api.company_id

    @property
    def project_id(self) -> ProjectId:
        """The project that is shown."""
        assert self.api.project_id is not None
        return self.api.project_id

    @property
    def fuse_words(self) -> frozenset[str]:
        """All words for libfuse; it takes a backslash before a comma or a backslash in a value."""
        source = self.source.replace("\\", "\\\\").replace(",", "\\,")
        return self.options.fuse_words | {f"fsname={source}", f"subtype={SUBTYPE}"}

    @property
    def control_socket(self) -> Path:
        """Where the daemon answers the other commands."""
        return self.paths.runtime_dir / f"{mount_key(self.mountpoint)}.sock"

    def detached_socket(self, pid: int) -> Path:
        """The same when the mount point was taken away: another daemon may answer for it by then."""
        return self.paths.runtime_dir / f"{mount_key(self.mountpoint)}.{pid}.sock"

    def state_dir(self, user_id: int) -> Path:
        """The state of this project: one directory per API host, company, project and Procore user."""
        return self._project_dir(self.paths.state_dir, user_id)

    def cache_dir(self, user_id: int) -> Path:
        """Where content of this project may be kept; losing it costs only time."""
        return self._project_dir(self.paths.cache_dir, user_id)

    def _project_dir(self, base: Path, user_id: int) -> Path:
        host = urlsplit(self.api.api_url).netloc.lower().replace(":", "_")
        return base / host / f"{self.company_id}-{self.project_id}-{user_id}"


def mount_key(mountpoint: Path) -> str:
    """A short name for a mount point that any file name can hold."""
    return hashlib.sha256(bytes(mountpoint)).hexdigest()[:16]
