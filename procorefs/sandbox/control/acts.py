"""What tests let somebody else do in a project: one small JSON object, one change.

Documents are named by `path` from the project's root, or by `id`. `user` is "other" (the second client's user, the
default), "first", or a user's id. File content is `text`, `base64`, or `size_bytes` of invented bytes. No name is
checked: hostile ones are put in this way.
"""

import base64
import secrets
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.control.find_document import resolve, split
from procorefs.sandbox.project.invented_project import OTHER_USER_ID, PROJECT_ID, SERVICE_USER_ID
from procorefs.sandbox.project.procore_names import file_type
from procorefs.sandbox.project.records import Document, Json
from procorefs.sandbox.project.roles import GRANULAR
from procorefs.sandbox.project.tree_changes import Changes
from procorefs.sandbox.state import Sandbox

_BIG_BYTES = 4 * 1024 * 1024
"""Invented content beyond this lies in a file: it would be made anew for every range."""


class Act(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One deed; which fields count depends on `op`."""

    op: str
    user: Literal["other", "first"] | int = "other"
    project_id: int = PROJECT_ID
    path: str | None = None
    id: int | None = None
    name: str | None = None
    """create_*: the exact name, `path` being its folder then; rename: the new name."""
    to: str | None = None
    """move: the folder's path; rename_to: the whole new path."""
    text: str | None = None
    base64: str | None = None
    size_bytes: int | None = None
    notes: str | None = None
    seconds: int = 900
    tag: str = ""
    field: str = ""
    value: Any = None
    on: bool = True
    level: Literal["admin", "standard", "read", "off", "none"] = "standard"
    actions: list[str] = []
    """membership: granular rights beside the level, by their names in procore-api.md."""
    updated_at_s: int | None = None


class Actor:
    """Carries out acts."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._store = sandbox.store
        self._deeds: dict[str, Callable[[Act, Changes], Json]] = {
            "create_folder": self._create_folder,
            "create_file": self._create_file,
            "put": self._put,
            "rename": self._rename,
            "move": self._move,
            "rename_to": self._rename_to,
            "delete": self._delete,
            "restore": self._restore,
            "purge": self._purge,
            "check_out": self._check_out,
            "check_in": self._check_in,
            "tag": self._tag,
            "untag": self._untag,
            "describe": self._describe,
            "set_field": self._set_field,
            "read_only": self._read_only,
            "private": self._private,
            "grant": self._grant,
            "tracked": self._tracked,
            "touch": self._touch,
            "membership": self._membership,
        }

    def do(self, act: Act) -> Json:
        """Raises ApiError."""
        deed = self._deeds.get(act.op)
        if deed is None:
            raise ApiError(400, f"op is none of {', '.join(self._deeds)}")
        user_id = {"other": OTHER_USER_ID, "first": SERVICE_USER_ID}.get(str(act.user), act.user)
        with self._store.change():
            return deed(act, Changes(self._sandbox, int(user_id)))

    def _create_folder(self, act: Act, changes: Changes) -> Json:
        parent_id, name = self._new_place(act)
        return self._told(changes.create_folder(act.project_id, parent_id, name))

    def _create_file(self, act: Act, changes: Changes) -> Json:
        parent_id, name = self._new_place(act)
        size, source = self._content(act, name)
        document_id = changes.create_file(
            act.project_id, parent_id, name, size=size, source=source, notes=act.notes
        )
        return self._told(document_id)

    def _put(self, act: Act, changes: Changes) -> Json:
        """A new version; a file that does not exist is created."""
        if act.id is None and act.path is not None:
            folder, name = split(act.path)
            if self._store.child_named(self._at(act, folder), name) is None:
                return self._create_file(act, changes)
        document = self._document(act)
        size, source = self._content(act, document.name)
        changes.add_version(document.id, document.name, size=size, source=source, notes=act.notes)
        return self._told(document.id)

    def _rename(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.rename_and_move(document, act.name or document.name, document.parent_id)
        return self._told(document.id)

    def _move(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.rename_and_move(document, document.name, self._at(act, act.to or "/"))
        return self._told(document.id)

    def _rename_to(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        folder, name = split(act.to or "")
        changes.rename_and_move(document, name, self._at(act, folder))
        return self._told(document.id)

    def _delete(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.delete(document)
        return self._told(document.id)

    def _restore(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.restore(document)
        return self._told(document.id)

    def _purge(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.purge(document.id)
        return {"id": document.id}

    def _check_out(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.check_out(document.id, self._sandbox.clock.now_s() + act.seconds)
        return self._told(document.id)

    def _check_in(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.check_out(document.id, None)
        return self._told(document.id)

    def _tag(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        return {"id": document.id, "tag_id": changes.tag(act.project_id, document.id, act.tag)}

    def _untag(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        tag_id = self._store.value(
            "SELECT id FROM tags WHERE project_id = ? AND name = ?", (act.project_id, act.tag)
        )
        return {"id": document.id, "borne": changes.untag(document.id, tag_id or 0)}

    def _describe(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.update(document.id, description=act.text)
        return self._told(document.id)

    def _set_field(self, act: Act, changes: Changes) -> Json:
        """`field`: the definition's id; `value`: {"data_type": …, "value": …} as it is shown, null takes it off."""
        document = self._document(act)
        fields = msgspec.json.decode(document.fields)
        fields[f"custom_field_{act.field}"] = act.value
        kept = {name: value for name, value in fields.items() if value is not None}
        changes.update(document.id, fields=msgspec.json.encode(kept).decode())
        return self._told(document.id)

    def _read_only(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.update(document.id, read_only=int(act.on))
        return self._told(document.id)

    def _private(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.set_private(document.id, act.on)
        return self._told(document.id)

    def _grant(self, act: Act, _changes: Changes) -> Json:
        """Open a private document to the first user."""
        document = self._document(act)
        if act.on:
            self._store.execute("INSERT OR IGNORE INTO grants VALUES (?, ?)", (SERVICE_USER_ID, document.id))
        else:
            values = (SERVICE_USER_ID, document.id)
            self._store.execute("DELETE FROM grants WHERE user_id = ? AND document_id = ?", values)
        return self._told(document.id)

    def _tracked(self, act: Act, changes: Changes) -> Json:
        document = self._document(act)
        changes.update(document.id, tracked=int(act.on))
        return self._told(document.id)

    def _touch(self, act: Act, _changes: Changes) -> Json:
        """Set `updated_at`, to now or to `updated_at_s`."""
        document = self._document(act)
        moment_s = self._sandbox.clock.now_s() if act.updated_at_s is None else act.updated_at_s
        self._store.update_document(document.id, updated_at=moment_s)
        return self._told(document.id)

    def _membership(self, act: Act, _changes: Changes) -> Json:
        """What `user` may do in the project; off: everything but its documents; none: nothing at all."""
        unknown = set(act.actions) - set(GRANULAR)
        if unknown:
            raise ApiError(400, f"actions are none of {', '.join(GRANULAR)}")
        user_id = {"other": OTHER_USER_ID, "first": SERVICE_USER_ID}.get(str(act.user), act.user)
        for table in ("memberships", "granular_rights"):
            self._store.execute(
                f"DELETE FROM {table} WHERE user_id = ? AND project_id = ?", (user_id, act.project_id)
            )
        if act.level != "none":
            whose = (int(user_id), act.project_id)
            self._store.execute("INSERT INTO memberships VALUES (?, ?, ?)", (*whose, act.level))
            for action in set(act.actions):
                self._store.execute("INSERT INTO granular_rights VALUES (?, ?, ?)", (*whose, action))
        return {"user_id": user_id, "level": act.level}

    def _new_place(self, act: Act) -> tuple[int, str]:
        if act.name is not None:
            return self._at(act, act.path or "/"), act.name
        folder, name = split(act.path or "")
        return self._at(act, folder), name

    def _at(self, act: Act, path: str) -> int:
        project = self._store.project(act.project_id)
        if project is None:
            raise ApiError(404, f"no project {act.project_id}")
        return resolve(self._store, project.root_id, path)

    def _document(self, act: Act) -> Document:
        document_id = act.id if act.id is not None else self._at(act, act.path or "/")
        document = self._store.document(document_id)
        if document is None:
            raise ApiError(404, f"no document {document_id}")
        return document

    def _content(self, act: Act, name: str) -> tuple[int, str]:
        """(size, source)."""
        number = self._store.next_version_id()
        if act.size_bytes is not None and act.size_bytes > _BIG_BYTES:
            name_on_disk = f"a{number}-{secrets.token_hex(4)}"
            return act.size_bytes, self._sandbox.contents.put_numbered(name_on_disk, act.size_bytes, number)
        if act.size_bytes is not None:
            return act.size_bytes, f"seed:{file_type(name) or 'bin'}:{number}"
        data = base64.b64decode(act.base64) if act.base64 is not None else (act.text or "").encode()
        return len(data), self._sandbox.contents.put(f"a{number}-{secrets.token_hex(4)}", data)

    def _told(self, document_id: int) -> Json:
        document = self._store.document(document_id)
        assert document is not None
        return {
            "id": document.id,
            "parent_id": document.parent_id,
            "name": document.name,
            "version_id": document.version_id,
            "number": document.number,
            "size": document.size,
            "updated_at_s": document.updated_at,
        }
