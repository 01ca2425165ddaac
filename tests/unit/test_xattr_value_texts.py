"""Tags, truths and custom fields as text: whatever Procore has comes back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procorefs.procore.wire.field_values import entry_labels, same_value, writable_form
from procorefs.procore.wire.models import EntryId, FieldDefinition, FieldId, LovEntry
from procorefs.xattr.attribute_names import BadValue, NotSettable
from procorefs.xattr.custom_fields import (
    LONGEST_LABEL_BYTES,
    field_id_of,
    field_key,
    labels,
    parsed_value,
    shown_value,
)
from procorefs.xattr.value_texts import (
    decoded,
    shown_truth,
    tag_lines,
    tag_list,
    tags_of_lines,
    tags_of_list,
    truth,
)

TAG = st.text(st.sampled_from("aA, \n\r\0\t~ü1"), min_size=1, max_size=6) | st.text(min_size=1, max_size=8)
TAGS = st.sets(TAG, max_size=6)


@given(TAGS)
def test_tags_in_lines_come_back(tags: set[str]) -> None:
    assert set(tags_of_lines(tag_lines(tags), tags)) == tags


@given(TAGS)
def test_tags_in_a_list_come_back(tags: set[str]) -> None:
    assert set(tags_of_list(tag_list(tags), tags)) == tags


@given(TAGS, st.text(max_size=30))
def test_any_text_is_tags_without_blanks_or_doubles(borne: set[str], text: str) -> None:
    for found in (tags_of_lines(text, borne), tags_of_list(text, borne)):
        assert len(found) == len(set(found))
        assert all(tag.strip() or tag in borne for tag in found)


def test_a_tag_with_a_comma_stays_one_when_another_joins_it() -> None:
    borne = ["as built, final", "east"]
    assert tag_list(borne) == "as built, final,east"
    assert set(tags_of_list("as built, final,east,new", borne)) == {"as built, final", "east", "new"}
    assert tags_of_list("as built, final", []) == ["as built", "final"]


def test_tags_are_shown_in_one_order() -> None:
    assert tag_lines(["b", "A", "a", "B"]) == tag_lines({"B", "b", "a", "A"}) == "A\na\nB\nb"


def test_text_must_be_text() -> None:
    assert decoded("Größe\n".encode()) == "Größe\n"
    for bad in (b"\xff", b"a\0b"):
        with pytest.raises(BadValue):
            decoded(bad)


@pytest.mark.parametrize("text", ["true", "YES", "1", "on", " True\n"])
def test_true(text: str) -> None:
    assert truth(text) is True


@pytest.mark.parametrize("text", ["", "maybe", "2", "truefalse"])
def test_neither_true_nor_false(text: str) -> None:
    with pytest.raises(BadValue):
        truth(text)


@given(st.booleans())
def test_truths_come_back(value: bool) -> None:
    assert truth(shown_truth(value)) is value


# Labels

LABEL = st.sampled_from(["Cost code", "X", "X ~5", "X ~7", "Größe" * 60, "a\0b", "a b"]) | st.text(
    min_size=1, max_size=300
)


@given(st.lists(LABEL, max_size=8))
def test_every_field_has_a_name_of_its_own_that_linux_takes(texts: list[str]) -> None:
    definitions = [FieldDefinition(FieldId(number), text, "string") for number, text in enumerate(texts, 5)]
    named = labels(definitions)
    assert sorted(d.id for d in named.values()) == sorted(d.id for d in definitions)
    assert all(0 < len(label.encode()) <= LONGEST_LABEL_BYTES and "\0" not in label for label in named)


def test_labels_that_occur_twice_get_their_ids() -> None:
    definitions = [
        FieldDefinition(FieldId(303), "Cost code", "string"),
        FieldDefinition(FieldId(306), "Cost code", "string"),
        FieldDefinition(FieldId(304), "Area m²", "decimal"),
    ]
    assert list(labels(definitions)) == ["Cost code ~303", "Cost code ~306", "Area m²"]


def test_fields_by_key() -> None:
    assert field_id_of(field_key(303)) == 303
    assert field_id_of("custom_field_x") is None


# Values

CHOICES = [
    LovEntry(EntryId(1), "Steel"),
    LovEntry(EntryId(2), "Twin"),
    LovEntry(EntryId(3), "Twin"),
    LovEntry(EntryId(4), " odd\nlabel "),
    LovEntry(EntryId(5), "Twin ~2"),
]
BY_ID = {int(entry.id): entry.label for entry in CHOICES}


@given(
    st.text(min_size=1, max_size=20).map(lambda v: ("string", v))
    | st.booleans().map(lambda v: ("boolean", v))
    | st.integers(-(10**15), 10**15).map(lambda v: ("decimal", v))
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda v: ("decimal", v))
    | st.sampled_from(sorted(BY_ID)).map(lambda v: ("lov_entry", v))
    | st.sets(st.sampled_from(sorted(BY_ID)), min_size=1).map(lambda v: ("lov_entries", sorted(v)))
)
def test_values_come_back(typed: tuple[str, object]) -> None:
    data_type, value = typed
    text = shown_value(data_type, value, BY_ID)  # type: ignore[arg-type]
    assert text
    assert same_value(parsed_value(data_type, text, CHOICES), value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data_type", "text", "value"),
    [
        ("decimal", "12.50", 12.5),
        ("decimal", "-0.1", -0.1),
        ("decimal", " 7\n", 7),
        ("boolean", "no", False),
        ("lov_entry", "Steel", 1),
        ("lov_entry", "Twin ~3", 3),
        ("lov_entries", "Twin ~2\nSteel\n", [2, 1]),
        ("string", "", None),
        ("lov_entries", "", None),
    ],
)
def test_what_people_write(data_type: str, text: str, value: object) -> None:
    assert parsed_value(data_type, text, CHOICES) == value


@pytest.mark.parametrize(
    ("data_type", "text"),
    [
        ("decimal", "twelve"),
        ("decimal", "nan"),
        ("decimal", "1e999"),
        ("decimal", "0.12345678901234567890123"),
        ("decimal", "1,5"),
        ("boolean", "maybe"),
        ("lov_entry", "Wood"),
        ("lov_entry", "Twin"),
        ("lov_entries", "Steel\nWood"),
    ],
)
def test_values_that_a_field_can_not_have(data_type: str, text: str) -> None:
    with pytest.raises(BadValue):
        parsed_value(data_type, text, CHOICES)


def test_a_type_that_is_not_known_can_not_be_written() -> None:
    with pytest.raises(NotSettable):
        parsed_value("login_information", "x", [])


@pytest.mark.parametrize(
    ("shown", "form"),
    [
        ({"data_type": "string", "value": "a"}, "a"),
        ({"data_type": "decimal", "value": "12.50"}, 12.5),
        ({"data_type": "decimal", "value": 3}, 3),
        ({"data_type": "boolean", "value": False}, False),
        ({"data_type": "lov_entry", "value": {"id": "401", "label": "A"}}, 401),
        ({"data_type": "lov_entries", "value": [{"id": 1, "label": "A"}, {"id": "2", "label": "B"}]}, [1, 2]),
        ({"data_type": "lov_entries", "value": []}, None),
        ({"data_type": "string", "value": None}, None),
        (None, None),
    ],
)
def test_what_procore_shows_as_it_is_written(shown: object, form: object) -> None:
    assert writable_form(shown) == form


@pytest.mark.parametrize(
    "shown",
    [
        {"data_type": "date", "value": "2026-01-01"},
        {"data_type": "lov_entry", "value": "A"},
        {"data_type": "decimal", "value": "x"},
        {"data_type": "string", "value": 5},
        {"value": "x"},
    ],
)
def test_what_can_not_be_said(shown: object) -> None:
    assert not same_value(writable_form(shown), None)
    assert writable_form(shown) is not None


def test_labels_of_what_is_shown() -> None:
    assert entry_labels({"data_type": "lov_entry", "value": {"id": "4", "label": "A"}}) == {4: "A"}
    assert entry_labels({"data_type": "lov_entries", "value": [{"id": 4, "label": "A"}, {"id": 5}]}) == {
        4: "A"
    }
    assert entry_labels(None) == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (True, 1, False),
        (1, 1.0, True),
        ([1, 2], [2, 1], True),
        ("", None, True),
        ([], None, True),
        (0, None, False),
    ],
)
def test_what_means_the_same(one: object, other: object, same: bool) -> None:
    assert same_value(one, other) is same  # type: ignore[arg-type]
