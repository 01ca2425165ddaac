"""One folder: show, make, rename and move, delete. (procore-api.md, One folder; Changing the tree)"""

from ..answers import Answer
from ..contract import Call, Endpoint, granted_roots
from ..failures import not_found
from ..query import Parser, boolean, integer
from ..records import Document, Json, Project


def show_root_folder(call: Call) -> Answer:
    project = call.project()
    return Answer(listing_of(call, project, call.visible(project, project.root_id)))


def show_folder(call: Call) -> Answer:
    project = call.project()
    document = call.visible(project, call.path_id())
    if document.is_file:
        raise not_found("Folder")
    return Answer(listing_of(call, project, document))


def listing_of(call: Call, project: Project, folder: Document) -> Json:
    """The folder with one level below it."""
    renderer = call.renderer(project)
    answer = renderer.folder(folder)
    children = _children(call, project, folder)
    if not call.query.get("exclude_folders"):
        folders = [renderer.folder(child) for child in children if not child.is_file]
        answer["folders"] = [{**child, "folders": [], "files": []} for child in folders]
    elif call.sandbox.dialect.excluded_lists == "empty":
        answer["folders"] = []
    if not call.query.get("exclude_files"):
        versions = call.sandbox.store.versions_in(folder.id)
        newest = 1 if call.query.get("show_latest_file_version_only") else None
        answer["files"] = [
            renderer.file(child, versions.get(child.id, [])[:newest]) for child in children if child.is_file
        ]
    elif call.sandbox.dialect.excluded_lists == "empty":
        answer["files"] = []
    return answer


def _children(call: Call, project: Project, folder: Document) -> list[Document]:
    store = call.sandbox.store
    if folder.is_bin:
        children = store.documents(
            "WHERE d.project_id = ? AND d.deleted = 1 ORDER BY d.name, d.id", (project.id,)
        )
    else:
        children = store.children(folder.id)
    if call.level(project) == "admin":
        return children
    granted, user_id = granted_roots(call.sandbox, call.caller), call.caller.user.id
    return [
        child
        for child in children
        if child.private_root is None or child.created_by == user_id or child.private_root in granted
    ]


_SHOW: dict[str, Parser] = {
    "project_id": integer,
    "exclude_folders": boolean,
    "exclude_files": boolean,
    "show_latest_file_version_only": boolean,
}

ENDPOINTS = (
    Endpoint(method="GET", path="/rest/v1.0/folders", handler=show_root_folder, query=_SHOW),
    Endpoint(method="GET", path="/rest/v1.0/folders/{id}", handler=show_folder, query=_SHOW),
)
