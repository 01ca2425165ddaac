"""Shown names: whatever Procore sends, Linux can hold it, and no two entries of a folder are the same."""

from hypothesis import given
from hypothesis import strategies as st

from procorefs.tree.naming.name_rules import (
    MAX_COMPONENT_BYTES,
    encode,
    holdable,
    marked,
    shown_name,
    split_extension,
)

HOSTILE = st.one_of(
    st.sampled_from(
        ["", ".", "..", "/", "a/b", "\0", " ", "...", "/etc/passwd", "\ud800", "a\ud800.pdf", ".a", "a."]
    ),
    st.text(max_size=300),
    st.text(alphabet="ü/.~ \0a1", max_size=300),
    st.builds(
        lambda stem, end: "x" * stem + end, st.integers(200, 300), st.sampled_from([".pdf", "", ".é" * 40])
    ),
)
IDS = st.integers(1, 2**63 - 1)


def can_be_an_entry(name: bytes) -> bool:
    return 0 < len(name) <= MAX_COMPONENT_BYTES and name not in (b".", b"..") and not {b"/"[0], 0} & set(name)


@given(HOSTILE, IDS)
def test_every_name_can_be_an_entry(name: str, document_id: int) -> None:
    shown = shown_name(name, document_id, lambda _entry: False)
    assert can_be_an_entry(shown)
    shown.decode("utf-8")
    assert shown == shown_name(name, document_id, lambda _entry: False)
    if holdable(name):
        assert shown == encode(name)


@given(st.lists(HOSTILE, max_size=12))
def test_no_two_entries_are_the_same(names: list[str]) -> None:
    taken: set[bytes] = set()
    for document_id, name in enumerate([*names, *names], start=1):
        shown = shown_name(name, document_id, taken.__contains__)
        assert shown not in taken
        assert can_be_an_entry(shown)
        taken.add(shown)


def test_a_colleague_who_uses_our_mark_stands_in_nobodys_way() -> None:
    taken = {b"a.pdf", b"a ~7.pdf"}
    assert shown_name("a.pdf", 7, taken.__contains__) == b"a ~7-2.pdf"


@given(HOSTILE)
def test_the_extension_stays(name: str) -> None:
    stem, extension = split_extension(name)
    assert stem + extension == name
    assert len(encode(extension)) <= 32
    assert marked(name, "5").endswith(encode(extension.replace("/", "_").replace("\0", "_")))


def test_marked_names() -> None:
    assert marked("Plan.pdf", "12") == b"Plan ~12.pdf"
    assert marked("a/b.pdf", "12") == b"a_b ~12.pdf"
    assert marked("..", "12") == b"_ ~12."
    assert marked("", "12") == b"_ ~12"
    assert marked(".bashrc", "12") == b".bashrc ~12"
    assert len(marked("ü" * 300 + ".pdf", "12")) <= MAX_COMPONENT_BYTES
