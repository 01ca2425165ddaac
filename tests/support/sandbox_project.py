"""Calls of one user that change one project of the sandbox, without the client."""

from typing import Any

import httpx

from tests.support.sandbox import SandboxHandle, plain


class Project:
    """Calls of one user that change one project."""

    def __init__(self, sandbox: SandboxHandle, client: httpx.Client) -> None:
        self.sandbox = sandbox
        self.client = client
        self.query = {"project_id": sandbox.project_id}

    def upload(self, content: bytes) -> str:
        """Begin a whole upload and send it; returns its uuid."""
        path = f"/rest/v1.1/projects/{self.sandbox.project_id}/uploads"
        begun = self.client.post(path, json={"response_filename": "x"}).json()
        sent = plain("POST", begun["url"], data=begun["fields"], files={"file": ("x", content)})
        assert sent.status_code == 204, sent.text
        uuid: str = begun["uuid"]
        return uuid

    def create_file(self, name: str, content: bytes = b"first", **fields: Any) -> httpx.Response:
        body = {"file": {"name": name, "upload_uuid": self.upload(content), **fields}}
        return self.client.post("/rest/v1.0/files", params=self.query, json=body)

    def patch_file(self, file_id: int, **fields: Any) -> httpx.Response:
        return self.client.patch(f"/rest/v1.0/files/{file_id}", params=self.query, json={"file": fields})

    def delete_file(self, file_id: int) -> httpx.Response:
        return self.client.delete(f"/rest/v1.0/files/{file_id}", params=self.query)

    def create_folder(self, name: str, **fields: Any) -> httpx.Response:
        body = {"folder": {"name": name, **fields}}
        return self.client.post("/rest/v1.0/folders", params=self.query, json=body)

    def patch_folder(self, folder_id: int, **fields: Any) -> httpx.Response:
        return self.client.patch(
            f"/rest/v1.0/folders/{folder_id}", params=self.query, json={"folder": fields}
        )

    def file(self, file_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/rest/v1.0/files/{file_id}", params=self.query).json()
        return found

    def bytes_of(self, file_id: int) -> bytes:
        url = self.client.get(self.file(file_id)["file_versions"][0]["url"]).headers["location"]
        return plain("GET", url).content
