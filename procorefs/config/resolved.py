"""Defines the complete settings of one mount, with which the daemon starts."""

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
    """SPEC as given: the first column of /proc/mounts, which mount(8) compares with /etc/fstab."""
    log_file: Path | None = None
    """None: the log goes to stderr."""

    @property
    def company_id(self) -> CompanyId:
        """The company in the header of every call."""
        assert self.api.company_id is not None
        return self.api.company_id

    @property
    def project_id(self) -> ProjectId:
        """The project that is mounted."""
        assert self.api.project_id is not None
        return self.api.project_id

    @property
    def calls_per_hour(self) -> int:
        """Of the option, else of the profile; 0: found out."""
        asked = self.options.calls_per_hour
        return self.api.calls_per_hour if asked is None else asked

    @property
    def fuse_words(self) -> frozenset[str]:
        """All options for libfuse; in a value a backslash escapes a comma or a backslash."""
        source = self.source.replace("\\", "\\\\").replace(",", "\\,")
        return self.options.fuse_words | {f"fsname={source}", f"subtype={SUBTYPE}"}

    @property
    def control_socket(self) -> Path:
        """The socket on which the daemon answers commands."""
        return self.paths.runtime_dir / f"{mount_key(self.mountpoint)}.sock"

    def detached_socket(self, pid: int) -> Path:
        """The control socket after an unmount from outside, because another daemon may use the first one."""
        return self.paths.runtime_dir / f"{mount_key(self.mountpoint)}.{pid}.sock"

    def state_dir(self, user_id: int) -> Path:
        """The directory of this project's state, one for each API host, company, project and Procore user."""
        return self._project_dir(self.paths.state_dir, user_id)

    def cache_dir(self, user_id: int) -> Path:
        """The directory of this project's cache; its loss costs only time."""
        return self._project_dir(self.paths.cache_dir, user_id)

    def _project_dir(self, base: Path, user_id: int) -> Path:
        host = urlsplit(self.api.api_url).netloc.lower().replace(":", "_")
        return base / host / f"{self.company_id}-{self.project_id}-{user_id}"


def log_file(paths: Paths, mountpoint: Path) -> Path:
    """The log of every daemon at this mount point."""
    return paths.logs_dir / f"{(mountpoint.name or 'root')[:64]}-{mount_key(mountpoint)[:8]}.log"


def mount_key(mountpoint: Path) -> str:
    """A short key for a mount point, for file names."""
    return hashlib.sha256(bytes(mountpoint)).hexdigest()[:16]
