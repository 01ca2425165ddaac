"""Turns the JSON of Procore's answers into the models of `models.py`, and checks every field.

A well-formed body is decoded at once into typed structs. When that fails, the body is decoded without types
and each item is read field by field (a field of the wrong type counts as absent), so one bad item never
spoils a page. Every wire field may be absent or null: what is needed is checked while normalising.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from procorefs.procore.errors import Malformed
from procorefs.procore.http.addresses import acceptable_url
from procorefs.procore.wire.lenient_json import (
    MAX_NAME,
    Unusable,
    Wire,
    bounded_fields,
    item_of,
    list_in,
    list_or_empty,
    object_in,
    understood,
    unix_seconds,
    untyped,
)
from procorefs.procore.wire.models import (
    Company,
    CompanyId,
    Document,
    DocumentId,
    EntryId,
    FieldDefinition,
    FieldId,
    FolderListing,
    Kind,
    LovEntry,
    Me,
    Person,
    Project,
    ProjectId,
    Tag,
    TagId,
    UserId,
    Version,
    VersionId,
)
from procorefs.storage.failures import UNDECODABLE

log = logging.getLogger(__name__)

MAX_INT = 2**63 - 1
"""Ids and sizes go into SQLite and into off_t."""

MAX_LOGGED = 5
"""Items that were left out of one answer and are logged each."""

W = TypeVar("W", bound=Wire)
N = TypeVar("N")


class WirePerson(Wire):
    id: int | str | None = None
    name: str | None = None
    login: str | None = None


class WireVersion(Wire):
    id: int | str | None = None
    number: int | None = None
    size: int | None = None
    url: str | None = None
    created_at: datetime | None = None
    created_by: WirePerson | None = None


class WireFilePart(Wire):
    description: str | None = None
    file_type: str | None = None
    checked_out_by: WirePerson | None = None
    checked_out_until: datetime | None = None
    current_version: WireVersion | None = None


class WireEntry(Wire):
    """What items of the index, of a folder and single files have in common."""

    id: int | str | None = None
    name: str | None = None
    parent_id: int | str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created_by: WirePerson | None = None
    read_only: bool | None = None
    is_deleted: bool | None = None
    is_recycle_bin: bool | None = None
    is_tracked: bool | None = None
    private: bool | None = None
    has_private_ancestor: bool | None = None
    custom_fields: dict[str, Any] | None = None


class WireDocument(WireEntry):
    document_type: str | None = None
    file: WireFilePart | None = None


class WireFile(WireEntry):
    description: str | None = None
    file_type: str | None = None
    checked_out_by: WirePerson | None = None
    checked_out_until: datetime | None = None
    file_versions: list[WireVersion] | None = None


class WireFolder(WireEntry):
    folders: list[WireEntry] | None = None
    files: list[WireFile] | None = None


class WireMe(Wire):
    id: int | str | None = None
    login: str | None = None
    name: str | None = None


class WireCompany(Wire):
    id: int | str | None = None
    name: str | None = None
    is_active: bool | None = None


class WireProject(Wire):
    id: int | str | None = None
    name: str | None = None
    display_name: str | None = None
    project_number: str | None = None
    active: bool | None = None
    company: WireCompany | None = None


class WireTag(Wire):
    id: int | str | None = None
    name: str | None = None


class WireDefinition(Wire):
    custom_field_definition_id: int | str | None = None
    label: str | None = None
    data_type: str | None = None


class WireLovEntry(Wire):
    id: int | str | None = None
    label: str | None = None


class _Data(msgspec.Struct, gc=False):
    """The v2 wrapper of a list of documents."""

    data: list[WireDocument]


AT_ONCE = 200
"""Documents that are decoded between two checkpoints of the loop: some 2 ms."""


class Items(msgspec.Struct):
    """The items of a list, and how many had to be left out."""

    kept: list[Any]
    refused: int


_decode_v2 = msgspec.json.Decoder(_Data).decode
_decode_v1 = msgspec.json.Decoder(list[WireDocument]).decode
_decode_folder = msgspec.json.Decoder(WireFolder).decode


def documents(body: bytes, action: str) -> Iterator[Items]:
    """The documents of an index page, v2 (`data`) or v1, in parts. Raises Malformed when the body is no list at all."""
    wires: list[WireDocument] | list[Any]
    try:
        wires = _decode_v2(body).data if body.lstrip()[:1] == b"{" else _decode_v1(body)
    except UNDECODABLE:
        wires = list_in(untyped(body, action), action)
    normal = _Normaliser().document
    for start in range(0, len(wires), AT_ONCE):
        yield _normal_items(wires[start : start + AT_ONCE], WireDocument, normal)


def folder_listing(body: bytes, action: str) -> FolderListing:
    """A folder with one level below it. Raises Malformed when the folder itself cannot be used."""
    normaliser = _Normaliser()
    try:
        wire = _decode_folder(body)
        if wire.id is None:
            raise msgspec.ValidationError("perhaps it is wrapped")
        folders: list[Any] = wire.folders or []
        files: list[Any] = wire.files or []
    except UNDECODABLE:
        answer = object_in(untyped(body, action), action)
        folders, files = list_or_empty(answer.pop("folders", None)), list_or_empty(answer.pop("files", None))
        wire = understood(answer, WireFolder)
    below = _normal_items(folders, WireEntry, normaliser.folder)
    leaves = _normal_items(files, WireFile, normaliser.file)
    folder = _only(wire, normaliser.folder, action)
    return FolderListing(folder, below.kept + leaves.kept, below.refused + leaves.refused)


def file(body: bytes, action: str) -> Document:
    """A single file. Raises Malformed."""
    return _only(_one(body, WireFile, action), _Normaliser().file, action)


def folder(body: bytes, action: str) -> Document:
    """A folder, whatever it lists below itself. Raises Malformed."""
    return _only(_one(body, WireEntry, action), _Normaliser().folder, action)


def versions(body: bytes, action: str) -> list[Version]:
    """Every version of a single file that could be read, by number. Raises Malformed."""
    wire = _one(body, WireFile, action)
    _only(wire, lambda w: _id(w.id), action)
    found: list[Version] = _normal_items(wire.file_versions or [], WireVersion, _Normaliser().version).kept
    return sorted(found, key=lambda version: (version.number, version.created_at_s, version.id))


def file_version(body: bytes, action: str) -> Version:
    """A single version. Raises Malformed when its bytes could not be fetched by it."""
    return _only(_one(body, WireVersion, action), _Normaliser().version, action)


def me(body: bytes, action: str) -> Me:
    """The user of the token. Raises Malformed."""
    wire = _one(body, WireMe, action)
    return _only(wire, lambda w: Me(UserId(_id(w.id)), text(w.login), text(w.name)), action)


def companies(body: bytes, action: str) -> Items:
    """A page of companies. Raises Malformed when the body is no list."""
    return _normal_items(list_in(untyped(body, action), action), WireCompany, _company)


def projects(body: bytes, action: str) -> Items:
    """A page of projects. Raises Malformed when the body is no list."""
    return _normal_items(list_in(untyped(body, action), action), WireProject, _project)


def tags(body: bytes, action: str) -> Items:
    """A page of tags. Raises Malformed when the body is no list."""
    return _normal_items(list_in(untyped(body, action), action), WireTag, _tag)


def tag(body: bytes, action: str) -> Tag:
    """A single tag. Raises Malformed."""
    return _only(_one(body, WireTag, action), _tag, action)


def field_definitions(body: bytes, action: str) -> Items:
    """A page of custom fields. Raises Malformed when the body is no list."""
    return _normal_items(list_in(untyped(body, action), action), WireDefinition, _definition)


def lov_entries(body: bytes, action: str) -> Items:
    """A page of a field's choices. Raises Malformed when the body is no list."""
    return _normal_items(list_in(untyped(body, action), action), WireLovEntry, _lov_entry)


