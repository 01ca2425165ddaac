"""Changes the settings of a running mount: each has one owner, whose setter it calls."""

from collections.abc import Mapping
from dataclasses import dataclass

from procorefs.cache.chunk_cache import ChunkCache
from procorefs.config.options import parse_setting
from procorefs.service.log_detail import LogDetail
from procorefs.service.status import Settings
from procorefs.tree.sync.follower import Follower
from procorefs.upload.delete_guard import DeleteGuard
from procorefs.upload.mount_access import MountAccess


@dataclass(frozen=True, slots=True)
class RunningSettings:
    """The owners of the settings that can change while the mount runs."""

    follower: Follower
    cache: ChunkCache
    guard: DeleteGuard
    log_detail: LogDetail
    access: MountAccess

    def change(self, words: Mapping[str, str]) -> Settings:
        """Change settings, by name. Raises ConfigError, and then nothing has changed."""
        values = {name: parse_setting(name, text) for name, text in words.items()}
        for name, value in values.items():
            match name:
                case "freshness":
                    self.follower.set_freshness(value)
                case "cache_size":
                    self.cache.set_limit(value)
                case "delete_guard":
                    self.guard.set_limit(value)
                case "log_level":
                    self.log_detail.set_level(value)
                case _:
                    raise AssertionError(f"nothing owns the setting {name}")
        return self.now()

    def set_read_only(self, is_read_only: bool) -> Settings:
        """Refuse changes of programs from now on, or accept them."""
        self.access.set_read_only(is_read_only)
        return self.now()

    def now(self) -> Settings:
        """The present values."""
        return Settings(
            freshness=self.follower.freshness_s,
            cache_size=self.cache.limit_bytes,
            delete_guard=self.guard.limit,
            log_level=self.log_detail.level,
            read_only=self.access.is_read_only,
        )
