"""What an answer to the permissions call means, whatever the tool and its rights are called."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procorefs.procore.errors import Malformed
from procorefs.procore.wire.rights import Rights, restriction, rights_of

NONE_GRANTED = {"rename": False, "move": False, "delete": False, "set_private": False, "see_bin": False}


def tool(level: Any, *actions: Any, **fields: Any) -> dict[str, Any]:
    listed = [action if isinstance(action, dict) else {"action_name": action} for action in actions]
    made = {"name": "documents", "user_access_level": {"id": 1, "name": level}, "permitted_actions": listed}
    return made | fields


def read(*tools: Any) -> Rights:
    return rights_of(json.dumps({"tools": list(tools)}).encode(), "ask")


def test_the_levels() -> None:
    assert read(tool("None")) == Rights(*[False] * 8)
    assert read(tool("Read Only")) == Rights(read=True, write=False, describe=False, **NONE_GRANTED)
    assert read(tool("Standard")) == Rights(read=True, write=True, describe=False, **NONE_GRANTED)
    assert read(tool("Admin")) == Rights(*[True] * 8)
    assert read(tool("read_only")) == read(tool("READ ONLY")) == read(tool("Read Only"))


@pytest.mark.parametrize(
    ("spelt", "right"),
    [
        ("Delete Folders and Files", "delete"),
        ("delete_folders_and_files", "delete"),
        ("deleteFilesAndFolders", "delete"),
        ("DELETE FILES & FOLDERS", "delete"),
        ("rename_folders_and_files", "rename"),
        ("Move and Copy Files and Folders", "move"),
        ("set-permissions", "set_private"),
        ("Can See Recycle Bin", "see_bin"),
    ],
)
def test_granular_rights_in_any_spelling(spelt: str, right: str) -> None:
    for action in (spelt, {"action_name": "17", "label": spelt}):
        for level in ("Standard", "Read Only"):
            found = read(tool(level, action))
            assert getattr(found, right) is True
            assert [getattr(found, other) for other in NONE_GRANTED if other != right] == [False] * 4


def test_a_right_that_may_be_meant_is_unknown() -> None:
    found = read(tool("Standard", "delete_documents", "can_see_schedule"))
    assert (found.delete, found.rename, found.see_bin) == (None, False, False)


@pytest.mark.parametrize(
    "name", ["Documents", " documents ", "DOCUMENTS", "documents_tool", "Project Documents"]
)
def test_names_of_the_tool(name: str) -> None:
    assert read(tool("None", name=name)).read is False
    assert read(tool("None", name="docs2", friendly_name=name)).read is False


@pytest.mark.parametrize(
    "tools",
    [
        [],
        [tool("None", name="Document Management")],
        [tool("None"), tool("Admin")],
        [tool("Owner")],
        [tool(None)],
        [tool("None", user_access_level=None)],
        ["documents", 5, None],
    ],
)
def test_what_proves_nothing(tools: list[Any]) -> None:
    assert read(*tools) == Rights()


@pytest.mark.parametrize("actions", [None, "all", ["delete_folders_and_files"], [5]])
def test_actions_that_are_no_list_of_rights(actions: Any) -> None:
    found = read(tool("Standard", permitted_actions=actions))
    assert found == Rights(read=True, write=True, describe=False)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"tools": 5}', b"\xff"])
def test_garbage(body: bytes) -> None:
    with pytest.raises(Malformed):
        rights_of(body, "ask")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["documents", "Standard"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "user_access_level", "permitted_actions", "action_name", "label", "x"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_any_json_is_read_or_unknown(tools: list[Any]) -> None:
    read(*tools)


def test_sentences() -> None:
    assert restriction(Rights()) == restriction(Rights(*[True] * 8)) == ""
    assert restriction(Rights(delete=False)) == "this account may not delete documents"
    assert restriction(Rights(read=False)) == "this account may not see the documents of this project"
    assert (
        restriction(Rights(delete=False, rename=False, see_bin=False))
        == "this account may not delete documents, rename them or see the recycle bin"
    )
