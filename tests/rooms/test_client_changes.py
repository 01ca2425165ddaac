"""The calls that change a project: done once, refused with a reason, or honestly unanswered."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from procorefs.limiter import Priority
from procorefs.procore.api.changes import FileChange, FolderChange, ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.procore.errors import (
    Busy,
    CheckedOut,
    Conflict,
    Forbidden,
    Invalid,
    NameTaken,
    NotFound,
    ProcoreError,
    RateLimited,
    Unanswered,
    Unavailable,
    Unreachable,
    UploadRefused,
)
from procorefs.procore.wire.models import Document, DocumentId, Kind
from tests.support.client_room import NOW, CountingLimiter, client_of, put_file, uploaded
from tests.support.sandbox import SandboxHandle

Deed = Callable[["Room"], Awaitable[Any]]

UNANSWERED: list[dict[str, Any]] = [
    {"kind": "drop", "when": "after"},
    {"kind": "error", "when": "after", "status": 500},
    {"kind": "error", "when": "after", "status": 502},
    {"kind": "error", "when": "after", "status": 503},
    {"kind": "error", "when": "after", "status": 504},
    {"kind": "error", "when": "after", "status": 408},
    {"kind": "silence", "when": "after"},
]
NOT_UNDERSTOOD: list[dict[str, Any]] = [
    {"kind": "cut", "after_bytes": 20},
    {"kind": "not_json"},
    {"kind": "wrong_type", "body": "[]"},
    {"kind": "wrong_type", "body": '{"id": 7, "name": "other"}'},
]


def shape_of(rule: dict[str, Any]) -> str:
    return " ".join(str(value) for name, value in rule.items() if name in ("kind", "status", "body"))


class Room:
    """A client, its changes, and a file and a folder in the sandbox."""

    def __init__(self, sandbox: SandboxHandle, client: Client) -> None:
        self.sandbox = sandbox
        self.client = client
        self.changes = ProjectChanges(client)
        self.file_id = put_file(sandbox, b"first", "plan.txt")
        folder = sandbox.act("create_folder", path="/", name="Inbox", user="first")
        self.folder_id = DocumentId(int(folder["id"]))

    async def children(self, folder_id: DocumentId | None = None) -> dict[str, Document]:
        listing = await self.client.folder(folder_id, priority=NOW)
        return {child.name: child for child in listing.children if not child.deleted}

    async def file(self, file_id: DocumentId | None = None) -> Document:
        return await self.client.file(file_id or self.file_id, priority=NOW)

    def calls(self) -> dict[str, int]:
        found: dict[str, int] = self.sandbox.calls()["by_route"]
        return found


@pytest.fixture
async def room(sandbox: SandboxHandle) -> AsyncIterator[Room]:
    async with client_of(sandbox, silence_s=1.0) as client:
        made = Room(sandbox, client)
        await client.me()
        client.stats.by_route.clear()
        sandbox.reset_calls()
        yield made


async def test_a_folder_from_its_making_to_the_bin(room: Room) -> None:
    made = await room.changes.create_folder(None, "New", FolderChange(private=True, tracked=True))
    assert (made.name, made.kind, made.private, made.tracked) == ("New", Kind.FOLDER, True, True)
    inner = await room.changes.create_folder(made.id, "Inner")
    assert inner.parent_id == made.id
    moved = await room.changes.update_folder(inner.id, FolderChange(name="Moved", parent_id=room.folder_id))
    assert (moved.name, moved.parent_id) == ("Moved", room.folder_id)
    shown = await room.changes.update_folder(made.id, FolderChange(private=False, tracked=False))
    assert (shown.private, shown.tracked) == (False, False)
    await room.changes.delete_folder(made.id)
    assert room.client.stats.by_route == {"POST folders": 2, "PATCH folders": 2, "DELETE folders": 1}
    assert sum(room.calls().values()) == 5
    assert "New" not in await room.children()


@pytest.mark.parametrize("delete_status", [200, 204])
async def test_a_file_from_its_making_to_the_bin(room: Room, delete_status: int) -> None:
    room.sandbox.faults(dialect={"delete_status": delete_status})
    change = FileChange(description="draft", private=True, tracked=True)
    made = await room.changes.create_file(
        room.folder_id, "a.txt", await uploaded(room.client, b"one"), change
    )
    assert made.version is not None
    assert (made.version.number, made.version.size_bytes, made.parent_id) == (1, 3, room.folder_id)
    assert (made.description, made.private, made.tracked) == ("draft", True, True)
    new = FileChange(upload_uuid=await uploaded(room.client, b"two!"), name="b.txt", description="")
    changed = await room.changes.update_file(made.id, new)
    assert changed.version is not None
    assert (changed.name, changed.version.number, changed.version.size_bytes) == ("b.txt", 2, 4)
    assert changed.description == ""
    await room.changes.delete_file(made.id)
    assert room.client.stats.by_route == {
        "POST uploads": 2,
        "POST files": 1,
        "PATCH files": 1,
        "DELETE files": 1,
    }
    with pytest.raises(NotFound):
        await room.changes.delete_file(made.id)


async def test_to_the_root_by_looking_it_up_once(room: Room) -> None:
    await room.changes.update_file(room.file_id, FileChange(parent_id=room.folder_id))
    moved = await room.changes.update_file(room.file_id, FileChange(parent_id=None))
    await room.changes.update_folder(room.folder_id, FolderChange(parent_id=None))
    root = await room.client.folder(None, priority=NOW)
    assert moved.parent_id == root.folder.id
    assert room.client.stats.by_route["GET folders"] == 1 + 1
    made = await room.changes.create_folder(root.folder.id, "by its id")
    assert made.parent_id == root.folder.id


async def test_check_out_and_in(room: Room) -> None:
    until_s = int(time.time()) + 900
    held = await room.changes.check_out(room.file_id, until_s, priority=NOW)
    assert held.checked_out_by is not None
    assert (held.checked_out_by.id, held.checked_out_until_s) == (room.sandbox.user_id, until_s)
    free = await room.changes.check_out(room.file_id, None)
    assert (free.checked_out_by, free.checked_out_until_s) == (None, None)
    assert room.client.stats.by_route == {"PATCH files": 2}
    with pytest.raises(Invalid):
        await room.changes.check_out(room.file_id, int(time.time()) - 900)


async def test_custom_fields_of_every_type_are_written_and_cleared(room: Room) -> None:
    metadata = ProjectMetadata(room.client)
    listed = await metadata.custom_field_definitions()
    fields = {field.data_type: field.id for field in reversed(listed)}  # the last is another tool's
    (first, *_) = await metadata.lov_entries(fields["lov_entries"])
    (choice, *_) = await metadata.lov_entries(fields["lov_entry"])
    values = {
        fields["string"]: "text",
        fields["decimal"]: 1.5,
        fields["boolean"]: False,
        fields["lov_entry"]: choice.id,
        fields["lov_entries"]: [first.id],
    }
    written = await room.changes.update_file(room.file_id, FileChange(custom_fields=values))
    assert {
        name: field["value"]["id"] if field["data_type"] == "lov_entry" else field["value"]
        for name, field in written.custom_fields.items()
        if field["data_type"] != "lov_entries"
    } == {f"custom_field_{i}": value for i, value in values.items() if not isinstance(value, list)}
    calls = room.client.stats.by_route["PATCH files"]
    cleared = await room.changes.update_file(room.file_id, FileChange(custom_fields=dict.fromkeys(values)))
    assert cleared.custom_fields == {}
    assert room.client.stats.by_route["PATCH files"] == calls + 1


async def test_null_clears_where_an_empty_text_is_refused(room: Room) -> None:
    room.sandbox.act("describe", id=room.file_id, text="draft")
    room.sandbox.faults(dialect={"empty_text_clears": False})
    change = FileChange(name="other.txt", description="")
    assert (await room.changes.update_file(room.file_id, change)).description == ""
    assert room.client.stats.by_route == {"PATCH files": 2}
    # What is refused for another reason is not sent again.
    room.sandbox.faults(dialect={"empty_text_clears": True})
    with pytest.raises(NameTaken):
        await room.changes.update_file(room.file_id, FileChange(name="Inbox", description=""))
    with pytest.raises(Invalid, match="parent_id"):
        await room.changes.update_file(room.file_id, FileChange(parent_id=DocumentId(999), description=""))
    assert room.client.stats.by_route == {"PATCH files": 4}
    room.sandbox.faults(dialect={"null_clears_description": False, "empty_text_clears": False})
    with pytest.raises(Invalid, match="description"):
        await room.changes.update_file(room.file_id, FileChange(description=""))


@pytest.mark.parametrize("shape", ["errors", "message", "error"])
async def test_a_taken_name_in_every_shape(room: Room, shape: str) -> None:
    room.sandbox.faults(dialect={"error_shape": shape})
    with pytest.raises(NameTaken, match="the name is taken there"):
        await room.changes.create_folder(None, "Inbox")
    with pytest.raises(NameTaken):
        await room.changes.update_folder(room.folder_id, FolderChange(name="plan.txt"))
    uuid = await uploaded(room.client, b"x")
    with pytest.raises(NameTaken):
        await room.changes.create_file(None, "plan.txt", uuid)
    assert room.client.stats.by_route == {
        "POST folders": 1,
        "PATCH folders": 1,
        "POST uploads": 1,
        "POST files": 1,
    }
    # A refused name has not used the upload up.
    assert (await room.changes.create_file(None, "plan 2.txt", uuid)).name == "plan 2.txt"


@pytest.mark.parametrize("shape", ["errors", "message", "error"])
async def test_an_upload_that_cannot_be_used_in_every_shape(room: Room, shape: str) -> None:
    room.sandbox.faults(dialect={"error_shape": shape})
    uuid = await uploaded(room.client, b"x")
    await room.changes.create_file(None, "a.txt", uuid)
    for wrong in (uuid, "0" * 26):
        with pytest.raises(UploadRefused):
            await room.changes.create_file(None, "b.txt", wrong)
        with pytest.raises(UploadRefused):
            await room.changes.update_file(room.file_id, FileChange(upload_uuid=wrong))
    assert "b.txt" not in await room.children()


async def test_what_somebody_else_has_checked_out(room: Room) -> None:
    room.sandbox.act("check_out", id=room.file_id)
    attempts: list[Callable[[], Awaitable[Any]]] = [
        lambda: room.changes.update_file(room.file_id, FileChange(name="x.txt")),
        lambda: room.changes.check_out(room.file_id, int(time.time()) + 900),
        lambda: room.changes.delete_file(room.file_id),
    ]
    for attempt in attempts:
        with pytest.raises(CheckedOut) as refused:
            await attempt()
        file = refused.value.file
        assert file is not None
        assert (file.id, file.checked_out_by is not None) == (room.file_id, True)
        assert file.checked_out_by is not None
        assert refused.value.holder == file.checked_out_by.name != ""
        assert isinstance(refused.value, Conflict)
        assert not refused.value.passing
    assert room.client.stats.by_route == {"PATCH files": 2, "DELETE files": 1}
    room.sandbox.act("check_in", id=room.file_id)
    await room.changes.delete_file(room.file_id)


async def test_what_is_not_permitted(room: Room) -> None:
    room.sandbox.act("read_only", id=room.file_id)
    with pytest.raises(Forbidden):
        await room.changes.update_file(room.file_id, FileChange(name="x.txt"))
    room.sandbox.act("membership", user="first", level="read")
    with pytest.raises(Forbidden):
        await room.changes.create_folder(None, "New")
    with pytest.raises(Forbidden):
        await room.changes.delete_folder(room.folder_id)
    assert sum(room.client.stats.by_route.values()) == 3


async def test_nothing_to_change_asks_nobody(room: Room) -> None:
    with pytest.raises(ValueError, match="nothing"):
        await room.changes.update_file(room.file_id, FileChange())
    with pytest.raises(ValueError, match="finite"):
        await room.changes.update_file(room.file_id, FileChange(custom_fields={1: float("nan")}))
    with pytest.raises(ValueError, match="checked out"):
        await room.changes.create_file(None, "a", "uuid", FileChange(checked_out_until_s=5))
    assert room.client.stats.by_route == {}


# --- what is lost on the way ---


async def _create_folder(room: Room) -> bool:
    await room.changes.create_folder(None, "New")
    return True


async def _rename_folder(room: Room) -> bool:
    await room.changes.update_folder(room.folder_id, FolderChange(name="New"))
    return True


async def _rename_file(room: Room) -> bool:
    await room.changes.update_file(room.file_id, FileChange(name="New"))
    return True


async def _delete_folder(room: Room) -> bool:
    await room.changes.delete_folder(room.folder_id)
    return True


async def _done(room: Room, deed: Deed) -> bool:
    children = await room.children()
    return "Inbox" not in children if deed is _delete_folder else "New" in children


DEEDS: dict[Deed, str] = {
    _create_folder: "POST */folders",
    _rename_folder: "PATCH */folders/{id}",
    _rename_file: "PATCH */files/{id}",
    _delete_folder: "DELETE */folders/{id}",
}


@pytest.mark.parametrize("rule", UNANSWERED, ids=shape_of)
@pytest.mark.parametrize("deed", DEEDS)
async def test_a_lost_answer_is_unanswered_and_not_repeated(
    room: Room, deed: Deed, rule: dict[str, Any]
) -> None:
    room.sandbox.faults(rules=[{**rule, "route": DEEDS[deed]}])
    with trio.fail_after(10), pytest.raises(Unanswered, match="may or may not have been done") as lost:
        await deed(room)
    assert lost.value.passing
    assert sum(room.client.stats.by_route.values()) == 1
    room.sandbox.faults(clear=True)
    assert await _done(room, deed)


@pytest.mark.parametrize("rule", NOT_UNDERSTOOD, ids=shape_of)
async def test_an_answer_that_is_not_understood_is_unanswered(room: Room, rule: dict[str, Any]) -> None:
    room.sandbox.faults(rules=[{**rule, "route": DEEDS[_rename_file]}])
    with pytest.raises(Unanswered):
        await _rename_file(room)
    assert room.client.stats.by_route == {"PATCH files": 1}
    assert await _done(room, _rename_file)
    room.sandbox.forget_violations()


async def test_a_delete_is_done_whatever_its_answer_says_besides(room: Room) -> None:
    room.sandbox.faults(rules=[{"kind": "not_json", "route": "DELETE *"}], dialect={"delete_status": 200})
    await room.changes.delete_folder(room.folder_id)
    await room.changes.delete_file(room.file_id)
    room.sandbox.forget_violations()


@pytest.mark.parametrize(
    "rule", [{"kind": "drop"}, {"kind": "silence"}, {"kind": "error", "status": 500}], ids=shape_of
)
async def test_what_got_lost_on_the_way_there_is_unanswered_too(room: Room, rule: dict[str, Any]) -> None:
    room.sandbox.faults(rules=[{**rule, "route": "POST */folders", "count": 1}])
    with pytest.raises(Unanswered):
        await _create_folder(room)
    assert not await _done(room, _create_folder)
    await _create_folder(room)
    assert room.client.stats.by_route["POST folders"] == 2


@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        (_create_folder, {"status": 401}),
        (_create_folder, {"status": 503, "retry_after": 1}),
        (_rename_file, {"status": 401}),
        (_rename_file, {"status": 429, "retry_after": 1}),
        (_delete_folder, {"status": 401}),
        (_delete_folder, {"status": 503, "retry_after": 1}),
    ],
)
async def test_what_certainly_was_not_done_is_repeated(room: Room, deed: Deed, rule: dict[str, Any]) -> None:
    room.sandbox.faults(rules=[{"kind": "error", "count": 1, "route": DEEDS[deed], **rule}])
    await deed(room)
    assert sum(room.client.stats.by_route.values()) == 2
    assert await _done(room, deed)
    assert room.client.stats.throttled == (rule["status"] == 429)


async def test_an_expired_token_is_renewed_once(room: Room) -> None:
    room.sandbox.faults(expire_tokens=True)
    await _create_folder(room)
    assert room.client.stats.by_route == {"POST folders": 2}
    room.sandbox.faults(rules=[{"kind": "error", "status": 401, "route": "PATCH *"}])
    with pytest.raises(ProcoreError) as refused:
        await _rename_file(room)
    assert refused.value.status == 401
    assert room.client.stats.by_route["PATCH files"] == 2


async def test_a_limit_that_stays_is_not_unanswered(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox, patience_s=1.0) as client:
        room = Room(sandbox, client)
        sandbox.faults(rules=[{"kind": "error", "status": 429, "route": "POST *"}])
        with pytest.raises(RateLimited):
            await _create_folder(room)
        sandbox.faults(
            clear=True, rules=[{"kind": "error", "status": 503, "retry_after": 0, "route": "PATCH *"}]
        )
        with pytest.raises(Busy) as busy:
            await _rename_file(room)
        assert isinstance(busy.value, Unavailable)
        assert not isinstance(busy.value, Unanswered)


async def test_no_connection_means_that_nothing_was_sent(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        await client.me()
        lost = {"api_url": "http://127.0.0.1:1", "patience_s": 2.0}
    async with client_of(sandbox, CountingLimiter(), **lost) as client:
        with trio.fail_after(10), pytest.raises(Unreachable, match="cannot be reached") as failure:
            await ProjectChanges(client).create_folder(None, "New")
        assert not isinstance(failure.value, Unanswered)
        assert client.stats.total > 1
        assert isinstance(client.limiter, CountingLimiter)
        assert client.limiter.balance == 0


async def test_a_change_that_is_left_gives_its_call_back(sandbox: SandboxHandle) -> None:
    limiter = CountingLimiter()
    async with client_of(sandbox, limiter) as client:
        room = Room(sandbox, client)
        sandbox.faults(rules=[{"kind": "silence", "route": "PATCH *"}])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_rename_file, room)
            await sandbox.silent_calls()
            nursery.cancel_scope.cancel()
        sandbox.release()
        await room.changes.create_folder(None, "New", priority=NOW)
    assert limiter.balance == 0
    assert limiter.priorities == [Priority.WRITING, NOW]


async def test_changes_keep_within_the_limits(
    start_sandbox: Callable[..., SandboxHandle],
) -> None:
    sandbox = await trio.to_thread.run_sync(start_sandbox, "--spike", "8")
    async with client_of(sandbox) as client:
        changes = ProjectChanges(client)
        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(changes.create_folder, None, f"Folder {number}")
        assert client.stats.by_route == {"POST folders": 9}
        assert client.stats.throttled == 0


# --- what a delete must know first ---


@pytest.mark.parametrize("descendants", ["deleted", "living", "hidden"])
@pytest.mark.parametrize("bin_in_list", [False, True])
@pytest.mark.parametrize("cap", [None, 2])
async def test_below_a_folder_is_what_lives_there(
    room: Room, descendants: str, bin_in_list: bool, cap: int | None
) -> None:
    room.sandbox.faults(
        dialect={"descendants": descendants, "bin_in_list": bin_in_list},
        settings={"per_page_cap": cap},
    )
    expected = set()
    for path in ("/Inbox", "/Inbox/Old", "/Inbox/New"):
        if path != "/Inbox":
            expected.add(path.rpartition("/")[2])
            room.sandbox.act("create_folder", path="/Inbox", name=path.rpartition("/")[2])
        for name in ("a.txt", "b.txt"):
            room.sandbox.act("create_file", path=path, name=f"{path[-3:]} {name}", text="x")
            expected.add(f"{path[-3:]} {name}")
    assert {document.name for document in await room.client.below(room.folder_id)} == expected
    room.sandbox.act("delete", path="/Inbox/Old")
    room.sandbox.act("delete", path="/Inbox/New/New a.txt")
    expected -= {"Old", "Old a.txt", "Old b.txt", "New a.txt"}
    assert {document.name for document in await room.client.below(room.folder_id)} == expected


async def test_below_is_everything_or_an_error(room: Room) -> None:
    made = room.sandbox.act("create_file", path="/Inbox", name="a.txt", text="x")
    room.sandbox.faults(malformed=[{"id": made["id"], "set": {"name": {"$absent": True}}}])
    with pytest.raises(ProcoreError, match="cannot be understood"):
        await room.client.below(room.folder_id)
    room.sandbox.forget_violations()


async def test_below_a_folder_that_changes_while_it_is_listed(room: Room) -> None:
    """What moved up to a page that was read already must not be missed."""
    names = [f"{number}.txt" for number in range(5)]
    made = [room.sandbox.act("create_file", path="/Inbox", name=name, text="x")["id"] for name in names]
    room.sandbox.faults(
        settings={"per_page_cap": 2},
        rules=[{"kind": "silence", "route": "GET */documents", "match": "page=2&", "count": 1}],
    )
    found: list[Document] = []

    async def list_it() -> None:
        found.extend(await room.client.below(room.folder_id))

    room.client.settings = msgspec.structs.replace(room.client.settings, silence_s=30.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(list_it)
        await room.sandbox.silent_calls()
        room.sandbox.act("delete", id=made[0])
        room.sandbox.release()
    assert sorted(document.name for document in found) == names[1:]
    assert room.client.stats.by_route == {"GET documents": 6}


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_every_version_in_the_order_of_their_numbers(room: Room, order: str) -> None:
    room.sandbox.faults(dialect={"versions_order": order})
    for text in ("second!", "third"):
        room.sandbox.act("put", id=room.file_id, text=text)
    versions = await room.client.versions(room.file_id, priority=NOW)
    assert [(version.number, version.size_bytes) for version in versions] == [(1, 5), (2, 7), (3, 5)]
    assert all(version.created_by is not None and version.created_by.name for version in versions)
    assert room.client.stats.by_route == {"GET files": 1}
