"""Which handler each attribute has, and what can be done with it."""

from typing import Any, cast

import pytest

from procorefs.xattr.attribute_names import ALIASES, CUSTOM, PRIVATE, PROCORE, READ_ONLY, TRACKED
from procorefs.xattr.handlers import Attribute, CustomField, Fact, Flag, Handlers

NOTHING = cast(Any, None)
"""Handlers are only looked up here, and ask nothing."""


@pytest.fixture
def handlers() -> Handlers:
    return Handlers(NOTHING, NOTHING, NOTHING, NOTHING)


@pytest.mark.parametrize("name", sorted(READ_ONLY))
def test_facts_can_only_be_read(handlers: Handlers, name: str) -> None:
    handler = handlers.handler_of(name)
    assert isinstance(handler, Fact)
    assert (handler.is_settable, handler.is_removable) == (False, False)


@pytest.mark.parametrize("name", [PRIVATE, TRACKED])
def test_flags_can_be_set_and_not_removed(handlers: Handlers, name: str) -> None:
    handler = handlers.handler_of(name)
    assert isinstance(handler, Flag)
    assert (handler.is_settable, handler.is_removable) == (True, False)


@pytest.mark.parametrize("name", [*ALIASES, CUSTOM + "Area"])
def test_all_others_can_be_set_and_removed(handlers: Handlers, name: str) -> None:
    handler = handlers.handler_of(name)
    assert handler.name == name
    assert (handler.is_settable, handler.is_removable) == (True, True)


def test_both_names_of_one_value_have_the_same_handler(handlers: Handlers) -> None:
    for name, alias in ALIASES.items():
        assert type(handlers.handler_of(name)) is type(handlers.handler_of(alias))


def test_labels_have_a_handler_each_and_unknown_names_none(handlers: Handlers) -> None:
    assert isinstance(handlers.handler_of(CUSTOM + "tags"), CustomField)
    assert type(handlers.handler_of(PROCORE + "unknown")) is Attribute
