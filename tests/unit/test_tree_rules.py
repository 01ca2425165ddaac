"""What Procore takes as a name: every rule, every place, and names drawn at random."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procorefs.tree.naming.name_rules import MAX_PATH_CHARACTERS, Refusal, Rule, name_refusal, path_refusal

WHITE = [chr(code) for code in range(sys.maxunicode) if chr(code).isspace()]
CONTROLS = [*map(chr, range(1, 32)), "\x7f"]
FRAMES = ["{}", "{}a.pdf", "a{}.pdf", "a.pd{}f", "a.pdf{}"]


@pytest.mark.parametrize("character", "?<>:|\\*")
@pytest.mark.parametrize("frame", FRAMES)
def test_forbidden_characters_are_refused_everywhere(character: str, frame: str) -> None:
    assert name_refusal(frame.format(character).encode()) == Refusal(Rule.CHARACTER, character)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("frame", FRAMES)
def test_control_characters_are_refused_everywhere(control: str, frame: str) -> None:
    assert name_refusal(frame.format(control).encode()) == Refusal(Rule.CONTROL, control)


@pytest.mark.parametrize("white", WHITE)
def test_white_space_is_refused_around_the_extension_alone(white: str) -> None:
    around = Rule.CONTROL if white < " " else None
    before, end = name_refusal(f"a{white}.pdf".encode()), name_refusal(f"a.pdf{white}".encode())
    assert before == Refusal(around or Rule.SPACE_BEFORE_EXTENSION, white)
    assert end == Refusal(around or Rule.SPACE_AT_END, white)
    if not around:
        assert name_refusal(f"{white}a{white}b.c{white}d.pdf".encode()) is None


@pytest.mark.parametrize(
    "name",
    ['6" pipe.dwg', "ünï ✓.pdf", ".hidden", "a..b", "..a", "no extension", "x" * 255, "~$x", "a,b;c'd"],
)
def test_good_names_are_taken(name: str) -> None:
    assert name_refusal(name.encode()) is None


def test_lengths_count_bytes_in_a_name_and_characters_in_a_path() -> None:
    for character in "xü€😀":
        encoded = character.encode()
        longest = encoded * (255 // len(encoded)) + b"." * (255 % len(encoded))
        assert name_refusal(longest) is None
        assert name_refusal(longest + b".") == Refusal(Rule.COMPONENT_LENGTH)
    assert path_refusal(MAX_PATH_CHARACTERS) is None
    assert path_refusal(MAX_PATH_CHARACTERS + 1) == Refusal(Rule.PATH_LENGTH)


def test_what_is_not_utf8_is_refused() -> None:
    assert name_refusal(b"caf\xe9.txt") == Refusal(Rule.ENCODING)


TIGHT = st.text(st.sampled_from([*'?<>:|\\*.a"ü', *CONTROLS, *WHITE]), min_size=1, max_size=8)
ANY = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=300)


@given(TIGHT | ANY)
def test_a_name_is_taken_exactly_when_no_rule_speaks_against_it(name: str) -> None:
    stem, dot, _ = name.rpartition(".")
    good = (
        not set(name) & set("?<>:|\\*")
        and all(c >= " " and c != "\x7f" for c in name)
        and not (dot and stem and stem[-1].isspace())
        and not name[-1].isspace()
        and len(name.encode()) <= 255
    )
    assert (name_refusal(name.encode()) is None) is good
