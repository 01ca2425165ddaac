"""Finds the directories of one user, which contain all state, cache and configuration.

XDG Base Directory Specification: an unset, empty or relative variable means its default. mount(8) runs its helper
without HOME, so the home directory of the account is the last fallback.
"""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import msgspec

from procorefs.storage.failures import ConfigError
from procorefs.storage.private_files import is_private_folder, make_private_folder, replace_private_file


class Paths(msgspec.Struct, frozen=True):
    """The directories; each of ours has mode 0700, and each file 0600."""

    config_file: Path
    cache_dir: Path
    state_dir: Path
    runtime_dir: Path
    """Sockets and the registry of mounts; below `state_dir` if the session has no runtime directory."""

    @property
    def secrets_dir(self) -> Path:
        """One file for each profile, with its client secret; a separate folder beside the configuration."""
        if self.config_file.parent.name == "procorefs":
            return self.config_file.parent / "secrets"
        return self.config_file.with_suffix(".secrets")

    @property
    def tokens_dir(self) -> Path:
        """One file for each profile or client id, with its tokens."""
        return self.state_dir / "tokens"

    @property
    def budgets_dir(self) -> Path:
        """One file for each API host and client id, with the call budget that all processes of this user share."""
        return self.state_dir / "budgets"

    @property
    def logs_dir(self) -> Path:
        """One log for each mount point."""
        return self.state_dir / "logs"

    @property
    def runtime_dirs(self) -> tuple[Path, ...]:
        """Where mounts are registered; a mount may be from a session with another runtime directory.

        Leaves out folders that other users may write to.
        """
        candidates = dict.fromkeys((self.runtime_dir, self.state_dir / "run"))
        return tuple(folder for folder in candidates if is_private_folder(folder))


def find_paths(environment: Mapping[str, str]) -> Paths:
    """The directories for this environment; creates nothing."""
    config_dir = _base(environment, "XDG_CONFIG_HOME", ".config") / "procorefs"
    state_dir = _base(environment, "XDG_STATE_HOME", ".local/state") / "procorefs"
    named = environment.get("PROCOREFS_CONFIG")
    return Paths(
        config_file=Path(named).absolute() if named else config_dir / "config.toml",
        cache_dir=_base(environment, "XDG_CACHE_HOME", ".cache") / "procorefs",
        state_dir=state_dir,
        runtime_dir=_runtime_dir(environment) or state_dir / "run",
    )


def private_dir(path: Path) -> Path:
    """Create the directory `path` for its owner only and return it. Raises ConfigError."""
    try:
        make_private_folder(path)
    except OSError as error:
        raise ConfigError(
            f"the directory {path} cannot be created or used ({error.strerror}); make it writable for you or "
            "choose another with the XDG_… variables"
        ) from error
    return path


def write_private(path: Path, data: bytes) -> None:
    """Replace the content of `path` in one step, readable only by its owner. Raises ConfigError."""
    private_dir(path.parent)
    try:
        replace_private_file(path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error


def _base(environment: Mapping[str, str], variable: str, default: str) -> Path:
    value = environment.get(variable, "")
    return Path(value) if value.startswith("/") else _home(environment) / default


def _home(environment: Mapping[str, str]) -> Path:
    home = environment.get("HOME", "")
    if home.startswith("/"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise ConfigError(
            f"user id {os.getuid()} has no home directory; set HOME or the XDG_… variables"
        ) from error


def _runtime_dir(environment: Mapping[str, str]) -> Path | None:
    value = environment.get("XDG_RUNTIME_DIR", "")
    # After `su` or `sudo -E` the variable still names the directory of another user, who could write what we read.
    if not value.startswith("/") or not is_private_folder(Path(value)):
        return None
    return Path(value) / "procorefs"
