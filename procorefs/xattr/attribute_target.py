"""Shows the metadata of a document as programs see it: what Procore has, with unsent changes applied."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec import UNSET

from procorefs.journal.change import MetadataPatch
from procorefs.procore.api.brief_wait import BriefWait, NoAnswerYet
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
from procorefs.vfs.namespace_edits import NamespaceEdits
from procorefs.vfs.view import View
from procorefs.xattr.attribute_names import NotKnownYet
from procorefs.xattr.custom_fields import field_id_of, field_key
from procorefs.xattr.tags import Tags

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AttributeTarget:
    """One file or folder at one moment."""

    node: Node
    document: DocumentId | None
    """None if Procore does not have it yet."""
    detail: Detail
    """What Procore has."""
    patch: MetadataPatch
    """Metadata that was set here and that Procore may lack."""

    @property
    def description(self) -> str:
        wanted = self.patch.description
        return self.detail.description if wanted is UNSET else wanted

    @property
    def private(self) -> bool | None:
        wanted = self.patch.private
        return self.detail.private if wanted is UNSET else wanted

    @property
    def tracked(self) -> bool | None:
        wanted = self.patch.tracked
        return self.detail.tracked if wanted is UNSET else wanted

    @property
    def wanted_tags(self) -> list[str] | None:
        """The tags that are to be set; None for those that Procore has."""
        return None if self.patch.tags is UNSET else self.patch.tags

    def field_ids(self) -> Iterator[int]:
        """The fields that are not empty and can be set."""
        for key, shown in self.detail.custom_fields.items():
            field_id = field_id_of(key)
            if field_id is None or field_id in self.patch.custom_fields:
                continue
            if data_type_of(shown) in DATA_TYPES and writable_form(shown) not in (None, UNSET):
                yield field_id
        for field_id, value in self.patch.custom_fields.items():
            if value not in (None, "", []):
                yield field_id

    def has_field(self, field_id: int) -> bool:
        return field_id in self.patch.custom_fields or field_key(field_id) in self.detail.custom_fields

    def data_type(self, field_id: int) -> str:
        """The field's type in the document; empty if the document does not have it."""
        return data_type_of(self.detail.custom_fields.get(field_key(field_id)))

    def field(self, field_id: int) -> FieldValue:
        """The field's value; None if it has none."""
        if field_id in self.patch.custom_fields:
            return self.patch.custom_fields[field_id]
        form = writable_form(self.detail.custom_fields.get(field_key(field_id)))
        return None if form is UNSET else form

    def entry_labels(self, field_id: int) -> dict[int, str]:
        return entry_labels(self.detail.custom_fields.get(field_key(field_id)))

    def raw_field(self, field_id: int) -> object:
        return value_of(self.detail.custom_fields.get(field_key(field_id)))


class Targets:
    """Finds the target of a request, and records what is set on it."""

    def __init__(self, view: View, edits: NamespaceEdits, tags: Tags, brief: BriefWait) -> None:
        self._view = view
        self._edits = edits
        self._tags = tags
        self._brief = brief

    def find(self, inode: Inode) -> AttributeTarget | None:
        """The target; None if the inode is no node of the tree."""
        node = self._view.by_inode(inode)
        if node is None:
            return None
        change = self._view.change(inode)
        document = change.document if change is not None else node.document_id
        known = self._view.store.known(document) if document is not None else None
        return AttributeTarget(
            node=node,
            document=document,
            detail=decode_detail(known.detail) if known is not None else Detail(),
            patch=change.patch if change is not None else MetadataPatch(),
        )

    def changeable(self, inode: Inode) -> AttributeTarget:
        """The target. Raises NoSuchEntry."""
        self._edits.shown_entry(inode)
        target = self.find(inode)
        assert target is not None
        return target

    def set(self, inode: Inode, patch: MetadataPatch) -> None:
        """Change the document's metadata. Raises NoSuchEntry, NotPermitted, sqlite3.Error."""
        target = self.changeable(inode)
        before = target.patch
        values = {
            name: value for name in patch.__struct_fields__ if (value := getattr(patch, name)) is not UNSET
        }
        values["custom_fields"] = {**before.custom_fields, **patch.custom_fields}
        self._edits.set_metadata(
            inode, msgspec.structs.replace(before, **values), tags=self.known_tags(target)
        )

    def known_tags(self, target: AttributeTarget) -> list[str] | None:
        """The tags that Procore has, if no call is needed."""
        if target.document is None:
            return []
        known = self._tags.known(target.document)
        return None if known is None else [tag.name for tag in known]

    async def soon(self, target: AttributeTarget, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for the work, at most two seconds for a folder, because the request holds its lock. Raises
        NotKnownYet."""
        if not target.node.is_folder:
            return await work()
        try:
            return await self._brief.of(work)
        except NoAnswerYet as error:
            raise NotKnownYet(str(error)) from error
