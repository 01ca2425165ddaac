"""One file and its versions: show, make, change, delete. (procore-api.md, One file; Changing the tree)"""

from ..answers import Answer
from ..contract import Call, Endpoint
from ..failures import not_found
from ..query import boolean, integer
from ..records import Document, Project


def show_file(call: Call) -> Answer:
    project = call.project()
    document = _file(call, project, call.path_id())
    newest = 1 if call.query.get("show_latest_version_only") else None
    versions = call.sandbox.store.versions(document.id)[:newest]
    return Answer(call.renderer(project).file(document, versions))


def show_file_version(call: Call) -> Answer:
    project = call.project()
    version = call.sandbox.store.version(call.path_id())
    if version is None:
        raise not_found("File version")
    call.visible(project, version.document_id)
    return Answer(call.renderer(project).version(version))


def _file(call: Call, project: Project, document_id: int) -> Document:
    document = call.visible(project, document_id)
    if not document.is_file:
        raise not_found("File")
    return document


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/rest/v1.0/files/{id}",
        handler=show_file,
        query={"project_id": integer, "show_latest_version_only": boolean},
    ),
    Endpoint(
        method="GET",
        path="/rest/v1.0/file_versions/{id}",
        handler=show_file_version,
        query={"project_id": integer},
    ),
)