def _tag(wire: WireTag) -> Tag:
    return Tag(TagId(_id(wire.id)), _named(wire.name))


def _definition(wire: WireDefinition) -> FieldDefinition:
    field_id = FieldId(_id(wire.custom_field_definition_id))
    return FieldDefinition(field_id, _named(wire.label), text(wire.data_type))


def _lov_entry(wire: WireLovEntry) -> LovEntry:
    return LovEntry(EntryId(_id(wire.id)), _named(wire.label))


def _named(value: str | None) -> str:
    if not value:
        raise Unusable("it has no name")
    return value


def _company(wire: WireCompany) -> Company:
    return Company(CompanyId(_id(wire.id)), text(wire.name), wire.is_active is not False)


def _project(wire: WireProject) -> Project:
    names = text(wire.display_name), text(wire.project_number)
    company_name = text(wire.company.name) if wire.company is not None else ""
    return Project(ProjectId(_id(wire.id)), text(wire.name), *names, wire.active is not False, company_name)


class _Normaliser:
    """Wire structs to models; the persons of one answer are shared, as a page repeats the same few."""

    def __init__(self) -> None:
        self._persons: dict[tuple[int | str | None, str | None, str | None], Person | None] = {}

    def document(self, wire: WireDocument) -> Document:
        if wire.document_type == "folder":
            return self.folder(wire)
        if wire.document_type != "file" and wire.file is None:
            raise Unusable(f"its type is {wire.document_type!r}")
        part = wire.file or WireFilePart()
        current = part.current_version
        return self._entry(wire, Kind.FILE, part, [current] if current is not None else [])

    def folder(self, wire: WireEntry) -> Document:
        return self._entry(wire, Kind.FOLDER, _NO_FILE_PART, [])

    def file(self, wire: WireFile) -> Document:
        return self._entry(wire, Kind.FILE, wire, wire.file_versions or [])

    def version(self, wire: WireVersion) -> Version:
        """The version. Raises Unusable with the reason why it cannot be read."""
        size = wire.size
        if size is None:
            raise Unusable("its size is missing or not a number")
        if not 0 <= size <= MAX_INT:
            raise Unusable(f"its size is {size}")
        if not wire.url:
            raise Unusable("it has no address to read it from")
        if not acceptable_url(wire.url):
            raise Unusable("its address is not one that may be fetched")
        by = wire.created_by
        return Version(
            VersionId(_id(wire.id)),
            _number(wire.number),
            size,
            unix_seconds(wire.created_at),
            wire.url,
            self.person(by) if by is not None else None,
        )

    def person(self, wire: WirePerson) -> Person | None:
        """Who it is; None when there is no usable id."""
        key = (wire.id, wire.name, wire.login)
        try:
            return self._persons[key]
        except KeyError:
            pass
        try:
            person = Person(UserId(_id(wire.id)), text(wire.name).strip(), text(wire.login).strip())
        except Unusable:
            person = None
        self._persons[key] = person
        return person

    def _entry(
        self, wire: WireEntry, kind: Kind, part: WireFilePart | WireFile, versions: list[WireVersion]
    ) -> Document:
        if wire.name is None or len(wire.name) > MAX_NAME:
            raise Unusable("it has no name" if wire.name is None else "its name is too long")
        version, defect = self._newest(versions) if kind is Kind.FILE else (None, "")
        by, holder, until = wire.created_by, part.checked_out_by, part.checked_out_until
        return Document(
            DocumentId(_id(wire.id)),
            DocumentId(_id(wire.parent_id)) if wire.parent_id is not None else None,
            wire.name,
            kind,
            unix_seconds(wire.created_at),
            unix_seconds(wire.updated_at),
            self.person(by) if by is not None else None,
            wire.read_only,
            wire.is_deleted is True,
            wire.is_recycle_bin is True,
            wire.is_tracked,
            True if wire.has_private_ancestor else wire.private,
            part.description or "",
            part.file_type or "",
            self.person(holder) if holder is not None else None,
            unix_seconds(until) if until is not None else None,
            bounded_fields(wire.custom_fields),
            version,
            defect,
        )

    def _newest(self, versions: list[WireVersion]) -> tuple[Version | None, str]:
        """The newest by number (they come in either order), or why it cannot be read; never an older one."""
        if not versions:
            return None, "it has no version"
        newest = versions[0] if len(versions) == 1 else max(versions, key=lambda v: _number(v.number))
        try:
            return self.version(newest), ""
        except Unusable as error:
            return None, str(error)


