"""What only Procore and the outbox say of a document: attributes that are read by name and never set.

Most are at hand; the versions and the whole JSON are asked for, one call each, which answers for some seconds: a
program that reads an attribute asks for its size first.
"""

from collections.abc import Callable
from typing import Any, Protocol

import cachetools
import msgspec
import trio

from procorefs.procore.wire.models import DocumentId, Person, Version
from procorefs.tree.nodes import Inode
from procorefs.xattr.attribute_errors import NoAttribute
from procorefs.xattr.attribute_names import LONGEST_VALUE_BYTES, PROCORE
from procorefs.xattr.attribute_target import AttributeTarget
from procorefs.xattr.value_texts import moment, person

ANSWERS_S = 5.0
ANSWERS = 64


class DocumentCalls(Protocol):
    """What this needs of the client; raises ProcoreError."""

    async def versions_of(self, document: DocumentId) -> list[Version]:
        """Oldest first."""

    async def json_of(self, document: DocumentId, *, is_folder: bool) -> Any:  # noqa: ANN401 - JSON
        """The document as Procore describes it."""


class DocumentFacts:
    """Answers for the read-only names."""

    def __init__(
        self,
        calls: DocumentCalls,
        state_of: Callable[[Inode], tuple[str, str]],
        *,
        unix_time_s: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._state_of = state_of
        self._unix_time_s = unix_time_s
        self._answers: cachetools.TTLCache[tuple[str, DocumentId, int], bytes] = cachetools.TTLCache(
            ANSWERS, ANSWERS_S, timer=trio.current_time
        )

    async def get(self, subject: AttributeTarget, name: str) -> bytes:
        """Raises NoAttribute when there is nothing to say, ProcoreError."""
        short = name.removeprefix(PROCORE)
        if short in ("versions", "raw"):
            return await self._asked(subject, short)
        text = self._at_hand(subject, short)
        if not text:
            raise NoAttribute
        return text.encode("utf-8", "replace")

    def _at_hand(self, subject: AttributeTarget, short: str) -> str:
        node, detail, document = subject.node, subject.detail, subject.document
        if short in ("state", "error"):
            state, error = self._state_of(node.inode)
            return error if short == "error" else "held" if state == "checked_out" else state
        if document is None:
            return ""
        holds = (detail.checked_out_until_s or 0) > self._unix_time_s()
        match short:
            case "id":
                return str(document)
            case "version":
                return str(node.version.number or node.version.id) if node.version is not None else ""
            case "url":
                return node.version.url if node.version is not None else ""
            case "created_by":
                maker = detail.created_by or _maker_of_first(subject)
                return person(maker) if maker is not None else ""
            case "created_at":
                return moment(node.created_at_s) if node.created_at_s else ""
            case "updated_at":
                return moment(node.updated_at_s) if node.updated_at_s else ""
            case "checked_out_by":
                return person(detail.checked_out_by) if holds and detail.checked_out_by is not None else ""
            case "checked_out_until":
                return moment(detail.checked_out_until_s or 0) if holds else ""
        return ""

    async def _asked(self, subject: AttributeTarget, short: str) -> bytes:
        document, is_folder = subject.document, subject.node.is_folder
        if document is None or (is_folder and short == "versions"):
            raise NoAttribute
        key = (short, document, subject.node.updated_at_s)
        answer = self._answers.get(key)
        if answer is None:
            if short == "versions":
                answer = _fitting([_version(v) for v in reversed(await self._calls.versions_of(document))])
            else:
                answer = _fitting_document(await self._calls.json_of(document, is_folder=is_folder))
            self._answers[key] = answer
        return answer


def _maker_of_first(subject: AttributeTarget) -> Person | None:
    """Who made the first version has made the file; not every answer of Procore says the latter."""
    version = subject.node.version
    return subject.detail.version_by if version is not None and version.number == 1 else None


def _version(version: Version) -> dict[str, object]:
    return {
        "id": version.id,
        "number": version.number,
        "size": version.size_bytes,
        "created_at": moment(version.created_at_s) if version.created_at_s else None,
        "created_by": person(version.created_by) if version.created_by is not None else None,
    }


def _fitting(items: list[dict[str, object]]) -> bytes:
    """As many of the first as Linux lets an attribute hold."""
    encoded = msgspec.json.encode(items)
    while len(encoded) > LONGEST_VALUE_BYTES:
        items = items[: len(items) * LONGEST_VALUE_BYTES // len(encoded)]
        encoded = msgspec.json.encode(items)
    return encoded


def _fitting_document(document: Any) -> bytes:  # noqa: ANN401 - JSON
    """Lists of what belongs to it are left out where Linux would not let an attribute hold them."""
    encoded = msgspec.json.encode(document)
    if len(encoded) > LONGEST_VALUE_BYTES and isinstance(document, dict):
        encoded = msgspec.json.encode({key: v for key, v in document.items() if not isinstance(v, list)})
    return encoded if len(encoded) <= LONGEST_VALUE_BYTES else b"{}"
