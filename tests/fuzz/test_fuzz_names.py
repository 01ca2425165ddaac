"""Names of Procore and of programs: entries that Linux can hold, one to one both ways, and names of junk files."""

from hypothesis import given
from hypothesis import strategies as st

from procorefs.storage.printable import printable
from procorefs.tree.naming import junk_names, name_rules
from procorefs.tree.naming.full_width import EntryNames, decode, encode, is_plain, to_procore, to_programs
from procorefs.tree.nodes import ROOT, Inode
from tests.support.fuzzing import ODD, bounded, fuzz

QUOTED = st.text(st.sampled_from("‛？?．. ␠\x85\u2028a"), max_size=80)  # noqa: RUF001 - what names are mapped to
NAMES = st.sampled_from(ODD) | st.text(max_size=300) | QUOTED
ENTRIES = NAMES.map(lambda name: name.encode("utf-8", "surrogatepass")) | st.binary(max_size=300)


@fuzz
@given(ENTRIES)
def test_every_name_that_a_program_gives_is_judged(name: bytes) -> None:
    with bounded():
        refusal = name_rules.name_refusal(name)
        here = name_rules.entry_refusal(name)
        junk_names.may_be_junk(name.decode("utf-8", "replace"))
    for one in (refusal, here):
        assert one is None or printable(str(one))


@fuzz
@given(st.lists(NAMES, max_size=6))
def test_documents_show_under_different_names(names: list[str]) -> None:
    taken: set[bytes] = set()
    for number, name in enumerate(names, 1):
        with bounded():
            entry = name_rules.shown_name(name, number, taken.__contains__)
        assert entry not in taken
        assert 0 < len(entry) <= name_rules.MAX_COMPONENT_BYTES
        assert entry.decode() not in (".", "..")
        assert not {0, ord("/")} & set(entry)
        taken.add(entry)


@fuzz
@given(
    st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40) | QUOTED)
)
def test_a_folder_shows_each_of_its_names_once(names: set[str]) -> None:
    shown = {to_programs(name, names.__contains__) for name in names}
    assert len(shown) == len(names)
    for name in names:
        assert to_procore(to_programs(name, names.__contains__), names.__contains__) == name
        assert decode(encode(name)) == name


@fuzz
@given(ENTRIES, st.sets(ENTRIES, max_size=6))
def test_entries_map_to_entries(name: bytes, beside: set[bytes]) -> None:
    def has(_folder: Inode, entry: bytes) -> bool:
        return entry in beside

    names = EntryNames(has, encodes=True)
    with bounded():
        entry = names.to_procore(ROOT, name)
        list(names.affected(ROOT, name))
        names.encoded(name)
    assert names.to_programs(ROOT, entry) == name or entry in beside or name in beside


@fuzz
@given(st.sampled_from(["‛", "？", "‛？", ".", " ", "\x85", "~"]), st.integers(1, 40_000))  # noqa: RUF001 - as above
def test_long_names_take_no_time(part: str, count: int) -> None:
    name = part * count
    with bounded():
        is_plain(name[:255])
        name_rules.shown_name(name, 1, lambda _entry: False)


@fuzz
@given(st.text() | st.sampled_from(ODD))
def test_what_is_printed_is_one_line_without_control(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


HEADS = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b";\n" * 2000,
            b"#\n" * 2000,
            b"a,," * 1500 + b";",
            b"\\" * 4000,
            b"a||" * 1000,
            b"<username>" * 300,
            b"a@b." * 900,
        ]
    ),
)
JUNK = [
    "desktop.ini",
    ".directory",
    ".~lock.a#",
    "a.dwl",
    "a.dwl2",
    "a.lck",
    "a.slog",
    ".#a",
    ".apdisk",
    "~$a",
    "a.ldb",
]


@fuzz
@given(st.sampled_from(JUNK) | NAMES, HEADS, st.integers(0, 2**62))
def test_any_content_is_judged_in_no_time(name: str, head: bytes, size_bytes: int) -> None:
    with bounded():
        junk_names.is_junk(name, head, size_bytes)
        junk_names.is_junk_folder(name)
