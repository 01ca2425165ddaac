"""What the tree keeps of a document beyond what file operations need; and when two versions have the same bytes."""

import msgspec

from procorefs.procore.wire.models import Document, Person, UserId, Version


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What attributes and check-outs need of a document; a column of its row, as JSON."""

    created_by: Person | None = None
    version_by: Person | None = None
    description: str = ""
    file_type: str = ""
    tracked: bool | None = None
    private: bool | None = None
    checked_out_by: Person | None = None
    checked_out_until_s: int | None = None
    custom_fields: dict[str, object] = {}


def same_bytes(one: Version | None, other: Version | None) -> bool:
    """Whether two answers name the same bytes.

    The number is not compared: it may move with a rename or a check-out (procore-api.md, Open questions).
    """
    if one is None or other is None:
        return one is other
    return (one.id, one.size_bytes, one.created_at_s) == (other.id, other.size_bytes, other.created_at_s)


def is_echo(known: Version, document: Document, me: UserId) -> bool:
    """Whether a call of ours that sent no bytes has made the version that its answer names.

    Such a version is by us, has the size of the known one, and the time of the document's last change. In doubt it is a
    colleague's.
    """
    version = document.version
    return (
        version is not None
        and version.created_by is not None
        and version.created_by.id == me
        and version.size_bytes == known.size_bytes
        and version.number > known.number
        and abs(version.created_at_s - document.updated_at_s) <= 1
    )


def decode_detail(detail: bytes) -> Detail:
    return msgspec.json.decode(detail, type=Detail) if detail and detail != b"{}" else Detail()


def encode_detail(document: Document, known: bytes | None) -> bytes:
    """A document's detail as JSON; what this kind of answer does not say stays as it was."""
    old = decode_detail(known or b"{}")
    version_by = document.version.created_by if document.version else None
    return msgspec.json.encode(
        Detail(
            created_by=document.created_by or old.created_by,
            version_by=version_by or old.version_by,
            description=document.description,
            file_type=document.file_type,
            tracked=document.tracked if document.tracked is not None else old.tracked,
            private=document.private if document.private is not None else old.private,
            checked_out_by=document.checked_out_by,
            checked_out_until_s=document.checked_out_until_s,
            custom_fields=document.custom_fields,
        )
    )


def is_private(document: Document, known: bytes | None) -> bool:
    """Whether Procore shows it to some users only; what this kind of answer does not say stays as it was."""
    if document.private is not None:
        return document.private
    return bool(decode_detail(known or b"{}").private)
