"""How the client's tests reach the sandbox."""

import base64
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec

from procorefs.limiter import Limiter, LocalLimiter, Priority
from procorefs.procore.api.client import Client, open_client
from procorefs.procore.api.downloads import Downloads
from procorefs.procore.api.uploads import Uploads
from procorefs.procore.http.file_body import SourceFile
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import CompanyId, Document, DocumentId, ProjectId, Version
from tests.support.sandbox import SandboxHandle

NOW = Priority.INTERACTIVE


class CountingLimiter(LocalLimiter):
    """The real one; counts calls that were let in and not reported yet."""

    def __init__(self) -> None:
        super().__init__()
        self.balance = 0
        self.priorities: list[Priority] = []

    async def acquire(self, priority: Priority) -> None:
        await super().acquire(priority)
        self.balance += 1
        self.priorities.append(priority)

    def observe(self, status: int, headers: Any) -> None:
        self.balance -= 1
        super().observe(status, headers)


def settings(sandbox: SandboxHandle, **changes: Any) -> ApiSettings:
    """Settings for the sandbox's first client."""
    made = ApiSettings(
        api_url=sandbox.url,
        login_url=sandbox.login_url,
        client_id=sandbox.client_id,
        client_secret=sandbox.client_secret,
        company_id=CompanyId(sandbox.company_id),
        project_id=ProjectId(sandbox.project_id),
    )
    return msgspec.structs.replace(made, **changes)


@asynccontextmanager
async def client_of(
    sandbox: SandboxHandle, limiter: Limiter | None = None, **changes: Any
) -> AsyncIterator[Client]:
    async with open_client(settings(sandbox, **changes), limiter=limiter) as client:
        yield client


def random_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


def put_file(sandbox: SandboxHandle, content: bytes, name: str = "a.bin") -> DocumentId:
    """A new file in the root."""
    made = sandbox.act("create_file", path="/", name=name, base64=base64.b64encode(content).decode())
    return DocumentId(int(made["id"]))


async def version_of(client: Client, file_id: DocumentId) -> Version:
    document: Document = await client.file(file_id, priority=NOW)
    assert document.version is not None
    return document.version


async def fetched(downloads: Downloads, version: Version, start: int = 0, end: int | None = None) -> bytes:
    """The bytes [start, end) in one piece."""
    async with downloads.stream(version, start, version.size_bytes if end is None else end) as pieces:
        return b"".join([piece async for piece in pieces])


@contextmanager
def staged(content: bytes) -> Iterator[SourceFile]:
    """A file to be uploaded."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield SourceFile(file.fileno(), len(content))


async def uploaded(client: Client, content: bytes) -> str:
    """Bytes at the storage, ready to be used; returns the upload's uuid. One call."""
    uploads = Uploads(client)
    begun = await uploads.begin_whole("x.bin", None, len(content))
    with staged(content) as source:
        await uploads.send_whole(begun, source)
    return begun.uuid
