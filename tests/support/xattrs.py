"""Extended attributes for tests of real mounts: by the system call, by the commands, and what Procore has of them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.environment import run
from tests.support.sandbox import SandboxHandle

PROCORE = "user.procore."
TAGS, DESCRIPTION = PROCORE + "tags", PROCORE + "description"
XDG_TAGS, XDG_COMMENT = "user.xdg.tags", "user.xdg.comment"
CUSTOM = PROCORE + "custom."


def getfattr(path: Path, name: str) -> str:
    """One value, by the command."""
    return run("getfattr", "--only-values", "--absolute-names", "-n", name, path)


def setfattr(path: Path, name: str, value: str) -> None:
    run("setfattr", "-n", name, "-v", value, path)


def unsetfattr(path: Path, name: str) -> None:
    run("setfattr", "-x", name, path)


def attributes(path: Path) -> dict[str, str]:
    """All that is listed."""
    return {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}


def refusal_of(*command: str | Path) -> str:
    """What a command that must fail says."""
    answer = subprocess.run(
        [os.fspath(word) for word in command], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode != 0, answer.stdout
    return answer.stderr


class ProcoreMetadata:
    """What Procore has; asking is not to be counted."""

    def __init__(self, sandbox: SandboxHandle) -> None:
        self._sandbox = sandbox

    def id(self, path: str) -> int:
        inventory = self._sandbox.inventory()
        file = inventory["files"].get(f"/{path}")
        return int(file["id"] if file is not None else inventory["folders"][f"/{path}"])

    def tags(self, path: str) -> set[str]:
        with self._session() as session:
            url = f"/rest/v1.0/projects/{self._sandbox.project_id}/document_custom_tags"
            answer = session.get(url, params={"filters[document_id]": self.id(path), "per_page": 100})
            return {tag["name"] for tag in answer.raise_for_status().json()}

    def document(self, path: str) -> dict[str, Any]:
        kind = "files" if f"/{path}" in self._sandbox.inventory()["files"] else "folders"
        with self._session() as session:
            url = f"/rest/v1.0/{kind}/{self.id(path)}"
            answer = session.get(url, params={"project_id": self._sandbox.project_id})
            found: dict[str, Any] = answer.raise_for_status().json()
            return found

    def field(self, path: str, field_id: int) -> Any:
        return self.document(path)["custom_fields"].get(f"custom_field_{field_id}", {}).get("value")

    @contextmanager
    def _session(self) -> Iterator[Any]:
        with self._sandbox.session() as session:
            yield session
