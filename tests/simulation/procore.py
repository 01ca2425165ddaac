"""The sandbox in this process: what Procore holds, read without a call, and what a colleague does there."""

from dataclasses import dataclass

from procorefs.procore.models import CompanyId, ProjectId
from procorefs.procore.settings import ApiSettings
from procorefs.sandbox.app import create_app, create_storage_app
from procorefs.sandbox.config import SandboxConfig
from procorefs.sandbox.fill import announcement, fill
from procorefs.sandbox.oauth import expire_access_tokens
from procorefs.sandbox.seed import PROJECT_ID
from procorefs.sandbox.state import Sandbox
from tests.simulation.network import Application

API, STORAGE = "127.0.0.1:1", "localhost:2"


@dataclass(frozen=True, slots=True)
class Held:
    """A living document as Procore holds it."""

    id: int
    is_folder: bool
    content: bytes | None
    """Of the newest version."""
    versions: int


class Procore:
    """One project, empty at first."""

    def __init__(self, *, hourly_calls: int = 0, spike_calls: int = 0) -> None:
        self.sandbox = Sandbox(SandboxConfig(hourly_calls=hourly_calls, spike_calls=spike_calls))
        self.sandbox.urls.api = f"http://{API}"
        self.sandbox.urls.storage = f"http://{STORAGE}"
        fill(self.sandbox, 0)
        self.hosts: dict[str, Application] = {
            API: create_app(self.sandbox),
            STORAGE: create_storage_app(self.sandbox),
        }

    def settings(self) -> ApiSettings:
        """How the product logs in."""
        told = announcement(self.sandbox)
        return ApiSettings(
            api_url=told["url"],
            login_url=told["login_url"],
            client_id=told["client_id"],
            client_secret=told["client_secret"],
            company_id=CompanyId(told["company_id"]),
            project_id=ProjectId(told["project_id"]),
        )

    def holds(self) -> dict[str, Held]:
        """Every living document by its path."""
        store = self.sandbox.store
        project = store.project(PROJECT_ID)
        assert project is not None
        found: dict[str, Held] = {}
        waiting = [(project.root_id, "")]
        while waiting:
            folder, above = waiting.pop()
            for child in store.children(folder):
                if child.is_bin:
                    continue
                path = f"{above}/{child.name}".lstrip("/")
                versions = store.versions(child.id)
                content = self.sandbox.contents.read(versions[0]) if versions else None
                found[path] = Held(child.id, not child.is_file, content, len(versions))
                if not child.is_file:
                    waiting.append((child.id, path))
        return found

    def expire_tokens(self) -> None:
        """No token that was given out before is good any more."""
        expire_access_tokens(self.sandbox)

    def close(self) -> None:
        self.sandbox.close()