_NO_FILE_PART = WireFilePart()


def text(value: str | None) -> str:
    """A text that may be missing."""
    return value or ""


def _id(value: int | str | None) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or not 0 < value <= MAX_INT:
        raise Unusable(f"its id is {str(value)[:40]!r}")
    return value


def _number(value: int | None) -> int:
    return value if value is not None and 0 < value <= MAX_INT else 0


def _normal_items(wires: list[Any], kind: type[W], normal: Callable[[W], N]) -> Items:
    kept: list[N] = []
    refused = 0
    for wire in wires:
        try:
            kept.append(normal(wire if isinstance(wire, kind) else item_of(wire, kind)))
        except Unusable as error:
            refused += 1
            if refused <= MAX_LOGGED:
                log.warning(
                    "left an item of Procore's answer out (id %.40r): %s", getattr(wire, "id", None), error
                )
    if refused > MAX_LOGGED:
        log.warning("left %d items of Procore's answer out", refused)
    return Items(kept, refused)


def _one(body: bytes, kind: type[W], action: str) -> W:
    """The one object of an answer; everything in it may be absent."""
    try:
        wire = msgspec.json.decode(body, type=kind)
        if getattr(wire, "id", None) is not None:  # else it is perhaps wrapped
            return wire
    except UNDECODABLE:
        pass
    return understood(object_in(untyped(body, action), action), kind)


def _only(wire: W, normal: Callable[[W], N], action: str) -> N:
    try:
        return normal(wire)
    except Unusable as error:
        raise Malformed(f"Could not {action}: Procore's answer cannot be used, {error}") from None
