"""Settings: reads and checks directories, profiles, environment, SPEC and -o once; returns frozen structs."""

from procorefs.config.account import Account, find_account
from procorefs.config.layers import Setting, layered_options, option_settings
from procorefs.config.options import MountOptions, described_options, options_help, parse_options
from procorefs.config.paths import Paths, find_paths, private_dir
from procorefs.config.profiles import Config, Profile, read_config, write_config
from procorefs.config.resolved import ResolvedMount
from procorefs.config.spec import Spec, parse_spec
from procorefs.storage.failures import ConfigError, Failure

__all__ = [
    "Account",
    "Config",
    "ConfigError",
    "Failure",
    "MountOptions",
    "Paths",
    "Profile",
    "ResolvedMount",
    "Setting",
    "Spec",
    "described_options",
    "find_account",
    "find_paths",
    "layered_options",
    "option_settings",
    "options_help",
    "parse_options",
    "parse_spec",
    "private_dir",
    "read_config",
    "write_config",
]
