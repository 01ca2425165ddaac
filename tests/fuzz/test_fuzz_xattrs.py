"""Texts that programs write into attributes, and labels and tags that colleagues made."""

from hypothesis import example, given
from hypothesis import strategies as st

from procorefs.procore.wire.field_values import BOOLEAN, DATA_TYPES, DECIMAL, same_value
from procorefs.procore.wire.models import EntryId, FieldDefinition, FieldId, LovEntry
from procorefs.xattr.attribute_names import BadValue, NotSettable
from procorefs.xattr.custom_fields import field_id_of, labels, parsed_value, shown_value
from procorefs.xattr.value_texts import decoded, tag_lines, tag_list, tags_of_lines, tags_of_list, truth
from tests.support.fuzzing import HOSTILE_TEXT, bounded, fuzz

TAGS = st.sets(
    st.text(st.sampled_from("a,\r\n \u2028\0b"), min_size=1, max_size=8) | st.text(min_size=1, max_size=20)
)


@fuzz
@given(st.binary(max_size=100))
def test_bytes_are_a_text_or_refused(value: bytes) -> None:
    try:
        text = decoded(value)
    except BadValue:
        return
    assert text.encode() == value
    try:
        truth(text)
    except BadValue:
        return


@fuzz
@given(TAGS)
def test_shown_tags_are_the_tags(tags: set[str]) -> None:
    assert set(tags_of_lines(tag_lines(tags), tags)) == tags
    assert set(tags_of_list(tag_list(tags), tags)) == tags


@fuzz
@given(st.text(st.sampled_from("a,\r\n b"), max_size=60), TAGS)
def test_any_text_means_tags_without_an_empty_one(text: str, borne: set[str]) -> None:
    for found in (tags_of_lines(text, borne), tags_of_list(text, borne)):
        assert all(found)
        assert len(found) == len(set(found))


@fuzz
@given(st.sampled_from(["a,", ",", "\n,", "a"]), st.integers(1, 32_768), st.integers(1, 32_768))
@example("a,", 32_768, 32_000)
def test_long_lists_of_tags_take_no_time(part: str, count: int, commas: int) -> None:
    text = (part * count)[: 64 << 10]
    with bounded():
        tags_of_list(text, {"a" + ",a" * commas, "a"})
        tags_of_lines(text, {part * count})


ENTRIES = st.dictionaries(st.integers(1, 2**63 - 1), HOSTILE_TEXT.filter(bool), max_size=6)


@fuzz
@given(
    st.sampled_from(sorted(DATA_TYPES)) | HOSTILE_TEXT,
    HOSTILE_TEXT | st.sampled_from(["1e999", "9" * 31]),
    ENTRIES,
)
def test_a_text_is_a_value_or_refused(data_type: str, text: str, choices: dict[int, str]) -> None:
    entries = [LovEntry(EntryId(entry_id), label) for entry_id, label in choices.items()]
    try:
        value = parsed_value(data_type, text, entries)
    except (BadValue, NotSettable):
        return
    if data_type in (BOOLEAN, DECIMAL):
        assert same_value(parsed_value(data_type, shown_value(data_type, value, choices), entries), value)


@fuzz
@given(st.data(), ENTRIES.filter(bool))
def test_a_shown_choice_is_that_choice(data: st.DataObject, choices: dict[int, str]) -> None:
    entries = [LovEntry(EntryId(entry_id), label) for entry_id, label in choices.items()]
    chosen = data.draw(st.sampled_from(sorted(choices)))
    shown = shown_value("lov_entry", chosen, choices)
    if shown.strip():
        assert parsed_value("lov_entry", shown, entries) == chosen


@fuzz
@given(st.lists(HOSTILE_TEXT.filter(bool), max_size=6))
def test_each_field_has_a_label_that_an_attribute_can_have(names: list[str]) -> None:
    definitions = [FieldDefinition(FieldId(number), name, "string") for number, name in enumerate(names, 1)]
    found = labels(definitions)
    assert sorted(found.values(), key=lambda one: one.id) == definitions
    assert all(
        0 < len(f"user.procore.custom.{label}".encode()) <= 255 and "\0" not in label for label in found
    )


@fuzz
@given(HOSTILE_TEXT.map(lambda text: f"custom_field_{text}") | st.just("custom_field_" + "9" * 5000))
def test_a_key_names_a_field_or_none(key: str) -> None:
    found = field_id_of(key)
    assert found is None or 0 <= found < 2**63


def test_thousands_of_choices_take_no_time() -> None:
    choices = {number: f"Trade {number % 3000}" for number in range(1, 6001)}
    entries = [LovEntry(EntryId(number), label) for number, label in choices.items()]
    with bounded():
        shown = shown_value("lov_entries", list(choices), choices)
        assert parsed_value("lov_entries", shown, entries) is not None
