"""One file and its versions: show, make, change, delete. (procore-api.md, One file; Changing the tree)"""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from procorefs.sandbox.api.call_contract import Call, Endpoint
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.query_parameters import boolean, integer
from procorefs.sandbox.api.refusals import ApiError, invalid, not_found
from procorefs.sandbox.project.edit_checks import Edit, fields_of
from procorefs.sandbox.project.procore_names import free_name
from procorefs.sandbox.project.records import Document, Project
from procorefs.sandbox.project.roles import Right


class NewFile(msgspec.Struct, forbid_unknown_fields=True):
    """What POST takes, beside custom fields."""

    name: str
    upload_uuid: str
    parent_id: int | None = None
    description: str = ""
    is_tracked: bool = False
    explicit_permissions: bool = False
    unique_name: bool = False


class FileFields(msgspec.Struct, forbid_unknown_fields=True):
    """What PATCH takes, beside custom fields."""

    name: str | UnsetType = UNSET
    upload_uuid: str | UnsetType = UNSET
    parent_id: int | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    checked_out_until: str | UnsetType | None = UNSET
    is_tracked: bool | UnsetType = UNSET
    explicit_permissions: bool | UnsetType = UNSET


class NewVersion(msgspec.Struct, forbid_unknown_fields=True):
    """What POST of a file version takes."""

    upload_uuid: str
    name: str | UnsetType = UNSET
    notes: str | None = None


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


def create_file(call: Call) -> Answer:
    """A file with version 1."""
    edit = Edit(call)
    edit.check(Right.WRITE)
    wish, custom = fields_of(call, "file", NewFile)
    edit.check_new(description=wish.description, private=wish.explicit_permissions)
    parent_id, name = edit.parent_of_new(wish.parent_id), edit.named(wish.name)
    if wish.unique_name:
        name = free_name(name, {child.name for child in edit.store.children(parent_id)})
    edit.check_place(parent_id, name, is_file=True)
    fields = edit.custom_fields(custom, "{}")
    size, source = edit.use_upload(wish.upload_uuid, name, None)
    document_id = edit.changes.create_file(
        edit.project.id,
        parent_id,
        name,
        size=size,
        source=source,
        description=wish.description or None,
        tracked=int(wish.is_tracked),
        private=int(wish.explicit_permissions or call.sandbox.dialect.new_items_private),
        fields=fields,
    )
    return _shown(call, edit.project, document_id, 201)


def update_file(call: Call) -> Answer:
    """New bytes, name, folder, fields, check-out: any of them at once."""
    edit = Edit(call)
    document = edit.document(is_file=True)
    wish, custom = fields_of(call, "file", FileFields)
    if (
        any(value is not UNSET for value in (wish.upload_uuid, wish.checked_out_until, wish.is_tracked))
        or custom
    ):
        edit.check(Right.WRITE)
    if not _is_admins_check_in(edit, wish, custom):
        edit.not_held_by_other(document)
    edit.rename_and_move(document, wish.name, wish.parent_id)
    edit.set_flags(document, wish.is_tracked, wish.explicit_permissions, custom)
    if not isinstance(wish.description, UnsetType):
        edit.check(Right.DESCRIBE)
        edit.changes.update(document.id, description=_description(call, wish.description))
    if not isinstance(wish.checked_out_until, UnsetType):
        edit.changes.check_out(document.id, _until(call, wish.checked_out_until))
    _add_version(edit, document, wish)
    return _shown(call, edit.project, document.id, 200)


def delete_file(call: Call) -> Answer:
    """Into the recycle bin."""
    edit = Edit(call)
    edit.check(Right.DELETE)
    document = edit.document(is_file=True)
    edit.not_held_by_other(document)
    edit.changes.delete(document)
    return Answer(None, call.sandbox.dialect.delete_status)


