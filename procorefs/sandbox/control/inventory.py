"""What a project holds, for tests to compare with: every document by its path, and what its versions are.

It reads the store and nothing else, so it neither counts as a call nor checks what anybody may see.
"""

import hashlib

from procorefs.sandbox.project.invented_project import PROJECT_ID
from procorefs.sandbox.project.records import Document, Json
from procorefs.sandbox.state import Sandbox


def inventory(sandbox: Sandbox) -> Json:
    """`folders`: path -> id; `files`: path -> id, versions' numbers and sizes, newest first, and the newest's SHA-256.

    `binned`: names of what lies in the recycle bin.
    """
    store = sandbox.store
    project = store.project(PROJECT_ID)
    assert project is not None
    folders: dict[str, int] = {}
    files: dict[str, Json] = {}
    waiting = [(project.root_id, "")]
    while waiting:
        folder_id, above = waiting.pop()
        for document in store.children(folder_id):
            path = f"{above}/{document.name}"
            if document.is_bin:
                continue
            if document.is_file:
                files[path] = _file(sandbox, document)
            else:
                folders[path] = document.id
                waiting.append((document.id, path))
    binned = store.documents("WHERE d.project_id = ? AND d.deleted = 1 ORDER BY d.name", (PROJECT_ID,))
    return {"folders": folders, "files": files, "binned": [document.name for document in binned]}


def _file(sandbox: Sandbox, document: Document) -> Json:
    versions = sandbox.store.versions(document.id)
    newest = sandbox.contents.read(versions[0]) if versions else b""
    return {
        "id": document.id,
        "numbers": [version.number for version in versions],
        "sizes": [version.size for version in versions],
        "sha256": hashlib.sha256(newest).hexdigest(),
        "description": document.description or "",
    }
