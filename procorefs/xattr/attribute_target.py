"""A document's metadata as programs see it: what Procore has, with everything over it that is wanted here."""

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import UNSET

from procorefs.journal.change import MetadataPatch
from procorefs.procore.api.changes import FieldValue
from procorefs.procore.wire.field_values import (
    DATA_TYPES,
    data_type_of,
    entry_labels,
    value_of,
    writable_form,
)
from procorefs.procore.wire.models import DocumentId
from procorefs.tree.document_detail import Detail, decode_detail
from procorefs.tree.nodes import Inode, Node
from procorefs.vfs.view import View
from procorefs.xattr.custom_fields import field_id_of, field_key


@dataclass(frozen=True, slots=True)
class AttributeTarget:
    """One moment of one file or folder."""

    node: Node
    document: DocumentId | None
    """None: Procore does not have it yet."""
    detail: Detail
    wishes: MetadataPatch

    @property
    def description(self) -> str:
        wanted = self.wishes.description
        return self.detail.description if wanted is UNSET else wanted

    @property
    def private(self) -> bool | None:
        wanted = self.wishes.private
        return self.detail.private if wanted is UNSET else wanted

    @property
    def tracked(self) -> bool | None:
        wanted = self.wishes.tracked
        return self.detail.tracked if wanted is UNSET else wanted

    @property
    def wanted_tags(self) -> list[str] | None:
        """None: those that Procore has."""
        return None if self.wishes.tags is UNSET else self.wishes.tags

    def field_ids(self) -> Iterator[int]:
        """Fields that are not empty, and whose values can be written."""
        for key, shown in self.detail.custom_fields.items():
            field_id = field_id_of(key)
            if field_id is None or field_id in self.wishes.custom_fields:
                continue
            if data_type_of(shown) in DATA_TYPES and writable_form(shown) not in (None, UNSET):
                yield field_id
        for field_id, value in self.wishes.custom_fields.items():
            if value not in (None, "", []):
                yield field_id

    def has_field(self, field_id: int) -> bool:
        return field_id in self.wishes.custom_fields or field_key(field_id) in self.detail.custom_fields

    def data_type(self, field_id: int) -> str:
        """As the document says; empty: it does not bear the field."""
        return data_type_of(self.detail.custom_fields.get(field_key(field_id)))

    def field(self, field_id: int) -> FieldValue:
        """What the field is set to; None: nothing."""
        if field_id in self.wishes.custom_fields:
            return self.wishes.custom_fields[field_id]
        form = writable_form(self.detail.custom_fields.get(field_key(field_id)))
        return None if form is UNSET else form

    def entry_labels(self, field_id: int) -> dict[int, str]:
        return entry_labels(self.detail.custom_fields.get(field_key(field_id)))

    def raw_field(self, field_id: int) -> object:
        return value_of(self.detail.custom_fields.get(field_key(field_id)))


def target_of(view: View, inode: Inode) -> AttributeTarget | None:
    """None: it is no node of the tree."""
    node = view.by_inode(inode)
    if node is None:
        return None
    change = view.change(inode)
    document = change.document if change is not None else node.document_id
    known = view.store.known(document) if document is not None else None
    return AttributeTarget(
        node=node,
        document=document,
        detail=decode_detail(known.detail) if known is not None else Detail(),
        wishes=change.wishes if change is not None else MetadataPatch(),
    )
