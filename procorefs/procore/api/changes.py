"""Makes the calls that create, change and delete files and folders, and check files out.

One call each, which is repeated only where that is safe (calls.py): `Unanswered` says that a change may or may not have
been done, every other error that it was not done. Each returns the document as it is afterwards.
"""

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from procorefs.limiter import Priority
from procorefs.procore.api.calls import Api, Call, OnSent
from procorefs.procore.errors import Invalid, Malformed, error_messages
from procorefs.procore.wire import decoding
from procorefs.procore.wire.models import Document, DocumentId
from procorefs.procore.wire.rights import Right

FILES = "/rest/v1.0/files"
FOLDERS = "/rest/v1.0/folders"

FieldValue = str | int | float | bool | list[int] | None
"""What a custom field is set to: text, number, an entry's id, a list of ids; None, "" and [] clear it."""

Json = dict[str, Any]


class FolderChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes different at a folder; UNSET stays as it is."""

    parent_id: DocumentId | UnsetType | None = UNSET
    """The folder to move to; None: the root (whose id must be looked up once: give it where it is known)."""
    name: str | UnsetType = UNSET
    tracked: bool | UnsetType = UNSET
    private: bool | UnsetType = UNSET
    custom_fields: dict[int, FieldValue] | UnsetType = UNSET
    """By definition id."""


class FileChange(FolderChange, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes different at a file; UNSET stays as it is."""

    upload_uuid: str | UnsetType = UNSET
    """Bytes for a new version."""
    description: str | UnsetType = UNSET
    """Empty: cleared."""
    checked_out_until_s: int | UnsetType | None = UNSET
    """Unix seconds; None checks it in."""


NO_FOLDER_CHANGE = FolderChange()
NO_CHANGE = FileChange()


class ProjectChanges:
    """Changes of the settings' project, as its user."""

    def __init__(self, client: Api) -> None:
        self._client = client
        self._root_id: DocumentId | None = None

    async def create_folder(
        self,
        parent_id: DocumentId | None,
        name: str,
        change: FolderChange = NO_FOLDER_CHANGE,
        *,
        priority: Priority = Priority.WRITING,
        on_sent: OnSent | None = None,
    ) -> Document:
        """A new folder (parent None: in the root). Raises NameTaken, Unanswered and the like."""
        fields = {**_of_new(change), **_place(parent_id), "name": name}
        call = self._call("folders", FOLDERS, "create the folder", priority, on_sent)
        return await self._client.change(
            call.sending("POST", {"folder": fields}, needs=_needs_of_new(fields)), decoding.folder
        )

    async def update_folder(
        self,
        folder_id: DocumentId,
        change: FolderChange,
        *,
        priority: Priority = Priority.WRITING,
        on_sent: OnSent | None = None,
    ) -> Document:
        """Rename, move, set fields. Raises NameTaken, Unanswered and the like; ValueError when nothing changes."""
        call = self._call("folders", f"{FOLDERS}/{folder_id}", "change the folder", priority, on_sent)
        return await self._update(call, "folder", change, _same(folder_id, decoding.folder))

    async def delete_folder(
        self,
        folder_id: DocumentId,
        *,
        priority: Priority = Priority.WRITING,
        on_sent: OnSent | None = None,
    ) -> None:
        """Into the recycle bin, with all below. Raises NotFound when it is not there any more."""
        call = self._call("folders", f"{FOLDERS}/{folder_id}", "delete the folder", priority, on_sent)
        await self._client.ask(call.sending("DELETE", needs=("delete",)))

    async def create_file(
        self,
        parent_id: DocumentId | None,
        name: str,
        upload_uuid: str,
        change: FileChange = NO_CHANGE,
        *,
        priority: Priority = Priority.WRITING,
        on_sent: OnSent | None = None,
    ) -> Document:
        """A new file with version 1 (parent None: in the root). Raises NameTaken, UploadRefused, Unanswered.

        `change` brings the rest; a new file cannot be checked out by the same call.
        """
        if not isinstance(change.checked_out_until_s, UnsetType):
            raise ValueError("a new file cannot be checked out by the call that creates it")
        bytes_and_name = {"name": name, "upload_uuid": upload_uuid, "unique_name": False}
        fields = {**_of_new(change), **_place(parent_id), **bytes_and_name}
        call = self._call("files", FILES, "create the file", priority, on_sent)
        return await self._client.change(
            call.sending("POST", {"file": fields}, needs=_needs_of_new(fields)), decoding.file
        )

    async def update_file(
        self,
        file_id: DocumentId,
        change: FileChange,
        *,
        priority: Priority = Priority.WRITING,
        on_sent: OnSent | None = None,
    ) -> Document:
        """New bytes, name, folder, fields, check-out: any of them in one call.

        Raises CheckedOut, NameTaken, UploadRefused, Unanswered; ValueError when nothing changes.
        """
        call = self._call("files", f"{FILES}/{file_id}", "change the file", priority, on_sent)
        return await self._update(call, "file", change, _same(file_id, decoding.file))

    async def delete_file(
        self,
        file_id: DocumentId,
        *,
        priority: Priority = Priority.WRITING,
        on_sent: OnSent | None = None,
    ) -> None:
        """Into the recycle bin. Raises CheckedOut; NotFound when it is not there any more."""
        call = self._call("files", f"{FILES}/{file_id}", "delete the file", priority, on_sent)
        await self._client.ask(call.sending("DELETE", needs=("delete",)))

    async def check_out(
        self,
        file_id: DocumentId,
        until_s: int | None,
        *,
        priority: Priority = Priority.WRITING,
        on_sent: OnSent | None = None,
    ) -> Document:
        """Check a file out until then (Unix seconds); None checks it in. Raises CheckedOut."""
        action = f"check the file {'in' if until_s is None else 'out'}"
        call = self._call("files", f"{FILES}/{file_id}", action, priority, on_sent)
        change = FileChange(checked_out_until_s=until_s)
        return await self._update(call, "file", change, _same(file_id, decoding.file))

    async def _update(
        self, call: Call, key: str, change: FolderChange, parse: Callable[[bytes, str], Document]
    ) -> Document:
        """A PATCH. What is cleared is sent as empty text, and as null when that was refused."""
        fields, cleared = fields_of(change), cleared_by(change)
        if not fields:
            raise ValueError("nothing to change")
        if fields.get("parent_id", UNSET) is None:
            fields["parent_id"] = await self._root(call.priority)
        needs = needs_of(fields)
        try:
            return await self._client.change(call.sending("PATCH", {key: fields}, needs=needs), parse)
        except Invalid as error:
            if type(error) is not Invalid or not _may_be_about(error, cleared, fields):
                raise
            fields |= dict.fromkeys(cleared)
            return await self._client.change(call.sending("PATCH", {key: fields}, needs=needs), parse)

    async def _root(self, priority: Priority) -> DocumentId:
        """The id of the root folder: to move there it must be named."""
        if self._root_id is None:
            call = self._call("folders", FOLDERS, "look up the root folder", priority)
            bare = {**call.query, "exclude_folders": "true", "exclude_files": "true"}
            answer = await self._client.ask(msgspec.structs.replace(call, query=bare))
            self._root_id = decoding.folder(answer.body, call.action).id
        return self._root_id

    def _call(
        self, route: str, path: str, action: str, priority: Priority, on_sent: OnSent | None = None
    ) -> Call:
        return Call(route, path, self._client.project_query(), action, priority, on_sent=on_sent)


