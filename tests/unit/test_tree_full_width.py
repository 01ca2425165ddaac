"""Twins of refused characters: nothing is lost, nothing is refused, no two names meet."""

# ruff: noqa: RUF001 - characters that look like others are what this is about

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procorefs.tree.naming.full_width import decode, encode, is_plain, to_procore, to_programs
from procorefs.tree.naming.name_rules import Rule, name_refusal

WHITE = [chr(code) for code in range(sys.maxunicode) if chr(code).isspace()]
#: few characters, those that matter, so that they meet
TIGHT = st.text(st.sampled_from([*"?\\ .‛␠？＼a␉\t\x7f␡␀", *WHITE]), min_size=1, max_size=9)
NAMES = TIGHT | st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("name", "in_procore"),
    [
        ("What?.pdf", "What？.pdf"),
        ("a<b>c:d|e\\f*g", "a＜b＞c：d｜e＼f＊g"),
        ("plan .pdf", "plan␠.pdf"),
        ("plan.pdf ", "plan.pdf␠"),
        ("two  ", "two ␠"),
        ("a\tb\n\x7f", "a␉b␊␡"),
        ("What？.pdf", "What‛？.pdf"),
        ("a‛?", "a‛‛？"),
        ("a‛？", "a‛‛‛？"),
        ("rock‛n‛roll", "rock‛n‛roll"),
        ("a␠b", "a␠b"),
        ("a␠", "a‛␠"),
        ("a\u3000.pdf", "a\u3000‛.pdf"),
        ("a\u3000‛", "a\u3000‛‛"),
        ("plan 01.v2.pdf", "plan 01.v2.pdf"),
        ("␀", "␀"),
    ],
)
def test_examples(name: str, in_procore: str) -> None:
    assert encode(name) == in_procore
    assert decode(in_procore) == name


@given(NAMES)
@example(" .")
@example("‛ .‛␠")
def test_no_name_is_lost(name: str) -> None:
    assert decode(encode(name)) == name


@given(NAMES)
def test_what_was_encoded_is_taken_unless_it_is_too_long(name: str) -> None:
    refusal = name_refusal(encode(name).encode())
    assert refusal is None or refusal.rule is Rule.COMPONENT_LENGTH


def is_taken_by_procore(name: str) -> bool:
    refusal = name_refusal(name.encode())
    return refusal is None or refusal.rule is Rule.COMPONENT_LENGTH


@given(NAMES.filter(is_taken_by_procore))
def test_no_two_names_in_procore_look_the_same(in_procore: str) -> None:
    assert encode(decode(in_procore)) == in_procore


@given(NAMES)
def test_the_extension_stays_where_it_is(name: str) -> None:
    assert encode(name).count(".") == name.count(".")
    assert not {"/", "\0"} & set(decode(name))


def test_a_name_that_is_not_utf8_passes_as_it_is() -> None:
    assert encode("caf\udce9?") == "caf\udce9？"


#: what Procore may have in one folder, refused today or not, and so much alike that they meet
ALIKE = st.text(st.sampled_from([*"?\\ .‛␠？＼a\t␉"]), min_size=1, max_size=4)
SIBLINGS = st.sets(ALIKE | NAMES, max_size=12)


@st.composite
def families(draw: st.DrawFn) -> set[str]:
    """Names beside those that they are encoded and decoded to, again and again."""
    names = set(draw(SIBLINGS))
    for name in list(names):
        for turn in draw(st.lists(st.sampled_from([encode, decode]), max_size=4)):
            name = turn(name)
            names.add(name)
    return names


@given(families())
@example({"K 1:50", "K 1：50", "K 1‛：50", "K 1‛‛‛：50"})
def test_what_a_folder_shows_is_one_to_one_with_what_procore_has_in_it(names: set[str]) -> None:
    shown = {name: to_programs(name, names.__contains__) for name in names}
    assert len(set(shown.values())) == len(names)
    for name in names:
        assert to_procore(shown[name], names.__contains__) == name
        if encode(decode(name)) != name:
            assert shown[name] == name


@given(families(), ALIKE | NAMES)
@example({"K 1:50"}, "K 1：50")
def test_a_new_entry_gets_a_name_of_its_own_and_moves_no_other(names: set[str], new: str) -> None:
    before = {to_programs(name, names.__contains__): name for name in names}
    if new in before:
        return
    in_procore = to_procore(new, names.__contains__)
    assert in_procore not in names
    assert name_refusal(in_procore.encode()) is None
    after = names | {in_procore}
    assert {to_programs(name, after.__contains__): name for name in after} == before | {new: in_procore}


@given(ALIKE | NAMES)
def test_plain_names_are_those_that_need_no_mapping(name: str) -> None:
    assert is_plain(name) is (encode(name) == name == decode(name))


@given(NAMES, SIBLINGS)
def test_plain_names_are_the_same_everywhere(name: str, names: set[str]) -> None:
    if is_plain(name):
        assert to_procore(name, names.__contains__) == to_programs(name, names.__contains__) == name
