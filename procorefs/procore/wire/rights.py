"""Reads the account's rights on the documents of a project from the answer to Procore's permissions call; pure.

A right that is unknown counts as one to be tried: Procore refuses the call if it must. How Procore calls the tool and
spells the granular rights is unknown, so names are compared without case, blanks and punctuation, and a granular right
that may be the one in question leaves it unknown. (docs/procore-api.md, What the caller may do)
"""

from typing import Any, Literal

import msgspec

from procorefs.procore.errors import Malformed
from procorefs.procore.wire.lenient_json import object_in, untyped

Right = Literal["write", "rename", "move", "delete", "describe", "set_private", "see_bin"]
"""A field of Rights that a call may need."""


class Rights(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the account may do with the project's documents; None: unknown."""

    read: bool | None = None
    """False: the tool is off for the account."""
    write: bool | None = None
    """Make folders, upload files and versions, check out."""
    rename: bool | None = None
    move: bool | None = None
    delete: bool | None = None
    describe: bool | None = None
    """Set descriptions and tags."""
    set_private: bool | None = None
    see_bin: bool | None = None
    """Without it, deletions are not listed anywhere."""


_TOOL_NAMES = frozenset({"documents", "document", "documentstool", "projectdocuments"})

_GRANULAR: tuple[tuple[Right, tuple[str, ...], str], ...] = (
    ("rename", ("renamefoldersandfiles", "renamefilesandfolders"), "rename"),
    ("move", ("moveandcopyfilesandfolders", "moveandcopyfoldersandfiles"), "move"),
    ("delete", ("deletefoldersandfiles", "deletefilesandfolders"), "delete"),
    ("set_private", ("setpermissions",), "permission"),
    ("see_bin", ("seerecyclebin",), "bin"),
)
"""Each right with the names of its granular right, and a word that any other name of it would have."""


def rights_of(body: bytes, action: str) -> Rights:
    """The rights in the answer to a permissions call. Raises Malformed: it does not list tools."""
    tools = object_in(untyped(body, action), action).get("tools")
    if not isinstance(tools, list):
        raise Malformed(f"Could not {action}: Procore's answer lists no tools")
    found = {_of_tool(tool) for tool in tools if isinstance(tool, dict) and _is_documents(tool)}
    return found.pop() if len(found) == 1 else Rights()


def restriction(rights: Rights) -> str:
    """What the account may not do, as a clause for people; empty: nothing is known to be refused."""
    if rights.read is False:
        return "this account may not see the documents of this project"
    refused = [words for right, words in _WORDS if getattr(rights, right) is False]
    if not refused:
        return ""
    acts, what = [], "documents"
    for words in refused:
        acts.append(words.format(what))
        if "{}" in words:
            what = "them"
    last = acts.pop()
    return f"this account may not {', '.join(acts)}{' or ' if acts else ''}{last}"


_WORDS: tuple[tuple[Right, str], ...] = (
    ("write", "write {}"),
    ("delete", "delete {}"),
    ("rename", "rename {}"),
    ("move", "move {}"),
    ("describe", "describe or tag {}"),
    ("set_private", "make {} private"),
    ("see_bin", "see the recycle bin"),
)


def _is_documents(tool: dict[str, Any]) -> bool:
    return any(_folded(tool.get(field)) in _TOOL_NAMES for field in ("name", "friendly_name"))


def _of_tool(tool: dict[str, Any]) -> Rights:
    level = tool.get("user_access_level")
    match _folded(level.get("name") if isinstance(level, dict) else level):
        case "admin":
            return Rights(*[True] * len(Rights.__struct_fields__))
        case "standard":
            return Rights(read=True, write=True, describe=False, **_granular(tool))
        case "readonly" | "read":
            return Rights(read=True, write=False, describe=False, **_granular(tool))
        case "none":
            return Rights(*[False] * len(Rights.__struct_fields__))
        case _:
            return Rights()


def _granular(tool: dict[str, Any]) -> dict[str, bool | None]:
    """The rights beside the level; all are unknown where the answer has no list of them."""
    actions = tool.get("permitted_actions")
    if not isinstance(actions, list) or not all(isinstance(action, dict) for action in actions):
        return {}
    names = {
        _folded(action.get(field)).removeprefix("can")
        for action in actions
        for field in ("action_name", "label")
    }
    return {right: _granted(names, exact, word) for right, exact, word in _GRANULAR}


def _granted(names: set[str], exact: tuple[str, ...], word: str) -> bool | None:
    if names.intersection(exact):
        return True
    return None if any(word in name for name in names) else False


def _folded(name: object) -> str:
    text = name.casefold().replace("&", "and") if isinstance(name, str) else ""
    return "".join(character for character in text if character.isalnum())
