"""What a call that changes a document must pass: permissions, names, parents, custom fields, check-outs, uploads."""

import re
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from procorefs.sandbox.api.call_contract import Call
from procorefs.sandbox.api.refusals import ApiError, FileConflict, checked_out, forbidden, invalid, not_found
from procorefs.sandbox.project.procore_names import (
    check_content,
    check_name,
    check_path_length,
    name_taken,
    stored,
)
from procorefs.sandbox.project.records import Document, Json, Value
from procorefs.sandbox.project.roles import Right
from procorefs.sandbox.project.tree_changes import Changes
from procorefs.sandbox.storage.upload_records import Uploads

_CUSTOM_FIELD = re.compile(r"custom_field_([0-9]+)\Z")


class Edit:
    """One changing call in one project."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.store = call.sandbox.store
        self.project = call.project()
        self._dialect = call.sandbox.dialect
        self.changes = Changes(call.sandbox, call.caller.user.id)

    def check(self, right: Right) -> None:
        """Raises ApiError 403."""
        self.call.check(self.project, right)

    def check_new(self, *, description: str, private: bool) -> None:
        """What something new brings with it. Raises ApiError 403."""
        if description:
            self.check(Right.DESCRIBE)
        if private:
            self.check(Right.SET_PRIVATE)

    def document(self, *, is_file: bool) -> Document:
        """The document of the path, which is there, visible, and may be changed."""
        document = self.call.visible(self.project, self.call.path_id())
        if bool(document.is_file) != is_file:
            raise not_found("File" if is_file else "Folder")
        return self.changeable(document)

    def changeable(self, document: Document) -> Document:
        """Raises ApiError: in the bin, read-only, the root or the bin itself."""
        if self._is_restored_by_move(document):
            self.check(Right.END_CHECK_OUTS)
            self.changes.restore(document)
            return self.call.visible(self.project, document.id)
        if document.deleted or document.buried:
            status = self._dialect.delete_again
            if self.call.request.method == "DELETE" and status != 404:
                raise ApiError(status, "This document was deleted already")
            raise not_found("Document")
        if document.read_only or document.is_bin or document.parent_id is None:
            raise forbidden("You may not change this document")
        return document

    def _is_restored_by_move(self, document: Document) -> bool:
        is_move = self.call.request.method == "PATCH" and b'"parent_id"' in self.call.raw_body
        return bool(document.deleted) and is_move and self._dialect.move_restores

    def not_held_by_other(self, document: Document) -> None:
        """Raises FileConflict."""
        holder = document.holder_at(self.call.sandbox.clock.now_s())
        if holder is not None and holder != self.call.caller.user.id:
            raise checked_out(self._shown(document), self.store.user(holder).name)

    def use_upload(self, uuid: str, name: str, document: Document | None) -> tuple[int, str]:
        """(size, source) of an upload's bytes, for a new file or the next version of one. Raises ApiError."""
        uploads = Uploads(self.call.sandbox)
        if document is not None and uploads.is_used(uuid) and self._dialect.used_upload == "conflict":
            words = "This is in conflict with an earlier request"
            raise FileConflict(self._shown(document), words, "conflict")
        size, source = uploads.use(self.call.caller, self.project.id, uuid)
        check_content(name, size, self._dialect, at="file")
        return size, source

    def _shown(self, document: Document) -> Json:
        return self.call.renderer(self.project).file(document, self.store.versions(document.id))

    def parent_of_new(self, parent_id: int | None) -> int:
        """The folder that something is made in; None: the root. Raises ApiError 400."""
        if parent_id is None:
            return self.project.root_id
        if parent_id == self.project.root_id and not self._dialect.root_id_as_parent:
            raise invalid("parent_id", "is the root's, which is not named")
        return self.parent(parent_id)

    def parent(self, parent_id: int) -> int:
        """The folder something goes into. Raises ApiError 400."""
        try:
            folder = self.call.visible(self.project, parent_id)
        except ApiError as error:
            raise invalid("parent_id", "is no folder of this project") from error
        if folder.is_file or folder.deleted or folder.buried or folder.is_bin:
            raise invalid("parent_id", "is no folder of this project")
        if folder.read_only:
            raise forbidden("You may not change this folder")
        return folder.id

    def named(self, name: str) -> str:
        """The name that a document gets when it was sent under this one."""
        return stored(name, self._dialect)

    def check_place(
        self, parent_id: int, name: str, *, is_file: bool, moving: Document | None = None
    ) -> None:
        """Name, path length, taken or not, no folder into itself. Raises ApiError 400."""
        check_name(name)
        above = self.store.ancestors(parent_id)
        length = len("/".join([*(folder[1] for folder in above[1:]), name]))
        check_path_length(length)
        if moving is not None and moving.id in {folder[0] for folder in above}:
            raise invalid("parent_id", "is the folder itself or below it")
        if self.taken(parent_id, name, is_file=is_file) - {moving.id if moving is not None else 0}:
            raise name_taken()
        if moving is not None and not moving.is_file:
            self._check_paths_below(moving, length)

    def taken(self, parent_id: int, name: str, *, is_file: bool) -> set[int]:
        """Who bears the name in that folder."""
        dialect = self._dialect
        if dialect.case_sensitive_names and not dialect.kinds_share_names:
            found = self.store.child_named(parent_id, name)
            return {found} if found is not None else set()

        def key(text: str) -> str:
            return text if dialect.case_sensitive_names else text.casefold()

        return {
            child.id
            for child in self.store.children(parent_id)
            if key(child.name) == key(name)
            and (bool(child.is_file) is is_file or not dialect.kinds_share_names)
        }

    def _check_paths_below(self, folder: Document, new_length: int) -> None:
        longer = new_length - self._path_length(folder.id)
        for below in self.store.below(folder.id) if longer > 0 else ():
            check_path_length(self._path_length(below) + longer)

    def _path_length(self, document_id: int) -> int:
        return len("/".join(above[1] for above in self.store.ancestors(document_id)[1:]))

    def rename_and_move(self, document: Document, name: str | UnsetType, parent_id: int | UnsetType) -> None:
        """To another name, another folder, or both. Raises ApiError 400."""
        if name is UNSET and parent_id is UNSET:
            return
        new_name = document.name if isinstance(name, UnsetType) else self.named(name)
        new_parent_id = document.parent_id if isinstance(parent_id, UnsetType) else self.parent(parent_id)
        assert new_parent_id is not None
        if new_name != document.name:
            self.check(Right.RENAME)
        if new_parent_id != document.parent_id:
            self.check(Right.MOVE)
        self.check_place(new_parent_id, new_name, is_file=bool(document.is_file), moving=document)
        self.changes.rename_and_move(document, new_name, new_parent_id)

    def set_flags(
        self,
        document: Document,
        tracked: bool | UnsetType,
        private: bool | UnsetType,
        custom: dict[str, Value],
    ) -> None:
        """Tracked, private, custom fields: as far as they were given."""
        if tracked is not UNSET:
            self.changes.update(document.id, tracked=int(tracked))
        if private is not UNSET:
            self.check(Right.SET_PRIVATE)
            self.changes.set_private(document.id, private)
        if custom:
            self.changes.update(document.id, fields=self.custom_fields(custom, document.fields))

    # custom fields

    def custom_fields(self, given: dict[str, Value], stored: str) -> str:
        """The stored fields with the given `custom_field_<id>` values written into them. Raises ApiError 400."""
        fields: Json = msgspec.json.decode(stored)
        for name, value in given.items():
            definition_id = _definition_id(name)
            data_type = self.store.value(
                "SELECT data_type FROM field_definitions WHERE id = ? AND tool = 'documents'",
                (definition_id,),
            )
            if data_type is None:
                raise invalid(name, "is not a custom field of documents")
            written = self._field_value(name, definition_id, data_type, value)
            if written is None:
                fields.pop(name, None)
            else:
                fields[name] = {"data_type": data_type, "value": written}
        return msgspec.json.encode(fields).decode()

    def _field_value(self, name: str, definition_id: int, data_type: str, value: Value) -> Value:
        if value is None or value == []:
            return None
        if value == "":
            if not self._dialect.empty_text_clears:
                raise invalid(name, "can't be blank")
            return None
        if data_type == "lov_entry" and type(value) is int:
            return self._entry(name, definition_id, value)
        if data_type == "lov_entries" and isinstance(value, list):
            return [self._entry(name, definition_id, entry_id) for entry_id in value]
        wanted = {"string": (str,), "decimal": (int, float), "boolean": (bool,)}.get(data_type, ())
        if type(value) not in wanted:
            raise invalid(name, f"is not a value of type {data_type}")
        return value

    def _entry(self, name: str, definition_id: int, entry_id: Value) -> Json:
        label = self.store.value(
            "SELECT label FROM lov_entries WHERE id = ? AND definition_id = ? AND active = 1",
            (entry_id, definition_id),
        )
        if label is None:
            raise invalid(name, f"has no entry {entry_id}")
        return {"id": entry_id, "label": label}


def fields_of(call: Call, key: str, shape: type[Any]) -> tuple[Any, dict[str, Value]]:
    """The object under `key` in the body: its known fields in a shape, and its custom fields. Raises ApiError 400."""
    body = call.body(dict[str, Any])
    if body.keys() != {key} or not isinstance(body[key], dict):
        raise invalid(key, "must be the body's one and only object")
    custom = {name: value for name, value in body[key].items() if _CUSTOM_FIELD.match(name)}
    known = {name: value for name, value in body[key].items() if name not in custom}
    try:
        return msgspec.convert(known, shape), custom
    except msgspec.ValidationError as error:
        raise invalid(key, str(error)) from error


def _definition_id(name: str) -> int:
    match = _CUSTOM_FIELD.match(name)
    assert match is not None
    return int(match[1])
