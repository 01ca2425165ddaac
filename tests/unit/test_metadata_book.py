"""Custom fields: asked for when somebody needs them, remembered over mounts, asked for anew when they are old."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from procorefs.procore.errors import Forbidden, Unreachable
from procorefs.procore.wire.models import EntryId, FieldDefinition, FieldId, LovEntry
from procorefs.tree.tree_store import TreeStore
from procorefs.xattr.custom_field_cache import ASK_AGAIN_S, OLD_S, CustomFieldCache


class Company:
    """Procore's side, and the wall clock."""

    def __init__(self) -> None:
        self.fields = [
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
        return list(self.fields)

    async def lov_entries(self, _field_id: FieldId) -> list[LovEntry]:
        self.calls["choices"] += 1
        await trio.lowlevel.checkpoint()
        return list(self.choices)


@asynccontextmanager
async def book_of(company: Company, path: Path) -> AsyncIterator[CustomFieldCache]:
    store = TreeStore(path)
    book = CustomFieldCache(store, company, unix_time_s=lambda: company.now_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(book.run)
        yield book
        nursery.cancel_scope.cancel()
    store.close()


async def test_it_is_remembered_over_mounts(tmp_path: Path) -> None:
    company = Company()
    async with book_of(company, tmp_path / "tree") as book:
        field = await book.look_up("Trade")
        assert field is not None
        assert await book.choices_of(field) == company.choices
        assert book.label(1) == "Area"
    async with book_of(company, tmp_path / "tree") as book:
        assert await book.look_up("Trade") == field
        assert await book.choices_of(field) == company.choices
    assert company.calls == {"fields": 1, "choices": 1}


async def test_what_is_old_is_served_and_asked_for_again(tmp_path: Path) -> None:
    company = Company()
    async with book_of(company, tmp_path / "tree") as book:
        field = await book.look_up("Trade")
        assert field is not None
        await book.choices_of(field)
        company.now_s += OLD_S + 1
        company.choices.append(LovEntry(EntryId(12), "Wood"))
        await book.opened()
        assert len(await book.choices_of(field)) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert len(await book.choices_of(field)) == 2
    assert company.calls == {"fields": 2, "choices": 2}


async def test_a_new_label_is_worth_a_call_now_and_then(tmp_path: Path) -> None:
    company = Company()
    async with book_of(company, tmp_path / "tree") as book:
        assert await book.look_up("New") is None
        for _ in range(10):
            assert await book.look_up("New") is None
        assert company.calls["fields"] == 1
        company.fields.append(FieldDefinition(FieldId(3), "New", "string"))
        company.now_s += ASK_AGAIN_S + 1
        assert (await book.look_up("New")) is not None
        assert company.calls["fields"] == 2


async def test_a_new_choice_is_worth_a_call_now_and_then(tmp_path: Path) -> None:
    company = Company()
    async with book_of(company, tmp_path / "tree") as book:
        field = await book.look_up("Trade")
        assert field is not None
        await book.choices_of(field)
        assert len(await book.ask_choices(field)) == 1
        assert company.calls["choices"] == 1
        company.now_s += ASK_AGAIN_S + 1
        company.choices.append(LovEntry(EntryId(12), "Wood"))
        assert len(await book.ask_choices(field)) == 2


async def test_fields_without_choices_cost_nothing(tmp_path: Path) -> None:
    company = Company()
    async with book_of(company, tmp_path / "tree") as book:
        area = await book.look_up("Area")
        assert area is not None
        assert await book.choices_of(area) == []
    assert not company.calls["choices"]


async def test_without_permission_there_are_no_labels(tmp_path: Path) -> None:
    company = Company()
    company.fails = Forbidden("no")
    async with book_of(company, tmp_path / "tree") as book:
        assert await book.look_up("Area") is None
        assert book.label(1) is None


async def test_without_procore_nobody_pretends(tmp_path: Path) -> None:
    company = Company()
    company.fails = Unreachable("no network")
    async with book_of(company, tmp_path / "tree") as book:
        with pytest.raises(Unreachable):
            await book.opened()
        company.fails = None
        assert await book.look_up("Area") is not None


async def test_a_memory_of_another_version_is_none(tmp_path: Path) -> None:
    company = Company()
    store = TreeStore(tmp_path / "tree")
    with store.transaction():
        store.remember("custom_fields", '{"definitions": 5}')
    store.close()
    async with book_of(company, tmp_path / "tree") as book:
        assert await book.look_up("Area") is not None