def create_file_version(call: Call) -> Answer:
    """A further version, with notes."""
    edit = Edit(call)
    edit.check(Right.WRITE)
    if "file_id" not in call.query:
        raise invalid("file_id", "is missing")
    document = edit.changeable(_file(call, edit.project, call.query["file_id"]))
    wish, custom = fields_of(call, "file_version", NewVersion)
    if custom:
        raise invalid("file_version", "takes no custom fields")
    edit.not_held_by_other(document)
    edit.rename_and_move(document, wish.name, UNSET)
    name = document.name if wish.name is UNSET else wish.name
    size, source = edit.use_upload(wish.upload_uuid, name, document)
    version_id = edit.changes.add_version(document.id, name, size=size, source=source, notes=wish.notes)
    version = edit.store.version(version_id)
    assert version is not None
    return Answer(call.renderer(edit.project).version(version), 201)


def _file(call: Call, project: Project, document_id: int) -> Document:
    document = call.visible(project, document_id)
    if not document.is_file:
        raise not_found("File")
    return document


def _shown(call: Call, project: Project, document_id: int, status: int) -> Answer:
    store = call.sandbox.store
    document = store.document(document_id)
    assert document is not None
    versions = store.versions(document_id) if call.sandbox.dialect.answered_versions == "all" else []
    return Answer(call.renderer(project).file(document, versions), status)


def _is_admins_check_in(edit: Edit, wish: FileFields, custom: dict[str, object]) -> bool:
    """An admin may reset anybody's check-out; with that call nothing else changes."""
    return (
        edit.call.role(edit.project).may(Right.END_CHECK_OUTS)
        and not custom
        and wish == FileFields(checked_out_until=None)
    )


def _description(call: Call, text: str | None) -> str | None:
    if text is None and not call.sandbox.dialect.null_clears_description:
        raise invalid("description", "must be a string")
    if text == "" and not call.sandbox.dialect.empty_text_clears:
        raise invalid("description", "can't be blank")
    return text or None


def _until(call: Call, text: str | None) -> int | None:
    """The check-out's end in Unix seconds; None checks it in. Raises ApiError 400, 422."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid("checked_out_until", "is not an ISO 8601 time") from error
    if moment.tzinfo is None:
        raise invalid("checked_out_until", "has no time zone")
    if moment.timestamp() <= call.sandbox.clock.now():
        raise ApiError(422, {"checked_out_until": ["must be in the future"]})
    return int(moment.timestamp())


def _add_version(edit: Edit, document: Document, wish: FileFields) -> None:
    name = document.name if wish.name is UNSET else wish.name
    if not isinstance(wish.upload_uuid, UnsetType):
        size, source = edit.use_upload(wish.upload_uuid, name, document)
        edit.changes.add_version(document.id, name, size=size, source=source)
    elif edit.call.sandbox.dialect.patch_makes_version:
        newest = edit.store.versions(document.id)[0]
        edit.changes.add_version(document.id, name, size=newest.size, source=newest.source)
    elif edit.call.sandbox.dialect.patch_renumbers:
        edit.store.execute("UPDATE versions SET number = number + 1 WHERE id = ?", (document.version_id,))


_PROJECT = {"project_id": integer}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/rest/v1.0/files/{id}",
        handler=show_file,
        query={"project_id": integer, "show_latest_version_only": boolean},
    ),
    Endpoint(method="POST", path="/rest/v1.0/files", handler=create_file, query=_PROJECT),
    Endpoint(method="PATCH", path="/rest/v1.0/files/{id}", handler=update_file, query=_PROJECT),
    Endpoint(method="DELETE", path="/rest/v1.0/files/{id}", handler=delete_file, query=_PROJECT),
    Endpoint(method="GET", path="/rest/v1.0/file_versions/{id}", handler=show_file_version, query=_PROJECT),
    Endpoint(
        method="POST",
        path="/rest/v1.0/file_versions",
        handler=create_file_version,
        query={"project_id": integer, "file_id": integer},
    ),
)
