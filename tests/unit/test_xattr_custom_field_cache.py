"""Custom fields: asked for when they are needed, remembered over mounts, asked for again when they are old."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.procore.errors import Forbidden, Unreachable
from procorefs.procore.wire.models import EntryId, FieldDefinition, FieldId, LovEntry
from procorefs.tree.tree_store import TreeStore
from procorefs.xattr.custom_field_cache import ASK_AGAIN_S, OLD_S, CustomFieldCache


class Company(ProjectMetadata):
    """Procore's side, and the wall clock."""

    def __init__(self) -> None:
        self.definitions = [
            FieldDefinition(FieldId(1), "Area", "decimal"),
            FieldDefinition(FieldId(2), "Trade", "lov_entry"),
        ]
        self.choices = [LovEntry(EntryId(11), "Steel")]
        self.calls: Counter[str] = Counter()
        self.fails: Exception | None = None
        self.now_s = 1e9

    async def custom_field_definitions(self) -> list[FieldDefinition]:
        self.calls["fields"] += 1
        await trio.lowlevel.checkpoint()
        if self.fails is not None:
            raise self.fails
        return list(self.definitions)

    async def lov_entries(self, _field_id: FieldId) -> list[LovEntry]:
        self.calls["choices"] += 1
        await trio.lowlevel.checkpoint()
        return list(self.choices)


@asynccontextmanager
async def fields_of(company: Company, path: Path) -> AsyncIterator[CustomFieldCache]:
    store = TreeStore(path)
    fields = CustomFieldCache(store, company, unix_time_s=lambda: company.now_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(fields.run)
        yield fields
        nursery.cancel_scope.cancel()
    store.close()


async def test_it_is_remembered_over_mounts(tmp_path: Path) -> None:
    company = Company()
    async with fields_of(company, tmp_path / "tree") as fields:
        field = await fields.look_up("Trade")
        assert field is not None
        assert await fields.choices_of(field) == company.choices
        assert fields.label(1) == "Area"
    async with fields_of(company, tmp_path / "tree") as fields:
        assert await fields.look_up("Trade") == field
        assert await fields.choices_of(field) == company.choices
    assert company.calls == {"fields": 1, "choices": 1}


async def test_what_is_old_is_served_and_asked_for_again(tmp_path: Path) -> None:
    company = Company()
    async with fields_of(company, tmp_path / "tree") as fields:
        field = await fields.look_up("Trade")
        assert field is not None
        await fields.choices_of(field)
        company.now_s += OLD_S + 1
        company.choices.append(LovEntry(EntryId(12), "Wood"))
        await fields.load()
        assert len(await fields.choices_of(field)) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert len(await fields.choices_of(field)) == 2
    assert company.calls == {"fields": 2, "choices": 2}


async def test_a_new_label_is_worth_a_call_now_and_then(tmp_path: Path) -> None:
    company = Company()
    async with fields_of(company, tmp_path / "tree") as fields:
        assert await fields.look_up("New") is None
        for _ in range(10):
            assert await fields.look_up("New") is None
        assert company.calls["fields"] == 1
        company.definitions.append(FieldDefinition(FieldId(3), "New", "string"))
        company.now_s += ASK_AGAIN_S + 1
        assert (await fields.look_up("New")) is not None
        assert company.calls["fields"] == 2


async def test_a_new_choice_is_worth_a_call_now_and_then(tmp_path: Path) -> None:
    company = Company()
    async with fields_of(company, tmp_path / "tree") as fields:
        field = await fields.look_up("Trade")
        assert field is not None
        await fields.choices_of(field)
        assert len(await fields.ask_choices(field)) == 1
        assert company.calls["choices"] == 1
        company.now_s += ASK_AGAIN_S + 1
        company.choices.append(LovEntry(EntryId(12), "Wood"))
        assert len(await fields.ask_choices(field)) == 2


async def test_fields_without_choices_cost_nothing(tmp_path: Path) -> None:
    company = Company()
    async with fields_of(company, tmp_path / "tree") as fields:
        area = await fields.look_up("Area")
        assert area is not None
        assert await fields.choices_of(area) == []
    assert not company.calls["choices"]


async def test_without_permission_there_are_no_labels(tmp_path: Path) -> None:
    company = Company()
    company.fails = Forbidden("no")
    async with fields_of(company, tmp_path / "tree") as fields:
        assert await fields.look_up("Area") is None
        assert fields.label(1) is None


async def test_without_procore_nobody_pretends(tmp_path: Path) -> None:
    company = Company()
    company.fails = Unreachable("no network")
    async with fields_of(company, tmp_path / "tree") as fields:
        with pytest.raises(Unreachable):
            await fields.load()
        company.fails = None
        assert await fields.look_up("Area") is not None


async def test_a_memory_of_another_version_is_none(tmp_path: Path) -> None:
    company = Company()
    store = TreeStore(tmp_path / "tree")
    with store.transaction():
        store.remember("custom_fields", '{"definitions": 5}')
    store.close()
    async with fields_of(company, tmp_path / "tree") as fields:
        assert await fields.look_up("Area") is not None
