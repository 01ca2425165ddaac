"""The directories of one user: all state, cache and configuration lie below them and nowhere else.

XDG Base Directory Specification: an unset, empty or relative variable means its default. mount(8) runs its
helper without HOME, so the home of the account is the last resort.
"""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import msgspec

from procorefs.storage.failures import ConfigError
from procorefs.storage.private_files import is_private_folder, make_private_folder, replace_private_file


class Paths(msgspec.Struct, frozen=True):
    """Where things lie; every directory of ours is 0700 and every file 0600."""

    config_file: Path
    cache_dir: Path
    state_dir: Path
    runtime_dir: Path
    """Sockets and the register of mounts; below `state_dir` where the session has no runtime directory."""

    @property
    def secrets_dir(self) -> Path:
        """One file a profile with its client secret: beside the configuration, in a folder of our own."""
        if self.config_file.parent.name == "procorefs":
            return self.config_file.parent / "secrets"
        return self.config_file.with_suffix(".secrets")

    @property
    def tokens_dir(self) -> Path:
        """One file for each profile or client id with the tokens that Procore gave."""
        return self.state_dir / "tokens"

    @property
    def budgets_dir(self) -> Path:
        """One file for each API host and client id: the calls that all processes of this user share."""
        return self.state_dir / "budgets"

    @property
    def logs_dir(self) -> Path:
        """One log a mount point."""
        return self.state_dir / "logs"

    @property
    def runtime_dirs(self) -> tuple[Path, ...]:
        """Where mounts are registered: one may have begun in a session with another runtime directory.

        Folders that other users could have written in are left out.
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
    """Make `path` a directory for its owner alone and return it. Raises ConfigError when it cannot be one."""
    try:
        make_private_folder(path)
    except OSError as error:
        raise ConfigError(
            f"the directory {path} cannot be created or used ({error.strerror}); make it writable for you or "
            "choose another with the XDG_… variables"
        ) from error
    return path


def write_private(path: Path, data: bytes) -> None:
    """Put `data` in place of `path` in one step, readable by its owner alone. Raises ConfigError."""
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
    # after `su` or `sudo -E` the variable still names another user's directory, who could write what we read there
    if not value.startswith("/") or not is_private_folder(Path(value)):
        return None
    return Path(value) / "procorefs"
