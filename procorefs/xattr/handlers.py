"""Get, list, set and remove extended attributes: what the kernel's side calls.

    user.procore.*, the freedesktop's twins ─▶ subject (Procore's, ours over it) ─▶ text
                                            ◀─ wishes, journaled and sent by the outbox ◀─ text
    every other user.*                      ─▶ foreign_xattrs.py: kept here

Who sets or removes something of a folder holds the kernel's lock on it, and everybody who looks into that folder waits
for him: so there nothing waits for Procore longer than a moment, and hardly ever at all.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from procorefs.journal.change import MetadataPatch
from procorefs.procore.api.brief_wait import BriefWait, NoAnswerYet
from procorefs.procore.api.changes import FieldValue
from procorefs.procore.wire.field_values import DATA_TYPES, ENTRIES, ENTRY, same_value
from procorefs.procore.wire.models import FieldDefinition, FieldId
from procorefs.tree.nodes import Inode
from procorefs.vfs.namespace_edits import NamespaceEdits
from procorefs.vfs.refusals import NotPermitted
from procorefs.vfs.view import View
from procorefs.xattr import value_texts
from procorefs.xattr.attribute_errors import (
    AttributeExists,
    BadValue,
    NoAttribute,
    NoSuchKind,
    NotKnownYet,
    NotSettable,
    TooMuch,
)
from procorefs.xattr.attribute_names import (
    CUSTOM,
    DESCRIPTION,
    LONGEST_VALUE_BYTES,
    NOT_REMOVABLE,
    PRIVATE,
    READ_ONLY,
    TAGS,
    TRACKED,
    XDG_COMMENT,
    XDG_TAGS,
    is_description,
    is_ours,
    is_tags,
)
from procorefs.xattr.attribute_target import AttributeTarget, target_of
from procorefs.xattr.copy_aliases import CopyAliases
from procorefs.xattr.custom_field_cache import CustomFieldCache
from procorefs.xattr.custom_fields import field_id_of, field_key, parsed_value, shown_json, shown_value
from procorefs.xattr.document_facts import DocumentFacts
from procorefs.xattr.foreign_xattrs import ForeignXattrs
from procorefs.xattr.tags import Tags

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    thread: int
    makes: bool = False
    """XATTR_CREATE: only if it is not there."""
    replaces: bool = False
    """XATTR_REPLACE: only if it is."""


@dataclass(frozen=True, slots=True)
class Field:
    """A custom field that a document may bear."""

    id: FieldId
    data_type: str


class Attributes:
    """Raises AttributeRefused, ChangeRefused, ProcoreError, sqlite3.Error."""

    def __init__(
        self,
        view: View,
        edits: NamespaceEdits,
        tags: Tags,
        book: CustomFieldCache,
        facts: DocumentFacts,
        others: ForeignXattrs,
        brief: BriefWait,
    ) -> None:
        self._view = view
        self._edits = edits
        self._tags = tags
        self._book = book
        self._facts = facts
        self._others = others
        self._brief = brief
        self._twins = CopyAliases()

    # Reading

    @staticmethod
    def needs_procore(name: bytes) -> bool:
        """Whether the value follows Procore."""
        return is_ours(_text(name))

    async def names(self, inode: Inode, caller: Caller) -> list[bytes]:
        """What `cp --preserve=xattr` and `rsync -X` are to carry: nothing that is empty, nothing that can't be set."""
        subject = target_of(self._view, inode)
        if subject is None:
            return []
        for name in (TAGS, DESCRIPTION):
            self._twins.looked(caller.thread, inode, name)
        found: list[str] = []
        if await self._tags_of(subject):
            found += [TAGS, XDG_TAGS]
        if not subject.node.is_folder and subject.description and _fits(subject.description):
            found += [DESCRIPTION, XDG_COMMENT]
        if field_ids := list(subject.field_ids()):
            await self._book.opened()
            found += sorted(CUSTOM + self._label(field_id) for field_id in field_ids)
        return [name.encode() for name in found] + self._others.names(subject.node)

    async def get(self, inode: Inode, name: bytes, caller: Caller) -> bytes:
        """Raises NoAttribute when it is not there, or empty."""
        subject = target_of(self._view, inode)
        text = _known(name)
        if subject is None:
            raise NoAttribute
        if not is_ours(text):
            value = self._others.get(subject.node, name)
            if value is None:
                raise NoAttribute
            return value
        self._twins.looked(caller.thread, inode, text)
        value = await self._value(subject, text)
        if not value:
            raise NoAttribute
        return self._as_written(subject, text, name) or value

    async def _value(self, subject: AttributeTarget, name: str) -> bytes:
        """Empty when there is none."""
        if name in READ_ONLY:
            return await self._facts.get(subject, name)
        if name in (PRIVATE, TRACKED):
            truth = subject.private if name == PRIVATE else subject.tracked
            return value_texts.shown_truth(truth).encode() if truth is not None else b""
        if is_description(name):
            _check_has_description(subject)
            return subject.description.encode()
        if is_tags(name):
            tags = await self._tags_of(subject)
            return (value_texts.tag_lines(tags) if name == TAGS else value_texts.tag_list(tags)).encode(
                "utf-8", "replace"
            )
        if name.startswith(CUSTOM):
            field = await self._field(subject, name)
            return self._shown(subject, field).encode("utf-8", "replace") if field is not None else b""
        return b""

    async def _tags_of(self, subject: AttributeTarget) -> list[str]:
        if subject.wanted_tags is not None or subject.document is None:
            return subject.wanted_tags or []
        return [tag.name for tag in await self._tags.of(subject.document)]

    def _tags_at_hand(self, subject: AttributeTarget) -> list[str] | None:
        """The tags as programs see them, if they need not be asked for."""
        return self._known_tags(subject) if subject.wanted_tags is None else subject.wanted_tags

    def _known_tags(self, subject: AttributeTarget) -> list[str] | None:
        """The tags that Procore has, if they need not be asked for."""
        if subject.document is None:
            return []
        known = self._tags.known(subject.document)
        return None if known is None else [tag.name for tag in known]

    def _as_written(self, subject: AttributeTarget, name: str, raw_name: bytes) -> bytes | None:
        """The text as it was set here, as long as it means what Procore has."""
        written = self._others.get(subject.node, raw_name)
        if written is None:
            return None
        text = written.decode()
        if is_tags(name):
            is_same = self._means_tags(subject, name, text)
        else:
            field = self._field_at_hand(subject, name)
            is_same = field is not None and self._means(subject, field, text)
        return written if is_same else None

    def _means_tags(self, subject: AttributeTarget, name: str, text: str) -> bool:
        tags = self._tags_at_hand(subject)
        return tags is not None and set(_tags_in(name, text, tags)) == set(tags)

    def _means(self, subject: AttributeTarget, field: Field, text: str) -> bool:
        try:
            value = parsed_value(field.data_type, text, self._book.choices(field.id))
        except (BadValue, NotSettable):
            return False
        return same_value(value, subject.field(field.id))

    # Custom fields

    def _label(self, field_id: int) -> str:
        """A field that is not in the book goes by its id."""
        return self._book.label(field_id) or field_key(field_id)

    async def _field(self, subject: AttributeTarget, name: str) -> Field | None:
        """The field of a name; raises ProcoreError."""
        await self._book.look_up(name.removeprefix(CUSTOM))
        return self._field_at_hand(subject, name)

    def _field_at_hand(self, subject: AttributeTarget, name: str) -> Field | None:
        label = name.removeprefix(CUSTOM)
        definition = self._book.field(label)
        if definition is not None:
            return Field(definition.id, subject.data_type(definition.id) or definition.data_type)
        field_id = field_id_of(label)
        if field_id is None or self._book.label(field_id) is not None or not subject.has_field(field_id):
            return None
        return Field(FieldId(field_id), subject.data_type(field_id))

    def _shown(self, subject: AttributeTarget, field: Field) -> str:
        if field.data_type not in DATA_TYPES:
            raw = subject.raw_field(field.id)
            return "" if raw is None else shown_json(raw)
        choices = subject.entry_labels(field.id) | {
            int(entry.id): entry.label for entry in self._book.choices(field.id)
        }
        return shown_value(field.data_type, subject.field(field.id), choices)

    # Setting

    async def set(self, inode: Inode, name: bytes, value: bytes, caller: Caller) -> None:
        with _about(name, "set"):
            await self._set(inode, name, value, caller)

    async def _set(self, inode: Inode, name: bytes, value: bytes, caller: Caller) -> None:
        subject, text = self._changeable(inode), _known(name)
        if not is_ours(text):
            self._check_flags(self._others.get(subject.node, name) is not None, caller)
            _check_writable(subject)
            self._others.put(subject.node, name, value)
            return
        if text in READ_ONLY:
            raise NotSettable(f"{text} can only be read")
        if caller.makes or caller.replaces:
            self._check_flags(await self._is_there(subject, text), caller)
        wanted = value_texts.decoded(value)
        if self._twins.is_superseded(caller.thread, inode, text):
            if is_tags(text) and self._means_tags(self._changeable(inode), text, wanted):
                self._remember_text(inode, text, name, wanted)
            return
        if text.startswith(CUSTOM):
            await self._set_field(inode, text, wanted)
        else:
            self._wish(inode, self._wishes(self._changeable(inode), text, wanted))
        self._remember_text(inode, text, name, wanted)
        self._twins.did(caller.thread, inode, text, is_set=True)

    def _changeable(self, inode: Inode) -> AttributeTarget:
        """Raises NoSuchEntry."""
        self._edits.shown_entry(inode)
        subject = target_of(self._view, inode)
        assert subject is not None
        return subject

    def _check_flags(self, is_there: bool, caller: Caller) -> None:
        if caller.makes and is_there:
            raise AttributeExists
        if caller.replaces and not is_there:
            raise NoAttribute

    async def _is_there(self, subject: AttributeTarget, name: str) -> bool:
        if is_tags(name) and subject.wanted_tags is None and subject.node.is_folder:
            known = self._known_tags(subject)
            if known is None and subject.document is not None:
                self._tags.ask_soon(subject.document)
                raise NotKnownYet("the tags are not known yet; try again")
            return bool(known)
        return bool(await self._soon(subject, partial(self._value, subject, name)))

    def _wishes(self, subject: AttributeTarget, name: str, text: str) -> MetadataPatch:
        """What is wanted of the document then."""
        if is_description(name):
            _check_has_description(subject)
            return msgspec.structs.replace(subject.wishes, description=text)
        if is_tags(name):
            borne = self._tags_at_hand(subject) or []
            return msgspec.structs.replace(subject.wishes, tags=_tags_in(name, text, borne))
        if name == PRIVATE:
            return msgspec.structs.replace(subject.wishes, private=value_texts.truth(text))
        if name == TRACKED:
            return msgspec.structs.replace(subject.wishes, tracked=value_texts.truth(text))
        raise NoSuchKind(f"there is no {name}")

    def _wish(self, inode: Inode, wishes: MetadataPatch) -> None:
        subject = self._changeable(inode)
        self._edits.wish(inode, wishes, tags=self._known_tags(subject))

    async def _set_field(self, inode: Inode, name: str, text: str) -> None:
        subject = self._changeable(inode)
        field = await self._soon(subject, partial(self._field, subject, name))
        if field is None:
            raise NoSuchKind(f"the project has no custom field of the name of {name}")
        if field.data_type not in DATA_TYPES:
            raise NotSettable(f"fields of the type {field.data_type or 'unknown'} can only be read")
        if text and text == self._shown(subject, field):
            return
        value = await self._soon(subject, partial(self._parsed, field, text))
        self._wish_field(inode, field.id, value)

    def _wish_field(self, inode: Inode, field_id: FieldId, value: FieldValue) -> None:
        wishes = self._changeable(inode).wishes
        fields = {**wishes.custom_fields, int(field_id): value}
        self._wish(inode, msgspec.structs.replace(wishes, custom_fields=fields))

    async def _parsed(self, field: Field, text: str) -> FieldValue:
        definition = FieldDefinition(field.id, "", field.data_type)
        choices = await self._book.choices_of(definition)
        try:
            return parsed_value(field.data_type, text, choices)
        except BadValue:
            if field.data_type not in (ENTRY, ENTRIES):
                raise
            return parsed_value(field.data_type, text, await self._book.ask_choices(definition))

    def _remember_text(self, inode: Inode, name: str, raw_name: bytes, text: str) -> None:
        """Keep the text if it is not the one that would be shown."""
        subject = self._changeable(inode)
        shown = ""
        if is_tags(name):
            tags = self._tags_at_hand(subject) or []
            shown = value_texts.tag_lines(tags) if name == TAGS else value_texts.tag_list(tags)
        elif name.startswith(CUSTOM) and (field := self._field_at_hand(subject, name)) is not None:
            shown = self._shown(subject, field)
        if shown and shown != text:
            self._others.put(subject.node, raw_name, text.encode())
        else:
            self._others.forget(subject.node, raw_name)

    # Removing

    async def remove(self, inode: Inode, name: bytes, caller: Caller) -> None:
        with _about(name, "removed"):
            await self._remove(inode, name, caller)

    async def _remove(self, inode: Inode, name: bytes, caller: Caller) -> None:
        subject, text = self._changeable(inode), _known(name)
        if not is_ours(text):
            _check_writable(subject)
            self._others.remove(subject.node, name)
            return
        if text in NOT_REMOVABLE:
            raise NotSettable(f"{text} cannot be removed")
        if self._twins.is_only_beyond_the_source(caller.thread, inode, text):
            return
        if not await self._has_what_to_remove(subject, text):
            if self._twins.is_removed_with_its_twin(caller.thread, inode, text):
                return
            raise NoAttribute
        if text.startswith(CUSTOM):
            field = self._field_at_hand(self._changeable(inode), text)
            assert field is not None
            self._wish_field(inode, field.id, None)
        else:
            self._wish(inode, self._wishes(self._changeable(inode), text, ""))
        self._others.forget(subject.node, name)
        self._twins.did(caller.thread, inode, text, is_set=False)

    async def _has_what_to_remove(self, subject: AttributeTarget, name: str) -> bool:
        """Tags that nobody knows are taken off without being asked for: whoever lists them first knows them."""
        if is_tags(name):
            tags = self._tags_at_hand(subject)
            return tags is None or bool(tags)
        if not name.startswith(CUSTOM):
            return bool(await self._value(subject, name))
        field = await self._soon(subject, partial(self._field, subject, name))
        if field is not None and field.data_type not in DATA_TYPES:
            raise NotSettable(f"{name} can only be read")
        return field is not None and bool(self._shown(subject, field))

    async def _soon(self, subject: AttributeTarget, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for the work; not long where others wait for us. Raises NotKnownYet."""
        if not subject.node.is_folder:
            return await work()
        try:
            return await self._brief.of(work)
        except NoAnswerYet as error:
            raise NotKnownYet(str(error)) from error


@contextmanager
def _about(name: bytes, done: str) -> Iterator[None]:
    """Reasons that people are told say which attribute they are about."""
    try:
        yield
    except (BadValue, NotKnownYet, TooMuch) as error:
        raise type(error)(f"{name.decode('utf-8', 'replace')} was not {done}: {error}") from error


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _known(name: bytes) -> str:
    """Raises NoSuchKind for a name that is no user's."""
    text = _text(name)
    if not text.startswith("user."):
        raise NoSuchKind(f"{text!r} is not a user attribute")
    return text


def _tags_in(name: str, text: str, borne: Collection[str]) -> list[str]:
    return value_texts.tags_of_lines(text, borne) if name == TAGS else value_texts.tags_of_list(text, borne)


def _fits(text: str) -> bool:
    return len(text.encode()) <= LONGEST_VALUE_BYTES


def _check_has_description(subject: AttributeTarget) -> None:
    if subject.node.is_folder:
        raise NoSuchKind("folders have no description in Procore")


def _check_writable(subject: AttributeTarget) -> None:
    if subject.node.read_only:
        raise NotPermitted("Procore has it read-only")