def fields_of(change: FolderChange) -> Json:
    """The fields as Procore takes them; cleared ones are empty texts, the root as a parent is None. Pure."""
    fields: Json = {
        "parent_id": change.parent_id,
        "name": change.name,
        "is_tracked": change.tracked,
        "explicit_permissions": change.private,
    }
    if isinstance(change, FileChange):
        fields["upload_uuid"] = change.upload_uuid
        fields["description"] = change.description
        until_s = change.checked_out_until_s
        fields["checked_out_until"] = moment(until_s) if isinstance(until_s, int) else until_s
    if not isinstance(change.custom_fields, UnsetType):
        for definition_id, value in change.custom_fields.items():
            fields[f"custom_field_{definition_id}"] = _checked(value)
    return {name: value for name, value in fields.items() if value is not UNSET}


def needs_of(fields: Iterable[str]) -> set[Right]:
    """The rights that a PATCH with these fields needs."""
    return {_NEEDS.get(name, "write") for name in fields}


def _needs_of_new(fields: Iterable[str]) -> set[Right]:
    """The same for something new, whose name and place need no right of their own."""
    needs = needs_of(fields) - {"rename", "move"}
    needs.add("write")
    return needs


_NEEDS: dict[str, Right] = {
    "name": "rename",
    "parent_id": "move",
    "description": "describe",
    "explicit_permissions": "set_private",
}
"""The fields that need another right than new bytes do."""


def cleared_by(change: FolderChange) -> set[str]:
    """The fields that a change empties."""
    clearable = {name: value for name, value in fields_of(change).items() if _CLEARABLE.match(name)}
    return {name for name, value in clearable.items() if value == ""}


def moment(unix_s: int) -> str:
    """A time as Procore writes it."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_CLEARABLE = re.compile(r"description\Z|custom_field_\d+\Z")


def _of_new(change: FolderChange) -> Json:
    """The fields for something new: there is nothing to clear."""
    return {name: value for name, value in fields_of(change).items() if name not in cleared_by(change)}


def _place(parent_id: DocumentId | None) -> Json:
    """Where something new goes: no parent means the root."""
    return {} if parent_id is None else {"parent_id": parent_id}


def _checked(value: FieldValue) -> FieldValue:
    """A custom field's value; what clears it becomes empty text. Raises ValueError for what JSON cannot say."""
    if value is None or value == []:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a custom field's number must be finite")
    return value


def _may_be_about(error: Invalid, cleared: set[str], sent: Json) -> bool:
    """Whether Procore may have refused the emptiness of a field: it names one, or no field that was sent."""
    messages = " ".join(error_messages(error.answer)).lower()
    named = {name for name in sent if re.search(rf"\b{name}\b", messages)}
    return bool(cleared) and (not named or bool(named & cleared))


def _same(
    document_id: DocumentId, parse: Callable[[bytes, str], Document]
) -> Callable[[bytes, str], Document]:
    """The document of an answer, which must be the one that was changed."""

    def parse_same(body: bytes, action: str) -> Document:
        document = parse(body, action)
        if document.id != document_id:
            raise Malformed(f"Could not {action}: Procore's answer is about document {document.id}")
        return document

    return parse_same
