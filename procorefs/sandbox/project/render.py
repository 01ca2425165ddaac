"""Documents, folders, files and versions as the JSON of v1 and v2.

Malformed answers are made here: `Faults.malformed` replaces fields of a document before it becomes JSON
(`{"size": -1}`, `{"name": "a/b"}`, `{"url": 5}`); the value `{"$absent": true}` leaves the field out.
"""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from procorefs.sandbox.project.records import Document, Json, Project, Unlisted, Value, Version
from procorefs.sandbox.state import Sandbox

_ABSENT = Unlisted()


class Place(NamedTuple):
    """What a child needs to know of the folder it is in."""

    path: str
    """From the project's root, without it; empty for the root."""
    private_parent: tuple[int, str] | None
    tracked_folder: tuple[int, str] | None


class Renderer:
    """Renders for one caller in one project; made anew for every answer, so nothing in it grows old."""

    def __init__(self, sandbox: Sandbox, project: Project, *, writes: bool) -> None:
        self._store = sandbox.store
        self._dialect = sandbox.dialect
        self._project = project
        self._reads_only = not writes
        self._malformed = sandbox.faults.malformed
        self._urls = sandbox.urls
        self._expiry_s = sandbox.urls.expiry(sandbox.faults.settings.url_lifetime_s)
        self._direct = sandbox.dialect.version_urls == "storage"
        self._now_s = sandbox.clock.now_s()
        self._people: dict[tuple[int, Callable[[Any], Any]], Json] = {}
        self._places: dict[int | None, Place] = {None: Place("", None, None)}

    # lists of everything

    def document(self, document: Document, *, v2: bool) -> Json:
        """An item of the documents index."""
        ident = _text_id if v2 else _same
        place = self.place(document.parent_id)
        shown = self._distorted(document)
        item = {
            "id": ident(shown.id),
            "name": shown.name,
            "parent_id": ident(self._parent(shown)),
            "created_at": iso(shown.created_at),
            "created_by": self._person(shown.created_by, ident),
            "updated_at": iso(shown.updated_at),
            "document_type": "file" if shown.is_file else "folder",
            "read_only": self._read_only(shown),
            "is_deleted": self.is_deleted(document),
            "is_recycle_bin": bool(shown.is_bin),
            "is_tracked": bool(shown.tracked),
            "private": self._private(shown),
            "private_parent": _reference(place.private_parent, ident),
            "tracked_folder": _reference(place.tracked_folder, ident),
            "children": _children(shown),
            "custom_fields": self._custom_fields(shown.fields, v2=v2),
        }
        if not v2:
            item["name_with_path"] = self._path(document)
        if shown.is_file:
            item["file"] = self._file_part(shown, ident)
        return self._complete(document.id, item)

    def shortened(self, item: Json) -> Json:
        """An item of the documents list without what a short view leaves out."""
        left_out = ("custom_fields", "children")
        short = {name: value for name, value in item.items() if name not in left_out}
        if "file" in short:
            short["file"] = {**short["file"], "description": None}
        return short

    def folder_content(self, document: Document, *, tells_ancestor: bool) -> Json:
        """An item of the v2.0 folder reads."""
        item = self.document(document, v2=True)
        del item["private_parent"]
        if tells_ancestor:
            item["has_private_ancestor"] = self.place(document.parent_id).private_parent is not None
        return item

    def _file_part(self, shown: Document, ident: Callable[[Any], Any]) -> Json:
        holder = shown.holder_at(self._now_s)
        url = self._url(shown.id, shown.version_id)
        author = {"created_by": self._person(shown.version_created_by, ident)}
        return {
            "description": shown.description,
            "file_type": shown.file_type,
            "checked_out_by": self._person(holder, ident),
            "checked_out_until": iso(shown.checked_out_until) if holder is not None else None,
            "current_version": {
                "id": ident(shown.version_id),
                "number": shown.number,
                "size": shown.size,
                "notes": shown.notes,
                "url": url,
                "created_at": iso(shown.version_created_at),
                **(author if self._dialect.version_authors else {}),
                "file_id": ident(shown.id),
                "prostore_file": _prostore(url, shown.version_id, shown.name, ident),
            },
        }

    # one folder, one file

    def folder(self, document: Document) -> Json:
        """A folder's own fields, v1."""
        shown = self._distorted(document)
        has = _children(shown)
        item = {
            "id": shown.id,
            "name": shown.name,
            "parent_id": self._parent(shown),
            "private": self._private(shown),
            "updated_at": iso(shown.updated_at),
            "is_tracked": bool(shown.tracked),
            "name_with_path": self._path(document),
            "read_only": self._read_only(shown),
            "is_deleted": self.is_deleted(document),
            "is_recycle_bin": bool(shown.is_bin),
            **has,
            "custom_fields": self._custom_fields(shown.fields, v2=False),
        }
        return self._complete(document.id, item)

    def file(self, document: Document, versions: Sequence[Version]) -> Json:
        """A file with its versions (newest first), v1."""
        shown = self._distorted(document)
        holder = shown.holder_at(self._now_s)
        rendered = [self.version(version) for version in versions]
        if self._dialect.versions_order == "oldest":
            rendered.reverse()
        item = {
            "id": shown.id,
            "name": shown.name,
            "parent_id": self._parent(shown),
            "size": shown.size,
            "description": shown.description,
            "updated_at": iso(shown.updated_at),
            "created_at": iso(shown.created_at),
            "checked_out_until": iso(shown.checked_out_until) if holder is not None else None,
            "checked_out_by": self._person(holder, _same),
            "name_with_path": self._path(document),
            "private": self._private(shown),
            "is_tracked": bool(shown.tracked),
            "file_type": shown.file_type,
            "is_deleted": self.is_deleted(document),
            "legacy_id": None,
            "custom_fields": self._custom_fields(shown.fields, v2=False),
            "file_versions": rendered,
        }
        return self._complete(document.id, item)

    def version(self, version: Version) -> Json:
        """A file version, v1."""
        changes = self._malformed.get(version.document_id, {})
        url = self._url(version.document_id, version.id)
        item = {
            "id": version.id,
            "number": version.number,
            "notes": version.notes,
            "url": url,
            "size": version.size,
            "created_at": iso(version.created_at),
            "created_by": self._person(version.created_by, _same),
            "file_id": version.document_id,
            "prostore_file": _prostore(url, version.id, version.name, _same),
        }
        if not self._dialect.version_authors:
            del item["created_by"]
        named = {"number": "number", "size": "size", "version_id": "id", "version_created_at": "created_at"}
        item.update({named[field]: value for field, value in changes.items() if field in named})
        return self._complete(version.document_id, item)

    def revision(self, version: Version) -> Json:
        """A version under the field names of the revisions route, v2."""
        return {
            "id": str(version.id),
            "file_version": version.number,
            "file_name": version.name,
            "file_size": version.size,
            "file_type": version.name.rpartition(".")[2].lower(),
            "url": self._url(version.document_id, version.id),
            "file_id": str(version.document_id),
            "prostore_id": str(version.id),
            "created_at": iso(version.created_at),
            "created_by": self._person(version.created_by, _text_id),
        }

    # what they have in common

    def place(self, folder_id: int | None) -> Place:
        """Path, private and tracked ancestors of what is in that folder; remembered for this answer."""
        found = self._places.get(folder_id)
        if found is None:
            row = self._store.one(
                "SELECT parent_id, name, private, tracked FROM documents WHERE id = ?", (folder_id,)
            )
            parent_id, name, private, tracked = row or (None, "", 0, 0)
            above = self.place(parent_id)
            here = (folder_id or 0, name)
            path = f"{above.path}{name}/" if parent_id is not None else ""
            found = Place(
                path, here if private else above.private_parent, here if tracked else above.tracked_folder
            )
            self._places[folder_id] = found
        return found

    def is_deleted(self, document: Document) -> bool:
        buried = document.buried and self._dialect.descendants == "deleted"
        return bool(document.deleted or buried)

    def _path(self, document: Document) -> str:
        return self.place(document.parent_id).path + document.name

    def _parent(self, shown: Document) -> Value:
        if shown.deleted and self._dialect.deleted_parent == "bin":
            return self._project.bin_id
        return shown.parent_id

    def _custom_fields(self, stored: str, *, v2: bool) -> Json:
        if stored == "{}":
            return {}
        fields: Json = msgspec.json.decode(stored)
        for field in fields.values():
            if v2:
                field["value"] = _with_text_ids(field["value"])
            if self._dialect.field_variants:
                field["variant"] = None
        return fields

    def _private(self, shown: Document) -> bool:
        is_below = self._dialect.private_below and shown.private_root is not None
        return bool(shown.private) or is_below

    def _read_only(self, shown: Document) -> bool:
        return bool(shown.read_only) or self._reads_only

    def _person(self, user_id: int | None, ident: Callable[[Any], Any]) -> Json | None:
        if user_id is None:
            return None
        known = self._people.get((user_id, ident))
        if known is None:
            user = self._store.user(user_id)
            known = {"id": ident(user.id), "login": user.login, "name": user.name}
            if not user.name.strip():
                known["company_name"] = None
            self._people[user_id, ident] = known
        return known

    def _url(self, document_id: int, version_id: int | None) -> Value:
        changes = self._malformed.get(document_id)
        if changes and "url" in changes:
            return changes["url"]
        return self._urls.version(version_id or 0, self._expiry_s, direct=self._direct)

    def _distorted(self, document: Document) -> Document:
        changes = self._malformed.get(document.id)
        if not changes:
            return document
        known = {name: value for name, value in changes.items() if name in document.__struct_fields__}
        return msgspec.structs.replace(document, **known)

    def _complete(self, document_id: int, item: Json) -> Json:
        if document_id not in self._malformed:
            return item
        return without_unlisted(item)


