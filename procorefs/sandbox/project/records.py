"""What the store's rows are once they have left SQLite."""

from typing import Any, TypeAlias

import msgspec


class User(msgspec.Struct, frozen=True):
    """A person or a service account."""

    id: int
    login: str
    name: str


class Project(msgspec.Struct, frozen=True):
    """A project and its two fixed folders."""

    id: int
    company_id: int
    name: str
    number: str | None
    active: int
    created_at: int
    updated_at: int
    root_id: int
    bin_id: int


class Version(msgspec.Struct, frozen=True):
    """One version of a file; times are Unix seconds."""

    id: int
    document_id: int
    number: int
    size: int
    notes: str | None
    created_at: int
    created_by: int
    name: str
    source: str


class Document(msgspec.Struct, frozen=True):
    """A file or folder with its newest version; columns in the order of DOCUMENT_COLUMNS."""

    id: int
    project_id: int
    parent_id: int | None
    is_file: int
    name: str
    created_at: int
    updated_at: int
    created_by: int
    read_only: int
    private: int
    private_root: int | None
    is_bin: int
    tracked: int
    deleted: int
    buried: int
    description: str | None
    file_type: str
    checked_out_by: int | None
    checked_out_until: int | None
    fields: str
    version_id: int | None
    number: int | None
    size: int | None
    notes: str | None
    version_created_at: int | None
    version_created_by: int | None
    has_folders: int
    has_files: int

    def holder_at(self, now_s: int) -> int | None:
        """The user who has it checked out at that moment."""
        if self.checked_out_until is None or self.checked_out_until <= now_s:
            return None
        return self.checked_out_by


DOCUMENT_COLUMNS = """
    d.id, d.project_id, d.parent_id, d.is_file, d.name, d.created_at, d.updated_at, d.created_by, d.read_only,
    d.private, d.private_root, d.is_bin, d.tracked, d.deleted, d.buried, d.description, d.file_type,
    d.checked_out_by, d.checked_out_until, d.fields, d.version_id,
    v.number, v.size, v.notes, v.created_at, v.created_by,
    d.is_file = 0 AND EXISTS (SELECT 1 FROM documents c WHERE c.parent_id = d.id AND c.is_file = 0 AND c.deleted = 0),
    d.is_file = 0 AND EXISTS (SELECT 1 FROM documents c WHERE c.parent_id = d.id AND c.is_file = 1 AND c.deleted = 0)
"""


class Caller(msgspec.Struct, frozen=True):
    """Who makes a call: the token's user and client."""

    user: User
    client_id: str
    is_service: bool
    """A service account's token, got by client credentials."""
    company_id: int | None = None


class Unlisted(msgspec.Struct, frozen=True):
    """Stands for a field that a malformed answer leaves out."""


Value: TypeAlias = Any
"""A value of a row or of JSON, of whatever type it is there."""

Json: TypeAlias = dict[str, Value]
