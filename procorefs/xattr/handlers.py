"""Defines for each attribute of Procore how it is read, listed, set and removed: one handler an attribute, in a table.

name ─▶ handler_of ─▶ Fact         only read             id, version, state, ...
                      Flag         set, not removed      private, tracked
                      Description  two names (aliases)   description, user.xdg.comment
                      TagList      two names (aliases)   tags, user.xdg.tags
                      CustomField  one a label           custom.LABEL
                      Attribute    any other name: there is no such attribute
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from procorefs.journal.change import MetadataPatch
from procorefs.procore.api.changes import FieldValue
from procorefs.procore.wire.field_values import DATA_TYPES, ENTRIES, ENTRY, same_value
from procorefs.procore.wire.models import FieldDefinition, FieldId
from procorefs.tree.nodes import Inode
from procorefs.xattr import value_texts
from procorefs.xattr.attribute_names import (
    ALIASES,
    CUSTOM,
    DESCRIPTION,
    LONGEST_VALUE_BYTES,
    PRIVATE,
    READ_ONLY,
    TAGS,
    TRACKED,
    XDG_COMMENT,
    XDG_TAGS,
    BadValue,
    NoSuchAttribute,
    NotKnownYet,
    NotSettable,
)
from procorefs.xattr.attribute_target import AttributeTarget, Targets
from procorefs.xattr.custom_field_cache import CustomFieldCache
from procorefs.xattr.custom_fields import field_id_of, field_key, parsed_value, shown_json, shown_value
from procorefs.xattr.document_facts import DocumentFacts
from procorefs.xattr.tags import Tags


class Attribute:
    """The handler of one attribute. This base class handles an attribute that does not exist."""

    is_settable = True
    is_removable = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def value(self, _target: AttributeTarget) -> bytes:
        """The value; empty if there is none."""
        return b""

    async def is_listed(self, _target: AttributeTarget) -> bool:
        """Whether the attribute is listed, so that copy tools copy it."""
        return False

    async def is_there(self, target: AttributeTarget) -> bool:
        """Whether the attribute has a value, for XATTR_CREATE and XATTR_REPLACE. Raises NotKnownYet."""
        return bool(await self.value(target))

    async def has_what_to_remove(self, target: AttributeTarget) -> bool:
        return bool(await self.value(target))

    async def set(self, _inode: Inode, _text: str) -> None:
        """Raises BadValue, NotSettable, NoSuchAttribute, NotKnownYet."""
        raise NoSuchAttribute(f"there is no {self.name}")

    def remove(self, _inode: Inode) -> None:
        raise NoSuchAttribute(f"there is no {self.name}")

    def shown(self, _target: AttributeTarget) -> str:
        """The text that is shown for the value; '' if a text that was set is always shown as it was set."""
        return ""

    def means(self, _target: AttributeTarget, _text: str) -> bool:
        """Whether a text that was set here means the present value, as far as known without a call."""
        return False


class Fact(Attribute):
    """A value that only Procore or the outbox sets."""

    is_settable = False
    is_removable = False

    def __init__(self, name: str, facts: DocumentFacts) -> None:
        super().__init__(name)
        self._facts = facts

    async def value(self, target: AttributeTarget) -> bytes:
        return await self._facts.get(target, self.name)


class Flag(Attribute):
    """A boolean of the document."""

    is_removable = False

    def __init__(
        self,
        name: str,
        targets: Targets,
        read: Callable[[AttributeTarget], bool | None],
        write: Callable[[bool], MetadataPatch],
    ) -> None:
        super().__init__(name)
        self._targets = targets
        self._read = read
        self._write = write

    async def value(self, target: AttributeTarget) -> bytes:
        truth = self._read(target)
        return value_texts.shown_truth(truth).encode() if truth is not None else b""

    async def set(self, inode: Inode, text: str) -> None:
        self._targets.set(inode, self._write(value_texts.truth(text)))


class Description(Attribute):
    """The description of a file; folders have none."""

    def __init__(self, name: str, targets: Targets) -> None:
        super().__init__(name)
        self._targets = targets

    async def value(self, target: AttributeTarget) -> bytes:
        _check_has_description(target)
        return target.description.encode()

    async def is_listed(self, target: AttributeTarget) -> bool:
        description = "" if target.node.is_folder else target.description
        return 0 < len(description.encode()) <= LONGEST_VALUE_BYTES

    async def set(self, inode: Inode, text: str) -> None:
        _check_has_description(self._targets.changeable(inode))
        self._targets.set(inode, MetadataPatch(description=text))

    def remove(self, inode: Inode) -> None:
        self._targets.set(inode, MetadataPatch(description=""))


class TagFormat(NamedTuple):
    """How an attribute shows all tags as one text."""

    show: Callable[[Collection[str]], str]
    parse: Callable[[str, Collection[str]], list[str]]
    """The tags in a text; the second argument is the document's present tags, which the text may mean."""


