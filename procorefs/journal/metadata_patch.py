"""Compares wanted metadata with what Procore has, because only the difference needs a call. Pure functions."""

from collections.abc import Collection

import msgspec
from msgspec import UNSET

from procorefs.journal.change import MetadataPatch
from procorefs.procore.api.changes import FieldValue
from procorefs.procore.wire.field_values import same_value, writable_form
from procorefs.tree.document_detail import Detail


def lacking(patch: MetadataPatch, detail: Detail, tags: Collection[str] | None = None) -> MetadataPatch:
    """The part of the patch that Procore lacks. `tags`: those that the document has, as far as known."""
    plain = {
        name: UNSET if getattr(patch, name) == getattr(detail, name) else getattr(patch, name)
        for name in ("description", "tracked", "private")
    }
    fields: dict[int, FieldValue] = {
        field_id: value
        for field_id, value in patch.custom_fields.items()
        if not same_value(value, writable_form(detail.custom_fields.get(f"custom_field_{field_id}")))
    }
    has_tags = tags is not None and patch.tags is not UNSET and set(patch.tags) == set(tags)
    return MetadataPatch(**plain, custom_fields=fields, tags=UNSET if has_tags else patch.tags)


def without(patch: MetadataPatch, done: MetadataPatch) -> MetadataPatch:
    """The patch without what was sent, except what was set differently meanwhile."""
    plain = {
        name: UNSET if getattr(patch, name) == getattr(done, name) else getattr(patch, name)
        for name in ("description", "tracked", "private", "tags")
    }
    fields: dict[int, FieldValue] = {
        field_id: value
        for field_id, value in patch.custom_fields.items()
        if field_id not in done.custom_fields or done.custom_fields[field_id] != value
    }
    return MetadataPatch(**plain, custom_fields=fields)


def over(newer: MetadataPatch, older: MetadataPatch) -> MetadataPatch:
    """Both patches, the newer where they differ; used when one file takes over another one's document."""
    plain = {
        name: getattr(older, name) if getattr(newer, name) is UNSET else getattr(newer, name)
        for name in ("description", "tracked", "private", "tags")
    }
    return MetadataPatch(**plain, custom_fields=older.custom_fields | newer.custom_fields)


def set_in(detail: Detail) -> MetadataPatch:
    """A document's description and fields, which stay with its file when that replaces another."""
    fields: dict[int, FieldValue] = {
        int(name.removeprefix("custom_field_")): form
        for name, shown in detail.custom_fields.items()
        if (form := writable_form(shown)) is not None and form is not UNSET
    }
    return MetadataPatch(description=detail.description or UNSET, custom_fields=fields)


def attribute_names(patch: MetadataPatch) -> list[str]:
    """The names of the patch's values as extended attributes; custom fields without their labels."""
    plain = ("description", "tracked", "private", "tags")
    named = [f"user.procore.{name}" for name in plain if getattr(patch, name) is not UNSET]
    return named + (["user.procore.custom.*"] if patch.custom_fields else [])


def fields_only(patch: MetadataPatch) -> MetadataPatch:
    """What a PATCH of the document carries."""
    return msgspec.structs.replace(patch, tags=UNSET)
