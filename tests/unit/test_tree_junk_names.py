"""Junk is known by name and content together: what programs write is, what people keep under such names is not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procorefs.locks.office_locks import Program, content_for
from procorefs.tree.naming.junk_names import FILES, FOLDERS, HEAD_BYTES, is_junk, is_junk_folder, may_be_junk
from procorefs.tree.naming.name_fate import Fate, own_fate

EXPLORER = "[.ShellClassInfo]\r\nIconResource=C:\\Windows\\system32\\shell32.dll,3\r\n"
ACCESS = b"OFFICE-PC\0".ljust(32, b"\0") + b"Admin\0".ljust(32, b"\0")
JUNK = {
    ".#plan.txt": [b"jane@host.example.4711:1700000000", b"jane@host.4711"],
    "._a: b.txt": [b"\0\5\x16\7\0\2\0\0Mac OS X        ".ljust(4096, b"\0")],
    "._Icon\r": [b"\0\5\x16\7\0\2\0\0"],
    ".directory": [b"[Dolphin]\nTimestamp=2026,1,2\n", b"# KDE\n[Desktop Entry]\nIcon=folder-red\n"],
    ".DS_Store": [b"\0\0\0\1Bud1\0\0\x10\0"],
    ".fuse_hidden0000004200000001": [b"anything"],
    ".localized": [b""],
    ".nfs000000000001a2b300000007": [b"anything"],
    ".~lock.a:b.odt#": [content_for(Program.LIBREOFFICE, "Jane, Doe; Inc."), b",jane,host,02.01.2026 10:00,file:///home;\n"],
    "plan.dwl": [b"jane\r\nHOST\r\nMonday, January 5, 2026  9:41:25 AM\r\n"],
    "plan.dwl2": [b'<?xml version="1.0"?>\n<whprops><username>j</username><machinename>h</machinename>'],
    "~report~k3x8d(.idlk": [b"\0\1\2", b""],
    "costs.laccdb": [ACCESS, ACCESS * 3],
    "page.html.LCK": [b"Jane Doe||jane@example.com", b"4711\n"],
    "costs.ldb": [ACCESS],
    "Tower.slog": [b"$8a1f5d9c 2026-01-05 09:11:23.456 >Session \"jane\"\r\n" * 500],
    ".plan.txt.swp": [b"b0VIM 9.1\0\0\0\0".ljust(4096, b"\0"), b"b0nano 8.0"],
    "plan.swo": [b"b0VIM 8.2"],
    "desktop.ini": [
        EXPLORER.encode(),
        EXPLORER.encode("utf-16"),
        EXPLORER.encode("utf-16-le"),
        EXPLORER.encode("utf-16-be"),
        b"\xef\xbb\xbf; made by hand\r\n[ViewState]\r\nMode=\r\n",
    ],
    "Desktop.ini": [b"[LocalizedFileNames]\r\n"],
    "Thumbs.db": [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(8192, b"\0")],
    "ehthumbs_vista.db": [b"CMMM"],
    "Icon\r": [b""],
    "~$plan.docx": [content_for(Program.WORD, "Jane Doe"), b"owner" + bytes(157)],
    "~$costs.xlsx": [content_for(Program.EXCEL, "Jörg"), content_for(Program.POWERPOINT, "J" * 60)],
}  # fmt: skip

ZIP = b"PK\3\4\x14\0\6\0\x08\0\0\0!\0".ljust(9000, b"x")
DOCUMENTS = {
    ".#plan.txt": [b"a heading\n", b"mail jane@example.com about it"],
    "._survey.jpg": [b"\xff\xd8\xff\xe0\0\x10JFIF".ljust(5000, b"\0"), b"\0\5\x16\0"],
    ".directory": [b"Jane, 555-1234\n"],
    ".DS_Store": [b"sales of the department store"],
    ".localized": [b"Zeichnungen"],
    ".~lock.plan.odt#": [ZIP, b"note: a, b, c, d, e", b"one line\nand another,,,,;"],
    "plan.dwl": [b"my data"],
    "plan.dwl2": [b"<xml/>"],
    "~report~k3x8d(.idlk": [ZIP],
    "costs.laccdb": [b"x" * 64, b"\0\1\0\0Standard Jet DB\0".ljust(1 << 16, b"\0")],
    "000005.ldb": [bytes(range(256)) * 4, b"k\0\1\2".ljust(640, b"\x9f")],
    "page.LCK": [b"all the locks of this building: 1, 2, 3\n" * 9],
    "Tower.slog": [b"a log of slogans"],
    "macro.swp": [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(9000, b"\1"), b"b0"],
    "desktop.ini": [b"[database]\r\nhost=example\r\n", b"[x]", EXPLORER.encode() * 200],
    "Thumbs.db": [b"SQLite format 3\0"],
    "Icon\r": [b"x"],
    "~$budget.xlsx": [ZIP, b"a budget of 165 bytes ".ljust(165, b"."), b"\5abcde".ljust(162, b"x")],
}
NO_JUNK_NAMES = [
    "DS_Store",
    "thumbs.pdf",
    "a~$b",
    "lock.odt",
    "swp",
    "._",
    "~$",
    ".nfs0001",
    ".fuse_hidden1",
    "a.swq",
]


def cases(table: dict[str, list[bytes]]) -> list[tuple[str, bytes]]:
    return [(name, data) for name, contents in table.items() for data in contents]


@pytest.mark.parametrize(("name", "data"), cases(JUNK))
def test_what_programs_keep_is_junk(name: str, data: bytes) -> None:
    assert is_junk(name, data[:HEAD_BYTES], len(data))
    assert own_fate(name, is_folder=False, is_junk=True) is Fate.LOCAL


@pytest.mark.parametrize(("name", "data"), cases(DOCUMENTS))
def test_what_people_keep_under_such_a_name_is_not(name: str, data: bytes) -> None:
    assert may_be_junk(name)
    assert not is_junk(name, data[:HEAD_BYTES], len(data))


@pytest.mark.parametrize("name", list(JUNK))
def test_an_empty_file_with_such_a_name_is_junk(name: str) -> None:
    assert is_junk(name, b"", 0)


@pytest.mark.parametrize("name", NO_JUNK_NAMES)
def test_other_names_are_never_junk(name: str) -> None:
    assert not may_be_junk(name)
    assert not is_junk(name, b"", 0)


@given(st.text(), st.binary(max_size=200))
def test_no_other_name_is_junk_whatever_it_holds(name: str, data: bytes) -> None:
    assert may_be_junk(name) or not is_junk(name, data, len(data))


@given(st.sampled_from(sorted(JUNK)), st.binary(min_size=1, max_size=300))
def test_any_content_gets_an_answer(name: str, data: bytes) -> None:
    assert is_junk(name, data, len(data)) in (True, False)


@pytest.mark.parametrize(
    "name",
    [
        ".Trash-1000", "$RECYCLE.BIN", "@eaDir", "__MACOSX", ".AppleDouble", ".Spotlight-V100", ".fseventsd",
        ".TemporaryItems",
    ],
)  # fmt: skip
def test_folders_of_programs_stay_here_whole(name: str) -> None:
    assert is_junk_folder(name)
    assert own_fate(name, is_folder=True, is_junk=False) is Fate.LOCAL
    assert own_fate(name, is_folder=True, is_junk=False, keeps_junk=True) is Fate.SENT


@pytest.mark.parametrize(
    "name", ["old.swp", "~$x", "._x", "desktop.ini", ".Trash-notes", "MACOSX", ".nfs", "a.ldb"]
)
def test_a_folder_is_no_junk_for_being_called_like_a_file(name: str) -> None:
    assert own_fate(name, is_folder=True, is_junk=True) is Fate.SENT


def test_the_tables_are_sorted_and_name_each_program() -> None:
    def common(name: str) -> str:
        """What all names that the pattern matches have in common."""
        return re.sub(r"\(\?i:|\(\?:|\.\+|[\\()?*]|\[.*?\]|\{.*?\}", "", name).casefold()

    for table in ([junk[:2] for junk in FILES], list(FOLDERS)):
        names = [common(name) for name, _ in table]
        assert names == sorted(names)
        assert len(set(names)) == len(names)
        assert all(program for _, program in table)