_LINES = TagFormat(value_texts.tag_lines, value_texts.tags_of_lines)
_COMMAS = TagFormat(value_texts.tag_list, value_texts.tags_of_list)


class TagList(Attribute):
    """All tags of a document."""

    def __init__(self, name: str, targets: Targets, tags: Tags, text_format: TagFormat) -> None:
        super().__init__(name)
        self._targets = targets
        self._tags = tags
        self._format = text_format

    async def value(self, target: AttributeTarget) -> bytes:
        return self._format.show(await self._all(target)).encode("utf-8", "replace")

    async def is_listed(self, target: AttributeTarget) -> bool:
        return bool(await self._all(target))

    async def _all(self, target: AttributeTarget) -> list[str]:
        if target.wanted_tags is not None or target.document is None:
            return target.wanted_tags or []
        return [tag.name for tag in await self._tags.of(target.document)]

    def _at_hand(self, target: AttributeTarget) -> list[str] | None:
        """The tags as programs see them, if no call is needed."""
        return self._targets.known_tags(target) if target.wanted_tags is None else target.wanted_tags

    async def is_there(self, target: AttributeTarget) -> bool:
        if target.wanted_tags is not None or not target.node.is_folder:
            return bool(await self._all(target))
        known = self._targets.known_tags(target)
        if known is None and target.document is not None:
            self._tags.ask_soon(target.document)
            raise NotKnownYet("the tags are not known yet; try again")
        return bool(known)

    async def has_what_to_remove(self, target: AttributeTarget) -> bool:
        """Unknown tags are removed without a call: a program that lists them first makes them known."""
        tags = self._at_hand(target)
        return tags is None or bool(tags)

    async def set(self, inode: Inode, text: str) -> None:
        borne = self._at_hand(self._targets.changeable(inode)) or []
        self._targets.set(inode, MetadataPatch(tags=self._format.parse(text, borne)))

    def remove(self, inode: Inode) -> None:
        self._targets.set(inode, MetadataPatch(tags=[]))

    def shown(self, target: AttributeTarget) -> str:
        return self._format.show(self._at_hand(target) or [])

    def means(self, target: AttributeTarget, text: str) -> bool:
        tags = self._at_hand(target)
        return tags is not None and set(self._format.parse(text, tags)) == set(tags)


@dataclass(frozen=True, slots=True)
class _Field:
    """A custom field that a document may have."""

    id: FieldId
    data_type: str


