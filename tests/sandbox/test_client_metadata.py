"""Tags and custom fields over HTTP, in pages of any size."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from procorefs.procore.api.client import Client
from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.procore.errors import Forbidden, Invalid, Malformed, NotFound, Unanswered
from procorefs.procore.wire.models import DocumentId, EntryId, FieldId, LovEntry, Tag, TagId
from tests.support.api_client import client_of, put_file
from tests.support.sandbox import SandboxHandle

TAGS = "*/document_custom_tags*"


class ClientAndMetadata:
    """A client, its metadata, and a file in the sandbox."""

    def __init__(self, sandbox: SandboxHandle, client: Client) -> None:
        self.sandbox = sandbox
        self.client = client
        self.metadata = ProjectMetadata(client)
        self.file_id = put_file(sandbox, b"x", "plan.txt")


@pytest.fixture
async def set_up(sandbox: SandboxHandle) -> AsyncIterator[ClientAndMetadata]:
    async with client_of(sandbox) as client:
        made = ClientAndMetadata(sandbox, client)
        await client.me()
        client.stats.by_route.clear()
        yield made


async def test_a_tag_is_put_on_found_and_taken_off(set_up: ClientAndMetadata) -> None:
    metadata = set_up.metadata
    assert await metadata.document_tags(set_up.file_id) == []
    urgent = await metadata.add_tag(set_up.file_id, "urgent, ünd mehr")
    assert urgent.name == "urgent, ünd mehr"
    other_id = put_file(set_up.sandbox, b"y", "other.txt")
    assert await metadata.add_tag(other_id, "urgent, ünd mehr") == urgent
    late = await metadata.add_tag(set_up.file_id, "late")
    assert sorted(tag.name for tag in await metadata.document_tags(set_up.file_id)) == ["late", urgent.name]
    assert {urgent, late} <= set(await metadata.project_tags())
    assert await metadata.tagged(urgent.id) == {set_up.file_id, other_id}
    await metadata.remove_tag(set_up.file_id, urgent.id)
    assert await metadata.document_tags(set_up.file_id) == [late]
    with pytest.raises(NotFound):
        await metadata.remove_tag(set_up.file_id, urgent.id)
    assert set_up.client.stats.by_route == {
        "GET document_custom_tags": 4,
        "POST document_custom_tags": 3,
        "DELETE document_custom_tags": 2,
        "GET documents": 1,
    }


async def test_tags_of_a_folder_and_200_as_an_answer_to_delete(set_up: ClientAndMetadata) -> None:
    set_up.sandbox.faults(dialect={"delete_status": 200})
    folder = set_up.sandbox.act("create_folder", path="/", name="Inbox")
    folder_id = DocumentId(int(folder["id"]))
    tag = await set_up.metadata.add_tag(folder_id, "urgent")
    assert await set_up.metadata.tagged(tag.id) == {folder_id}
    set_up.sandbox.faults(rules=[{"kind": "cut", "after_bytes": 2, "route": f"DELETE {TAGS}"}])
    await set_up.metadata.remove_tag(folder_id, tag.id)  # the status says it, the lost body means nothing
    assert await set_up.metadata.document_tags(folder_id) == []


async def test_many_tags_come_in_pages(set_up: ClientAndMetadata) -> None:
    for number in range(7):
        set_up.sandbox.act("tag", id=set_up.file_id, tag=f"tag {number}")
    set_up.sandbox.faults(settings={"per_page_cap": 3})
    tags = await set_up.metadata.document_tags(set_up.file_id)
    assert [tag.name for tag in tags] == [f"tag {number}" for number in range(7)]
    assert set_up.client.stats.by_route == {"GET document_custom_tags": 3}


async def test_what_lies_in_the_bin_bears_no_tag(set_up: ClientAndMetadata) -> None:
    set_up.sandbox.faults(dialect={"bin_in_list": True}, settings={"per_page_cap": 2})
    ids = [put_file(set_up.sandbox, b"x", f"{number}.txt") for number in range(5)]
    for file_id in ids:
        set_up.sandbox.act("tag", id=file_id, tag="urgent")
    set_up.sandbox.act("delete", id=ids[0])
    (tag,) = await set_up.metadata.document_tags(ids[1])
    assert await set_up.metadata.tagged(tag.id) == set(ids[1:])
    assert await set_up.metadata.tagged(TagId(1)) == set()


async def test_tagging_is_a_change_like_others(set_up: ClientAndMetadata) -> None:
    set_up.sandbox.faults(rules=[{"kind": "drop", "when": "after", "route": f"POST {TAGS}", "count": 1}])
    with pytest.raises(Unanswered):
        await set_up.metadata.add_tag(set_up.file_id, "urgent")
    assert [tag.name for tag in await set_up.metadata.document_tags(set_up.file_id)] == ["urgent"]
    with pytest.raises(Invalid):
        await set_up.metadata.add_tag(set_up.file_id, " ")
    with pytest.raises(NotFound):
        await set_up.metadata.add_tag(DocumentId(999), "urgent")
    set_up.sandbox.act("membership", user="first", level="read")
    with pytest.raises(Forbidden):
        await set_up.metadata.add_tag(set_up.file_id, "other")


@pytest.mark.parametrize("cap", [None, 2])
async def test_the_fields_and_their_choices(set_up: ClientAndMetadata, cap: int | None) -> None:
    set_up.sandbox.faults(settings={"per_page_cap": cap})
    fields = await set_up.metadata.custom_field_definitions()
    assert {field.data_type for field in fields} >= {
        "string",
        "decimal",
        "boolean",
        "lov_entry",
        "lov_entries",
    }
    assert len({field.id for field in fields}) == len(fields)
    assert len({field.label for field in fields}) < len(fields)  # two tools' fields have one label
    several = next(field for field in fields if field.data_type == "lov_entries")
    entries = await set_up.metadata.lov_entries(several.id)
    assert [label for _, label in entries] == ["Concrete", "Masonry", "Steel"]
    assert len({entry.id for entry in entries}) == 3
    with pytest.raises(NotFound):
        await set_up.metadata.lov_entries(FieldId(999))


BROKEN: list[dict[str, Any] | int] = [{}, {"id": 0, "name": "x"}, {"id": 1}, {"id": 1, "name": 5}, 7]


async def test_broken_items_do_not_break_a_list(set_up: ClientAndMetadata) -> None:
    good = {"id": "12", "name": "good", "label": "good", "custom_field_definition_id": 5}
    body = str([*BROKEN, good]).replace("'", '"')
    set_up.sandbox.faults(
        rules=[
            {"kind": "wrong_type", "route": f"GET {route}", "body": body}
            for route in (TAGS, "*custom_field*")
        ]
    )
    assert await set_up.metadata.project_tags() == [Tag(TagId(12), "good")]
    assert [field.id for field in await set_up.metadata.custom_field_definitions()] == [5]
    assert await set_up.metadata.lov_entries(FieldId(301)) == [LovEntry(EntryId(12), "good")]
    set_up.sandbox.forget_violations()


async def test_a_list_that_is_none_is_one_clear_sentence(set_up: ClientAndMetadata) -> None:
    set_up.sandbox.faults(rules=[{"kind": "wrong_type", "route": f"GET {TAGS}", "body": '"x"'}])
    with pytest.raises(Malformed, match="Could not list the project's tags: "):
        await set_up.metadata.project_tags()
    set_up.sandbox.forget_violations()
