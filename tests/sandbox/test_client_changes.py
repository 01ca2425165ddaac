"""The calls that change a project: done once, refused with a reason, or honestly unanswered."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from procorefs.limiter import Priority
from procorefs.procore.api.changes import FieldValue, FileChange, FolderChange, ProjectChanges
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
from tests.support.api_client import NOW, CountingLimiter, client_of, put_file, uploaded
from tests.support.sandbox import SandboxHandle

Deed = Callable[["ClientAndChanges"], Awaitable[Any]]

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


class ClientAndChanges:
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


# --- what is lost on the way ---


async def _create_folder(set_up: ClientAndChanges) -> bool:
    await set_up.changes.create_folder(None, "New")
    return True


async def _rename_folder(set_up: ClientAndChanges) -> bool:
    await set_up.changes.update_folder(set_up.folder_id, FolderChange(name="New"))
    return True


async def _rename_file(set_up: ClientAndChanges) -> bool:
    await set_up.changes.update_file(set_up.file_id, FileChange(name="New"))
    return True


async def _delete_folder(set_up: ClientAndChanges) -> bool:
    await set_up.changes.delete_folder(set_up.folder_id)
    return True


async def _done(set_up: ClientAndChanges, deed: Deed) -> bool:
    children = await set_up.children()
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
    set_up: ClientAndChanges, deed: Deed, rule: dict[str, Any]
) -> None:
    set_up.sandbox.faults(rules=[{**rule, "route": DEEDS[deed]}])
    with trio.fail_after(10), pytest.raises(Unanswered, match="may or may not have been done") as lost:
        await deed(set_up)
    assert lost.value.passing
    assert sum(set_up.client.stats.by_route.values()) == 1
    set_up.sandbox.faults(clear=True)
    assert await _done(set_up, deed)


@pytest.mark.parametrize("rule", NOT_UNDERSTOOD, ids=shape_of)
async def test_an_answer_that_is_not_understood_is_unanswered(
    set_up: ClientAndChanges, rule: dict[str, Any]
) -> None:
    set_up.sandbox.faults(rules=[{**rule, "route": DEEDS[_rename_file]}])
    with pytest.raises(Unanswered):
        await _rename_file(set_up)
    assert set_up.client.stats.by_route == {"PATCH files": 1}
    assert await _done(set_up, _rename_file)
    set_up.sandbox.forget_violations()


async def test_a_delete_is_done_whatever_its_answer_says_besides(set_up: ClientAndChanges) -> None:
    set_up.sandbox.faults(rules=[{"kind": "not_json", "route": "DELETE *"}], dialect={"delete_status": 200})
    await set_up.changes.delete_folder(set_up.folder_id)
    await set_up.changes.delete_file(set_up.file_id)
    assert not {set_up.folder_id, set_up.file_id} & {child.id for child in (await set_up.children()).values()}
    set_up.sandbox.forget_violations()


@pytest.mark.parametrize(
    "rule", [{"kind": "drop"}, {"kind": "silence"}, {"kind": "error", "status": 500}], ids=shape_of
)
async def test_what_got_lost_on_the_way_there_is_unanswered_too(
    set_up: ClientAndChanges, rule: dict[str, Any]
) -> None:
    set_up.sandbox.faults(rules=[{**rule, "route": "POST */folders", "count": 1}])
    with pytest.raises(Unanswered):
        await _create_folder(set_up)
    assert not await _done(set_up, _create_folder)
    await _create_folder(set_up)
    assert set_up.client.stats.by_route["POST folders"] == 2


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
async def test_what_certainly_was_not_done_is_repeated(
    set_up: ClientAndChanges, deed: Deed, rule: dict[str, Any]
) -> None:
    set_up.sandbox.faults(rules=[{"kind": "error", "count": 1, "route": DEEDS[deed], **rule}])
    await deed(set_up)
    assert sum(set_up.client.stats.by_route.values()) == 2
    assert await _done(set_up, deed)
    assert set_up.client.stats.throttled == (rule["status"] == 429)


async def test_an_expired_token_is_renewed_once(set_up: ClientAndChanges) -> None:
    set_up.sandbox.faults(expire_tokens=True)
    await _create_folder(set_up)
    assert set_up.client.stats.by_route == {"POST folders": 2}
    set_up.sandbox.faults(rules=[{"kind": "error", "status": 401, "route": "PATCH *"}])
    with pytest.raises(ProcoreError) as refused:
        await _rename_file(set_up)
    assert refused.value.status == 401
    assert set_up.client.stats.by_route["PATCH files"] == 2


async def test_a_limit_that_stays_is_not_unanswered(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox, retry_for_s=1.0) as client:
        set_up = ClientAndChanges(sandbox, client)
        sandbox.faults(rules=[{"kind": "error", "status": 429, "route": "POST *"}])
        with pytest.raises(RateLimited):
            await _create_folder(set_up)
        sandbox.faults(
            clear=True, rules=[{"kind": "error", "status": 503, "retry_after": 0, "route": "PATCH *"}]
        )
        with pytest.raises(Busy) as busy:
            await _rename_file(set_up)
        assert isinstance(busy.value, Unavailable)
        assert not isinstance(busy.value, Unanswered)


async def test_no_connection_means_that_nothing_was_sent(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        await client.me()
        lost = {"api_url": "http://127.0.0.1:1", "retry_for_s": 2.0}
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
        set_up = ClientAndChanges(sandbox, client)
        sandbox.faults(rules=[{"kind": "silence", "route": "PATCH *"}])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_rename_file, set_up)
            await sandbox.silent_calls()
            nursery.cancel_scope.cancel()
        sandbox.release()
        await set_up.changes.create_folder(None, "New", priority=NOW)
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