def without_unlisted(item: Json) -> Json:
    """The item without the fields that were to be left out."""
    kept: Json = {}
    for name, value in item.items():
        if value is not _ABSENT:
            kept[name] = without_unlisted(value) if isinstance(value, dict) else value
    return kept


def distortion(value: Value) -> Value:
    """A value of the control API as it is put into a row."""
    return _ABSENT if value == {"$absent": True} else value


def iso(seconds: Value) -> Value:
    """ISO 8601, UTC, whole seconds; anything that is no time stays what it is."""
    return _iso(seconds) if type(seconds) is int else seconds


@lru_cache(maxsize=65536)
def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _prostore(url: Value, version_id: int | None, name: str, ident: Callable[[Any], Any]) -> Json:
    return {"id": ident(version_id), "name": name, "url": url, "filename": name}


def _same(value: Value) -> Value:
    return value


def _text_id(value: Value) -> Value:
    return str(value) if type(value) is int else value


def _reference(folder: tuple[int, str] | None, ident: Callable[[Any], Any]) -> Json | None:
    return None if folder is None else {"id": ident(folder[0]), "name": folder[1]}


def _children(shown: Document) -> Json:
    return {
        "has_children": bool(shown.has_folders or shown.has_files),
        "has_children_files": bool(shown.has_files),
        "has_children_folders": bool(shown.has_folders),
    }


def _with_text_ids(value: Value) -> Value:
    if isinstance(value, list):
        return [_with_text_ids(entry) for entry in value]
    if isinstance(value, dict):
        return {**value, "id": str(value["id"])}
    return value