class CustomField(Attribute):
    """A custom field, by its label, or by its id if the project's list lacks it."""

    def __init__(self, name: str, targets: Targets, fields: CustomFieldCache) -> None:
        super().__init__(name)
        self._targets = targets
        self._fields = fields
        self._label = name.removeprefix(CUSTOM)

    async def value(self, target: AttributeTarget) -> bytes:
        field = await self._field(target)
        return self._text(target, field).encode("utf-8", "replace") if field is not None else b""

    async def is_there(self, target: AttributeTarget) -> bool:
        return bool(await self._targets.soon(target, partial(self.value, target)))

    async def has_what_to_remove(self, target: AttributeTarget) -> bool:
        field = await self._targets.soon(target, partial(self._field, target))
        if field is not None and field.data_type not in DATA_TYPES:
            raise NotSettable(f"{self.name} can only be read")
        return field is not None and bool(self._text(target, field))

    async def set(self, inode: Inode, text: str) -> None:
        target = self._targets.changeable(inode)
        field = await self._targets.soon(target, partial(self._field, target))
        if field is None:
            raise NoSuchAttribute(f"the project has no custom field of the name of {self.name}")
        if field.data_type not in DATA_TYPES:
            raise NotSettable(f"fields of the type {field.data_type or 'unknown'} can only be read")
        if text and text == self._text(target, field):
            return
        value = await self._targets.soon(target, partial(self._parsed, field, text))
        self._targets.set(inode, MetadataPatch(custom_fields={int(field.id): value}))

    def remove(self, inode: Inode) -> None:
        field = self._at_hand(self._targets.changeable(inode))
        assert field is not None, "has_what_to_remove was asked first"
        self._targets.set(inode, MetadataPatch(custom_fields={int(field.id): None}))

    def shown(self, target: AttributeTarget) -> str:
        field = self._at_hand(target)
        return self._text(target, field) if field is not None else ""

    def means(self, target: AttributeTarget, text: str) -> bool:
        field = self._at_hand(target)
        if field is None:
            return False
        try:
            value = parsed_value(field.data_type, text, self._fields.choices(field.id))
        except (BadValue, NotSettable):
            return False
        return same_value(value, target.field(field.id))

    async def _field(self, target: AttributeTarget) -> _Field | None:
        """Raises ProcoreError."""
        await self._fields.look_up(self._label)
        return self._at_hand(target)

    def _at_hand(self, target: AttributeTarget) -> _Field | None:
        definition = self._fields.field(self._label)
        if definition is not None:
            return _Field(definition.id, target.data_type(definition.id) or definition.data_type)
        field_id = field_id_of(self._label)
        if field_id is None or self._fields.label(field_id) is not None or not target.has_field(field_id):
            return None
        return _Field(FieldId(field_id), target.data_type(field_id))

    def _text(self, target: AttributeTarget, field: _Field) -> str:
        if field.data_type not in DATA_TYPES:
            raw = target.raw_field(field.id)
            return "" if raw is None else shown_json(raw)
        known = {int(entry.id): entry.label for entry in self._fields.choices(field.id)}
        return shown_value(field.data_type, target.field(field.id), target.entry_labels(field.id) | known)

    async def _parsed(self, field: _Field, text: str) -> FieldValue:
        definition = FieldDefinition(field.id, "", field.data_type)
        choices = await self._fields.choices_of(definition)
        try:
            return parsed_value(field.data_type, text, choices)
        except BadValue:
            if field.data_type not in (ENTRY, ENTRIES):
                raise
            return parsed_value(field.data_type, text, await self._fields.ask_choices(definition))


class Handlers:
    """The table of all attributes of Procore."""

    def __init__(self, targets: Targets, tags: Tags, fields: CustomFieldCache, facts: DocumentFacts) -> None:
        self._targets = targets
        self._fields = fields
        self._by_name = {
            handler.name: handler
            for handler in (
                *(Fact(name, facts) for name in READ_ONLY),
                Flag(
                    PRIVATE,
                    targets,
                    lambda target: target.private,
                    lambda value: MetadataPatch(private=value),
                ),
                Flag(
                    TRACKED,
                    targets,
                    lambda target: target.tracked,
                    lambda value: MetadataPatch(tracked=value),
                ),
                *(Description(name, targets) for name in (DESCRIPTION, XDG_COMMENT)),
                TagList(TAGS, targets, tags, _LINES),
                TagList(XDG_TAGS, targets, tags, _COMMAS),
            )
        }

    def handler_of(self, name: str) -> Attribute:
        if name.startswith(CUSTOM):
            return CustomField(name, self._targets, self._fields)
        return self._by_name.get(name) or Attribute(name)

    async def names(self, target: AttributeTarget) -> list[str]:
        """The names to list: of values that are not empty and can be set. Raises ProcoreError."""
        found: list[str] = []
        for name in (TAGS, DESCRIPTION):
            if await self._by_name[name].is_listed(target):
                found += [name, ALIASES[name]]
        if field_ids := list(target.field_ids()):
            await self._fields.load()
            found += sorted(CUSTOM + (self._fields.label(id_) or field_key(id_)) for id_ in field_ids)
        return found


def _check_has_description(target: AttributeTarget) -> None:
    if target.node.is_folder:
        raise NoSuchAttribute("folders have no description in Procore")
