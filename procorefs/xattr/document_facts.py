"""Makes the values of the read-only attributes: id, version, state, the whole JSON and others.

Most are known. The versions and the JSON cost one call each; the answer is reused for some seconds, because a
program that reads an attribute requests its size first.
"""

from collections.abc import Callable
from typing import Any

import cachetools
import msgspec
import trio

from procorefs.journal.states import ChangeState
from procorefs.limiter import Priority
from procorefs.procore.api.client import Client
from procorefs.procore.wire.models import DocumentId, Person, Version
from procorefs.tree.nodes import Inode
from procorefs.xattr.attribute_names import LONGEST_VALUE_BYTES, PROCORE, NoAttribute
from procorefs.xattr.attribute_target import AttributeTarget
from procorefs.xattr.value_texts import moment, person

ANSWERS_S = 5.0
ANSWERS = 64


class DocumentFacts:
    """`state_of` returns the item state of a file and its reason."""

    def __init__(
        self,
        client: Client,
        state_of: Callable[[Inode], tuple[ChangeState, str]],
        *,
        unix_time_s: Callable[[], float],
    ) -> None:
        self._client = client
        self._state_of = state_of
        self._unix_time_s = unix_time_s
        self._answers: cachetools.TTLCache[tuple[str, DocumentId, int], bytes] = cachetools.TTLCache(
            ANSWERS, ANSWERS_S, timer=trio.current_time
        )

    async def get(self, target: AttributeTarget, name: str) -> bytes:
        """The value. Raises NoAttribute if there is none, and ProcoreError."""
        short = name.removeprefix(PROCORE)
        if short in ("versions", "raw"):
            return await self._asked(target, short)
        text = self._known(target, short)
        if not text:
            raise NoAttribute
        return text.encode("utf-8", "replace")

    def _known(self, target: AttributeTarget, short: str) -> str:
        node, detail, document = target.node, target.detail, target.document
        if short in ("state", "error"):
            state, error = self._state_of(node.inode)
            return (
                error if short == "error" else ChangeState.HELD if state is ChangeState.CHECKED_OUT else state
            )
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
                creator = detail.created_by or _creator_of_first_version(target)
                return person(creator) if creator is not None else ""
            case "created_at":
                return moment(node.created_at_s) if node.created_at_s else ""
            case "updated_at":
                return moment(node.updated_at_s) if node.updated_at_s else ""
            case "checked_out_by":
                return person(detail.checked_out_by) if holds and detail.checked_out_by is not None else ""
            case "checked_out_until":
                return moment(detail.checked_out_until_s or 0) if holds else ""
        return ""

    async def _asked(self, target: AttributeTarget, short: str) -> bytes:
        document, is_folder = target.document, target.node.is_folder
        if document is None or (is_folder and short == "versions"):
            raise NoAttribute
        key = (short, document, target.node.updated_at_s)
        answer = self._answers.get(key)
        if answer is None:
            if short == "versions":
                versions = await self._client.versions(document, priority=Priority.INTERACTIVE)
                answer = _fitting([_version(version) for version in reversed(versions)])
            else:
                answer = _fitting_document(
                    await self._client.document_json(
                        document, is_folder=is_folder, priority=Priority.INTERACTIVE
                    )
                )
            self._answers[key] = answer
        return answer


def _creator_of_first_version(target: AttributeTarget) -> Person | None:
    """The creator of the file; the creator of the first version if an answer of Procore lacks it."""
    version = target.node.version
    return target.detail.version_by if version is not None and version.number == 1 else None


def _version(version: Version) -> dict[str, object]:
    return {
        "id": version.id,
        "number": version.number,
        "size": version.size_bytes,
        "created_at": moment(version.created_at_s) if version.created_at_s else None,
        "created_by": person(version.created_by) if version.created_by is not None else None,
    }


def _fitting(items: list[dict[str, object]]) -> bytes:
    """As many of them, from the first on, as an attribute can hold."""
    encoded = msgspec.json.encode(items)
    while len(encoded) > LONGEST_VALUE_BYTES:
        items = items[: len(items) * LONGEST_VALUE_BYTES // len(encoded)]
        encoded = msgspec.json.encode(items)
    return encoded


def _fitting_document(document: Any) -> bytes:  # noqa: ANN401 - JSON
    """The JSON, without its lists if an attribute cannot hold them."""
    encoded = msgspec.json.encode(document)
    if len(encoded) > LONGEST_VALUE_BYTES and isinstance(document, dict):
        encoded = msgspec.json.encode({key: v for key, v in document.items() if not isinstance(v, list)})
    return encoded if len(encoded) <= LONGEST_VALUE_BYTES else b"{}"
