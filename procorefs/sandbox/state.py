"""The parts of one running sandbox, put together."""

import secrets

import msgspec

from procorefs.sandbox.api.call_counts import Calls
from procorefs.sandbox.api.rate_windows import RateLimits
from procorefs.sandbox.clock import Clock
from procorefs.sandbox.config import SandboxConfig
from procorefs.sandbox.faults.dialect import STRICT, Dialect
from procorefs.sandbox.faults.fault_rules import Faults
from procorefs.sandbox.project.rows import Store
from procorefs.sandbox.storage.signed_urls import Urls
from procorefs.sandbox.storage.version_content import Contents


class Sandbox:
    """What routes, store and control share; lives as long as the server."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.clock = Clock()
        self.dialect = self.first_dialect()
        self.faults = Faults()
        self.calls = Calls()
        self.rates = RateLimits(config.hourly_calls, config.spike_calls, config.hour_s)
        self.urls = Urls(self.clock)
        self.control_key = secrets.token_urlsafe(24)
        """Part of the address of the control API, which reads local directories: other users must not reach it."""
        self.contents = Contents(config.data_dir)
        self.store = Store(config.data_dir / "procore.sqlite" if config.data_dir else None)

    def first_dialect(self) -> Dialect:
        """The one it starts with."""
        if self.config.strict:
            return msgspec.convert(STRICT, Dialect)
        return Dialect(version_urls=self.config.version_urls)

    def close(self) -> None:
        self.store.close()
        self.contents.close()
