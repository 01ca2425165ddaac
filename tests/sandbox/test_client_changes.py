"""The calls that change a project: done once or refused with a reason."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from procorefs.procore.api.changes import FieldValue, FileChange, FolderChange
from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.procore.errors import (
    CheckedOut,
    Conflict,
    Forbidden,
    Invalid,
    NameTaken,
    NotFound,
    ProcoreError,
    UploadRefused,
)
from procorefs.procore.wire.models import Document, DocumentId, Kind
from tests.support.api_client import NOW, client_of, uploaded
from tests.support.client_changes import ClientAndChanges
from tests.support.sandbox import SandboxHandle


@pytest.fixture
async def set_up(sandbox: SandboxHandle) -> AsyncIterator[ClientAndChanges]:
    async with client_of(sandbox, silence_s=1.0) as client:
        made = ClientAndChanges(sandbox, client)
        await client.me()
        client.stats.by_route.clear()
        sandbox.reset_calls()
        yield made


async def test_a_folder_from_its_making_to_the_bin(set_up: ClientAndChanges) -> None:
    made = await set_up.changes.create_folder(None, "New", FolderChange(private=True, tracked=True))
    assert (made.name, made.kind, made.private, made.tracked) == ("New", Kind.FOLDER, True, True)
    inner = await set_up.changes.create_folder(made.id, "Inner")
    assert inner.parent_id == made.id
    moved = await set_up.changes.update_folder(
        inner.id, FolderChange(name="Moved", parent_id=set_up.folder_id)
    )
    assert (moved.name, moved.parent_id) == ("Moved", set_up.folder_id)
    shown = await set_up.changes.update_folder(made.id, FolderChange(private=False, tracked=False))
    assert (shown.private, shown.tracked) == (False, False)
    await set_up.changes.delete_folder(made.id)
    assert set_up.client.stats.by_route == {"POST folders": 2, "PATCH folders": 2, "DELETE folders": 1}
    assert sum(set_up.calls().values()) == 5
    assert "New" not in await set_up.children()


@pytest.mark.parametrize("delete_status", [200, 204])
async def test_a_file_from_its_making_to_the_bin(set_up: ClientAndChanges, delete_status: int) -> None:
    set_up.sandbox.faults(dialect={"delete_status": delete_status})
    change = FileChange(description="draft", private=True, tracked=True)
    made = await set_up.changes.create_file(
        set_up.folder_id, "a.txt", await uploaded(set_up.client, b"one"), change
    )
    assert made.version is not None
    assert (made.version.number, made.version.size_bytes, made.parent_id) == (1, 3, set_up.folder_id)
    assert (made.description, made.private, made.tracked) == ("draft", True, True)
    new = FileChange(upload_uuid=await uploaded(set_up.client, b"two!"), name="b.txt", description="")
    changed = await set_up.changes.update_file(made.id, new)
    assert changed.version is not None
    assert (changed.name, changed.version.number, changed.version.size_bytes) == ("b.txt", 2, 4)
    assert changed.description == ""
    await set_up.changes.delete_file(made.id)
    assert set_up.client.stats.by_route == {
        "POST uploads": 2,
        "POST files": 1,
        "PATCH files": 1,
        "DELETE files": 1,
    }
    with pytest.raises(NotFound):
        await set_up.changes.delete_file(made.id)


async def test_to_the_root_by_looking_it_up_once(set_up: ClientAndChanges) -> None:
    await set_up.changes.update_file(set_up.file_id, FileChange(parent_id=set_up.folder_id))
    moved = await set_up.changes.update_file(set_up.file_id, FileChange(parent_id=None))
    await set_up.changes.update_folder(set_up.folder_id, FolderChange(parent_id=None))
    root = await set_up.client.folder(None, priority=NOW)
    assert moved.parent_id == root.folder.id
    assert set_up.client.stats.by_route["GET folders"] == 1 + 1
    made = await set_up.changes.create_folder(root.folder.id, "by its id")
    assert made.parent_id == root.folder.id


async def test_check_out_and_in(set_up: ClientAndChanges) -> None:
    until_s = int(time.time()) + 900
    held = await set_up.changes.check_out(set_up.file_id, until_s, priority=NOW)
    assert held.checked_out_by is not None
    assert (held.checked_out_by.id, held.checked_out_until_s) == (set_up.sandbox.user_id, until_s)
    free = await set_up.changes.check_out(set_up.file_id, None)
    assert (free.checked_out_by, free.checked_out_until_s) == (None, None)
    assert set_up.client.stats.by_route == {"PATCH files": 2}
    with pytest.raises(Invalid):
        await set_up.changes.check_out(set_up.file_id, int(time.time()) - 900)


async def test_custom_fields_of_every_type_are_written_and_cleared(set_up: ClientAndChanges) -> None:
    metadata = ProjectMetadata(set_up.client)
    listed = await metadata.custom_field_definitions()
    fields = {field.data_type: field.id for field in reversed(listed)}  # the last is another tool's
    (first, *_) = await metadata.lov_entries(fields["lov_entries"])
    (choice, *_) = await metadata.lov_entries(fields["lov_entry"])
    values: dict[int, FieldValue] = {
        fields["string"]: "text",
        fields["decimal"]: 1.5,
        fields["boolean"]: False,
        fields["lov_entry"]: choice.id,
        fields["lov_entries"]: [first.id],
    }
    written = await set_up.changes.update_file(set_up.file_id, FileChange(custom_fields=values))
    assert {
        name: field["value"]["id"] if field["data_type"] == "lov_entry" else field["value"]
        for name, field in written.custom_fields.items()
        if field["data_type"] != "lov_entries"
    } == {f"custom_field_{i}": value for i, value in values.items() if not isinstance(value, list)}
    calls = set_up.client.stats.by_route["PATCH files"]
    cleared = await set_up.changes.update_file(
        set_up.file_id, FileChange(custom_fields=dict.fromkeys(values))
    )
    assert cleared.custom_fields == {}
    assert set_up.client.stats.by_route["PATCH files"] == calls + 1


async def test_null_clears_where_an_empty_text_is_refused(set_up: ClientAndChanges) -> None:
    set_up.sandbox.act("describe", id=set_up.file_id, text="draft")
    set_up.sandbox.faults(dialect={"empty_text_clears": False})
    change = FileChange(name="other.txt", description="")
    assert (await set_up.changes.update_file(set_up.file_id, change)).description == ""
    assert set_up.client.stats.by_route == {"PATCH files": 2}
    # What is refused for another reason is not sent again.
    set_up.sandbox.faults(dialect={"empty_text_clears": True})
    with pytest.raises(NameTaken):
        await set_up.changes.update_file(set_up.file_id, FileChange(name="Inbox", description=""))
    with pytest.raises(Invalid, match="parent_id"):
        await set_up.changes.update_file(
            set_up.file_id, FileChange(parent_id=DocumentId(999), description="")
        )
    assert set_up.client.stats.by_route == {"PATCH files": 4}
    set_up.sandbox.faults(dialect={"null_clears_description": False, "empty_text_clears": False})
    with pytest.raises(Invalid, match="description"):
        await set_up.changes.update_file(set_up.file_id, FileChange(description=""))


@pytest.mark.parametrize("shape", ["errors", "message", "error"])
async def test_a_taken_name_in_every_shape(set_up: ClientAndChanges, shape: str) -> None:
    set_up.sandbox.faults(dialect={"error_shape": shape})
    with pytest.raises(NameTaken, match="the name is taken there"):
        await set_up.changes.create_folder(None, "Inbox")
    with pytest.raises(NameTaken):
        await set_up.changes.update_folder(set_up.folder_id, FolderChange(name="plan.txt"))
    uuid = await uploaded(set_up.client, b"x")
    with pytest.raises(NameTaken):
        await set_up.changes.create_file(None, "plan.txt", uuid)
    assert set_up.client.stats.by_route == {
        "POST folders": 1,
        "PATCH folders": 1,
        "POST uploads": 1,
        "POST files": 1,
    }
    # A refused name has not used the upload up.
    assert (await set_up.changes.create_file(None, "plan 2.txt", uuid)).name == "plan 2.txt"


@pytest.mark.parametrize("shape", ["errors", "message", "error"])
async def test_an_upload_that_cannot_be_used_in_every_shape(set_up: ClientAndChanges, shape: str) -> None:
    set_up.sandbox.faults(dialect={"error_shape": shape})
    uuid = await uploaded(set_up.client, b"x")
    await set_up.changes.create_file(None, "a.txt", uuid)
    for wrong in (uuid, "0" * 26):
        with pytest.raises(UploadRefused):
            await set_up.changes.create_file(None, "b.txt", wrong)
        with pytest.raises(UploadRefused):
            await set_up.changes.update_file(set_up.file_id, FileChange(upload_uuid=wrong))
    assert "b.txt" not in await set_up.children()


async def test_what_somebody_else_has_checked_out(set_up: ClientAndChanges) -> None:
    set_up.sandbox.act("check_out", id=set_up.file_id)
    attempts: list[Callable[[], Awaitable[Any]]] = [
        lambda: set_up.changes.update_file(set_up.file_id, FileChange(name="x.txt")),
        lambda: set_up.changes.check_out(set_up.file_id, int(time.time()) + 900),
        lambda: set_up.changes.delete_file(set_up.file_id),
    ]
    for attempt in attempts:
        with pytest.raises(CheckedOut) as refused:
            await attempt()
        file = refused.value.file
        assert file is not None
        assert (file.id, file.checked_out_by is not None) == (set_up.file_id, True)
        assert file.checked_out_by is not None
        assert refused.value.holder == file.checked_out_by.name != ""
        assert isinstance(refused.value, Conflict)
        assert not refused.value.passing
    assert set_up.client.stats.by_route == {"PATCH files": 2, "DELETE files": 1}
    set_up.sandbox.act("check_in", id=set_up.file_id)
    await set_up.changes.delete_file(set_up.file_id)


async def test_what_is_not_permitted(set_up: ClientAndChanges) -> None:
    set_up.sandbox.act("read_only", id=set_up.file_id)
    with pytest.raises(Forbidden):
        await set_up.changes.update_file(set_up.file_id, FileChange(name="x.txt"))
    set_up.sandbox.act("membership", user="first", level="read")
    with pytest.raises(Forbidden):
        await set_up.changes.create_folder(None, "New")
    with pytest.raises(Forbidden):
        await set_up.changes.delete_folder(set_up.folder_id)
    assert sum(set_up.client.stats.by_route.values()) == 3


async def test_nothing_to_change_asks_nobody(set_up: ClientAndChanges) -> None:
    with pytest.raises(ValueError, match="nothing"):
        await set_up.changes.update_file(set_up.file_id, FileChange())
    with pytest.raises(ValueError, match="finite"):
        await set_up.changes.update_file(set_up.file_id, FileChange(custom_fields={1: float("nan")}))
    with pytest.raises(ValueError, match="checked out"):
        await set_up.changes.create_file(None, "a", "uuid", FileChange(checked_out_until_s=5))
    assert set_up.client.stats.by_route == {}


# --- what a delete must know first ---


@pytest.mark.parametrize("descendants", ["deleted", "living", "hidden"])
@pytest.mark.parametrize("bin_in_list", [False, True])
@pytest.mark.parametrize("cap", [None, 2])
async def test_below_a_folder_is_what_lives_there(
    set_up: ClientAndChanges, descendants: str, bin_in_list: bool, cap: int | None
) -> None:
    set_up.sandbox.faults(
        dialect={"descendants": descendants, "bin_in_list": bin_in_list},
        settings={"per_page_cap": cap},
    )
    expected = set()
    for path in ("/Inbox", "/Inbox/Old", "/Inbox/New"):
        if path != "/Inbox":
            expected.add(path.rpartition("/")[2])
            set_up.sandbox.act("create_folder", path="/Inbox", name=path.rpartition("/")[2])
        for name in ("a.txt", "b.txt"):
            set_up.sandbox.act("create_file", path=path, name=f"{path[-3:]} {name}", text="x")
            expected.add(f"{path[-3:]} {name}")
    assert {document.name for document in await set_up.client.below(set_up.folder_id)} == expected
    set_up.sandbox.act("delete", path="/Inbox/Old")
    set_up.sandbox.act("delete", path="/Inbox/New/New a.txt")
    expected -= {"Old", "Old a.txt", "Old b.txt", "New a.txt"}
    assert {document.name for document in await set_up.client.below(set_up.folder_id)} == expected


async def test_below_is_everything_or_an_error(set_up: ClientAndChanges) -> None:
    made = set_up.sandbox.act("create_file", path="/Inbox", name="a.txt", text="x")
    set_up.sandbox.faults(malformed=[{"id": made["id"], "set": {"name": {"$absent": True}}}])
    with pytest.raises(ProcoreError, match="cannot be understood"):
        await set_up.client.below(set_up.folder_id)
    set_up.sandbox.forget_violations()


async def test_below_a_folder_that_changes_while_it_is_listed(set_up: ClientAndChanges) -> None:
    """What moved up to a page that was read already must not be missed."""
    names = [f"{number}.txt" for number in range(5)]
    made = [set_up.sandbox.act("create_file", path="/Inbox", name=name, text="x")["id"] for name in names]
    set_up.sandbox.faults(
        settings={"per_page_cap": 2},
        rules=[{"kind": "silence", "route": "GET */documents", "match": "page=2&", "count": 1}],
    )
    found: list[Document] = []

    async def list_it() -> None:
        found.extend(await set_up.client.below(set_up.folder_id))

    set_up.client.settings = msgspec.structs.replace(set_up.client.settings, silence_s=30.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(list_it)
        await set_up.sandbox.silent_calls()
        set_up.sandbox.act("delete", id=made[0])
        set_up.sandbox.release()
    assert sorted(document.name for document in found) == names[1:]
    assert set_up.client.stats.by_route == {"GET documents": 6}


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_every_version_in_the_order_of_their_numbers(set_up: ClientAndChanges, order: str) -> None:
    set_up.sandbox.faults(dialect={"versions_order": order})
    for text in ("second!", "third"):
        set_up.sandbox.act("put", id=set_up.file_id, text=text)
    versions = await set_up.client.versions(set_up.file_id, priority=NOW)
    assert [(version.number, version.size_bytes) for version in versions] == [(1, 5), (2, 7), (3, 5)]
    assert all(version.created_by is not None and version.created_by.name for version in versions)
    assert set_up.client.stats.by_route == {"GET files": 1}
