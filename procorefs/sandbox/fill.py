"""Fills a sandbox with its company and project, and says how to reach it."""

import json
from pathlib import Path

from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.control.find_document import resolve
from procorefs.sandbox.control.import_tree import Imported, TreeImport
from procorefs.sandbox.project.invented_project import (
    COMPANY_ID,
    OTHER_USER_ID,
    PROJECT_ID,
    seed_company,
    seed_documents,
)
from procorefs.sandbox.project.records import Json
from procorefs.sandbox.project.tree_changes import Changes
from procorefs.sandbox.state import Sandbox


def fill(sandbox: Sandbox, documents: int) -> None:
    """Company, people and `documents` documents, when the sandbox has none yet."""
    store = sandbox.store
    if store.value("SELECT 1 FROM companies"):
        return
    with store.change():
        seed_company(store, sandbox.clock)
        seed_documents(store, PROJECT_ID, documents, sandbox.config.seed)
        if sandbox.config.big_file_bytes:
            _add_big_file(sandbox, sandbox.config.big_file_bytes)
        if sandbox.config.import_dir is not None:
            import_directory(sandbox, sandbox.config.import_dir, "/")


def import_directory(sandbox: Sandbox, path: Path, into: str) -> Imported:
    """Copy a directory's content into a folder of the project. Raises ApiError: no such directory or folder."""
    store, project = sandbox.store, sandbox.store.project(PROJECT_ID)
    assert project is not None
    try:
        with store.change():
            return TreeImport(sandbox, project.id, OTHER_USER_ID).run(
                path, resolve(store, project.root_id, into)
            )
    except OSError as error:
        raise ApiError(400, f"{path} cannot be read: {error.strerror}") from error


def _add_big_file(sandbox: Sandbox, size_bytes: int) -> None:
    project = sandbox.store.project(PROJECT_ID)
    assert project is not None
    changes = Changes(sandbox, OTHER_USER_ID)
    folder_id = changes.create_folder(project.id, project.root_id, "Large")
    source = sandbox.contents.put_numbered("big", size_bytes, sandbox.config.seed)
    changes.create_file(project.id, folder_id, "federated-model.bin", size=size_bytes, source=source)


def _secrets(sandbox: Sandbox) -> dict[str, str]:
    return dict(sandbox.store.execute("SELECT client_id, client_secret FROM clients").fetchall())


def refill(sandbox: Sandbox, documents: int) -> None:
    """Everything anew but the clients' secrets: rows, content, counts."""
    kept = _secrets(sandbox)
    sandbox.store.empty()
    sandbox.contents.empty()
    sandbox.calls.reset()
    fill(sandbox, documents)
    for client_id, client_secret in kept.items():
        sandbox.store.execute(
            "UPDATE clients SET client_secret = ? WHERE client_id = ?", (client_secret, client_id)
        )


def announcement(sandbox: Sandbox) -> Json:
    """What a client needs to know, as the command prints it."""
    rows = sandbox.store.execute("SELECT client_id, client_secret, user_id FROM clients ORDER BY client_id")
    first, second = (
        {"client_id": row[0], "client_secret": row[1], "user_id": row[2]} for row in list(rows)[:2]
    )
    url = sandbox.urls.api
    return {
        "url": url,
        "login_url": url,
        "control_url": f"{url}/sandbox/{sandbox.control_key}",
        "storage_url": sandbox.urls.storage,
        **first,
        "company_id": COMPANY_ID,
        "project_id": PROJECT_ID,
        "second": second,
    }


def announcement_line(sandbox: Sandbox) -> str:
    return json.dumps(announcement(sandbox))
