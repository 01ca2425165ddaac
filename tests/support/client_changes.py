"""A client and its changes on a sandbox with one file and one folder."""

from collections.abc import Awaitable, Callable
from typing import Any

from procorefs.procore.api.changes import ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.wire.models import Document, DocumentId
from tests.support.api_client import NOW, put_file
from tests.support.sandbox import SandboxHandle

Deed = Callable[["ClientAndChanges"], Awaitable[Any]]


class ClientAndChanges:
    """A client, its changes, and a file and a folder in the sandbox."""

    def __init__(self, sandbox: SandboxHandle, client: Client) -> None:
        self.sandbox = sandbox
        self.client = client
        self.changes = ProjectChanges(client)
        self.file_id = put_file(sandbox, b"first", "plan.txt")
        folder = sandbox.act("create_folder", path="/", name="Inbox", user="first")
        self.folder_id = DocumentId(int(folder["id"]))

    async def children(self, folder_id: DocumentId | None = None) -> dict[str, Document]:
        listing = await self.client.folder(folder_id, priority=NOW)
        return {child.name: child for child in listing.children if not child.deleted}

    async def file(self, file_id: DocumentId | None = None) -> Document:
        return await self.client.file(file_id or self.file_id, priority=NOW)

    def calls(self) -> dict[str, int]:
        found: dict[str, int] = self.sandbox.calls()["by_route"]
        return found
