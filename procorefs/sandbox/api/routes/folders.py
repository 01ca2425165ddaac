"""One folder: show, make, rename and move, delete. (procore-api.md, One folder; Changing the tree)"""

import msgspec
from msgspec import UNSET, UnsetType

from procorefs.sandbox.api.call_contract import Call, Endpoint, granted_roots
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.query_parameters import Parser, boolean, integer
from procorefs.sandbox.api.refusals import not_found
from procorefs.sandbox.project.edit_checks import Edit, fields_of
from procorefs.sandbox.project.records import Document, Json, Project
from procorefs.sandbox.project.roles import Right


class FolderFields(msgspec.Struct, forbid_unknown_fields=True):
    """What POST and PATCH take, beside custom fields."""

    name: str | UnsetType = UNSET
    parent_id: int | UnsetType = UNSET
    is_tracked: bool | UnsetType = UNSET
    explicit_permissions: bool | UnsetType = UNSET


def show_root_folder(call: Call) -> Answer:
    project = call.project()
    return Answer(listing_of(call, project, call.visible(project, project.root_id)))


def show_folder(call: Call) -> Answer:
    project = call.project()
    document = call.visible(project, call.path_id())
    if document.is_file:
        raise not_found("Folder")
    return Answer(listing_of(call, project, document))


def create_folder(call: Call) -> Answer:
    edit = Edit(call)
    edit.check(Right.WRITE)
    fields, custom = fields_of(call, "folder", FolderFields)
    edit.check_new(description="", private=fields.explicit_permissions is True)
    name = "" if isinstance(fields.name, UnsetType) else edit.named(fields.name)
    parent_id = edit.parent_of_new(None if isinstance(fields.parent_id, UnsetType) else fields.parent_id)
    edit.check_place(parent_id, name, is_file=False)
    document_id = edit.changes.create_folder(
        edit.project.id,
        parent_id,
        name,
        private=int(fields.explicit_permissions is True or call.sandbox.dialect.new_items_private),
        tracked=int(fields.is_tracked is True),
        fields=edit.custom_fields(custom, "{}"),
    )
    return Answer(_now(call, edit.project, document_id), 201)


def update_folder(call: Call) -> Answer:
    """Rename, move, set fields."""
    edit = Edit(call)
    document = edit.document(is_file=False)
    fields, custom = fields_of(call, "folder", FolderFields)
    if fields.is_tracked is not UNSET or custom:
        edit.check(Right.WRITE)
    edit.rename_and_move(document, fields.name, fields.parent_id)
    edit.set_flags(document, fields.is_tracked, fields.explicit_permissions, custom)
    return Answer(_now(call, edit.project, document.id))


def delete_folder(call: Call) -> Answer:
    """Into the recycle bin, with all below."""
    edit = Edit(call)
    edit.check(Right.DELETE)
    edit.changes.delete(edit.document(is_file=False))
    return Answer(None, call.sandbox.dialect.delete_status)


def _now(call: Call, project: Project, document_id: int) -> Json:
    document = call.sandbox.store.document(document_id)
    assert document is not None
    if not call.sandbox.dialect.answered_lists:
        return call.renderer(project).folder(document)
    return listing_of(call, project, document)


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
    role = call.role(project)
    if not role.may(Right.SEE_BIN):
        children = [child for child in children if not (child.is_bin or child.deleted or child.buried)]
    if role.may(Right.SEE_PRIVATE):
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
    Endpoint(method="POST", path="/rest/v1.0/folders", handler=create_folder, query={"project_id": integer}),
    Endpoint(
        method="PATCH", path="/rest/v1.0/folders/{id}", handler=update_folder, query={"project_id": integer}
    ),
    Endpoint(
        method="DELETE", path="/rest/v1.0/folders/{id}", handler=delete_folder, query={"project_id": integer}
    ),
)
