"""Defines the models of Procore's answers: one form, whatever call they came from.

Wire formats (v2, v1 index, folders, files) end in `decoding.py`; everybody else sees only these values.
"""

import enum
from typing import Any, Generic, NamedTuple, NewType, TypeVar

import msgspec

DocumentId = NewType("DocumentId", int)
VersionId = NewType("VersionId", int)
UserId = NewType("UserId", int)
CompanyId = NewType("CompanyId", int)
ProjectId = NewType("ProjectId", int)
TagId = NewType("TagId", int)
FieldId = NewType("FieldId", int)
EntryId = NewType("EntryId", int)

T = TypeVar("T")


class Kind(enum.Enum):
    """What a document is."""

    FILE = "file"
    FOLDER = "folder"


class Person(msgspec.Struct, frozen=True, gc=False):
    """A user who created or checked out something; texts are empty where the answer has none."""

    id: UserId
    name: str = ""
    login: str = ""


class Version(msgspec.Struct, frozen=True, gc=False):
    """The bytes a file has, or had: they never change under one id."""

    id: VersionId
    number: int
    """Counts from 1; 0: the answer did not say."""
    size_bytes: int
    """0 … 2**63 - 1, checked."""
    created_at_s: int
    """Unix seconds, UTC; 0: unknown."""
    url: str
    """Http(s), plain http only to loopback; opaque, any host, can expire."""
    created_by: Person | None = None


class Document(msgspec.Struct, frozen=True, gc=False):
    """A file or folder as one listing showed it."""

    id: DocumentId
    parent_id: DocumentId | None
    """None: the root (or an answer that did not say)."""
    name: str
    """As Procore has it: may be one that Linux cannot hold; always encodable as UTF-8."""
    kind: Kind
    created_at_s: int
    """Unix seconds, UTC; 0: unknown (v1 folder listings do not say)."""
    updated_at_s: int
    """Unix seconds, UTC; 0: unknown."""
    created_by: Person | None
    """None: unknown."""
    read_only: bool | None
    """None: unknown, keep what was known."""
    deleted: bool
    recycle_bin: bool
    """This is the bin itself."""
    tracked: bool | None
    """None: unknown, keep what was known."""
    private: bool | None
    """None: unknown, keep what was known."""
    description: str
    file_type: str
    checked_out_by: Person | None
    checked_out_until_s: int | None
    custom_fields: dict[str, Any]
    version: Version | None
    """Newest by number; None for folders and where `defect` says why."""
    defect: str = ""
    """Why a file has no usable version: it is listed, opening it fails."""


class Me(msgspec.Struct, frozen=True):
    """The user that a token stands for."""

    id: UserId
    login: str = ""
    name: str = ""


class Company(msgspec.Struct, frozen=True):
    """A company that the user belongs to."""

    id: CompanyId
    name: str
    active: bool = True


class Project(msgspec.Struct, frozen=True):
    """A project of a company."""

    id: ProjectId
    name: str
    display_name: str = ""
    project_number: str = ""
    active: bool = True
    company_name: str = ""
    """Empty where the answer did not say."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list.

    `per_page` is what the server really gave, to be used for the pages that follow. `refused` counts the
    items that could not be understood at all: they were logged and left out.
    """

    items: list[T]
    total: int | None
    per_page: int | None
    next_page: int | None
    refused: int = 0
    asked_at_s: int | None = None
    """Unix seconds of the server's clock, at the latest; None: it told no time."""


class FolderListing(msgspec.Struct, frozen=True):
    """A folder and what lies directly in it."""

    folder: Document
    children: list[Document]
    refused: int = 0


class Tag(msgspec.Struct, frozen=True):
    """A tag of a project."""

    id: TagId
    name: str


class FieldDefinition(msgspec.Struct, frozen=True):
    """A custom field of the company's; the label is not unique."""

    id: FieldId
    label: str
    data_type: str
    """String, decimal, boolean, lov_entry, lov_entries, or one that is not known here."""


class LovEntry(NamedTuple):
    """A choice of a custom field."""

    id: EntryId
    label: str
