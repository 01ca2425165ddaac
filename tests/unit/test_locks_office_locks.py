"""Names and contents of the office programs' lock files, and that each one holds its document's check-out."""

from collections.abc import Hashable
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procorefs.locks.check_outs import CheckOuts
from procorefs.locks.claims import Claims
from procorefs.locks.office_locks import (
    OfficeLocks,
    Program,
    content_for,
    document_of,
    is_lock_file,
    lock_file_names,
)
from procorefs.locks.tree_documents import Holder
from procorefs.procore.wire.models import UserId
from procorefs.tree.nodes import Inode

FOLDER = Inode(1)


@pytest.mark.parametrize(
    ("document", "owner_file"),
    [
        (b"Report.docx", b"~$Report.docx"),
        (b"Reports.docx", b"~$eports.docx"),
        (b"Quarterly.docx", b"~$arterly.docx"),
        (b"Quarterly.DOC", b"~$arterly.DOC"),
        ("Übersicht.docx".encode(), b"~$ersicht.docx"),
        (b"Quarterly.xlsx", b"~$Quarterly.xlsx"),
        (b"Quarterly.pptx", b"~$Quarterly.pptx"),
        (b"a.b.c.d.e.docx", b"~$b.c.d.e.docx"),
        (b"Quarterly.pdf", None),
        (b"docx", None),
        (b"no extension", None),
    ],
)
def test_the_names_that_programs_look_for(document: bytes, owner_file: bytes | None) -> None:
    names = lock_file_names(document)
    assert list(names) == [b".~lock." + document + b"#", *([owner_file] if owner_file else [])]
    for name in names:
        assert is_lock_file(name)
        assert document_of(name, {document, b"other.docx", b"x", *names}) == document


def test_names_that_are_too_long_for_a_directory_are_left_out() -> None:
    assert lock_file_names(b"n" * 250 + b".xlsx") == {}
    assert list(lock_file_names(b"n" * 250 + b".doc")) == [b"~$" + b"n" * 248 + b".doc"]


@pytest.mark.parametrize(
    "name", [b"~$", b".~lock.#", b"~lock.a#", b".~lock.a", b"a~$b.docx", b"$a.docx", b""]
)
def test_what_is_no_lock_file(name: bytes) -> None:
    assert not is_lock_file(name)
    assert document_of(name, {b"a", b"b.docx", b""}) is None


def test_a_lock_file_without_its_document_is_nobodys() -> None:
    assert document_of(b".~lock.a.odt#", {b"b.odt"}) is None
    assert document_of(b"~$arterly.docx", {b"arterly.docx"[2:]}) is None


def test_when_words_shortening_leaves_two_nobody_knows() -> None:
    assert document_of(b"~$arterly.docx", {b"Quarterly.docx", b"quarterly.docx"}) is None
    assert document_of(b"~$arterly.docx", {b"Quarterly.docx", b"arterly.xlsx"}) == b"Quarterly.docx"


def test_a_program_that_shortens_nothing_is_understood_too() -> None:
    assert document_of(b"~$Quarterly.docx", {b"Quarterly.docx"}) == b"Quarterly.docx"
    assert document_of(b"~$drawing.vsdx", {b"drawing.vsdx"}) == b"drawing.vsdx"


def parsed_by_libreoffice(content: bytes) -> list[str]:
    """As LibreOffice reads it: five fields, each ended by a comma, the last one by a semicolon."""
    fields, field, escaped = [], b"", False
    for byte in content:
        char = bytes([byte])
        if escaped:
            assert char in b"\\,;"
            field, escaped = field + char, False
        elif char == b"\\":
            escaped = True
        elif char in b",;":
            fields.append(field.decode())
            field = b""
            assert (char == b";") == (len(fields) == 5)
        else:
            field += char
    assert field == b""
    assert len(fields) == 5
    return fields


def test_libreoffice_reads_the_name_and_the_time() -> None:
    content = content_for(Program.LIBREOFFICE, "Jane Doe", since=datetime(2026, 3, 1, 9, 5))
    assert content == b"Jane Doe,procore,procore,01.03.2026 09:05,procore;"
    assert content_for(Program.LIBREOFFICE, "Jane Doe") == b"Jane Doe,procore,procore,,procore;"


@given(st.text())
def test_libreoffice_reads_any_name(name: str) -> None:
    assert len(parsed_by_libreoffice(content_for(Program.LIBREOFFICE, name))[0]) == len(name)


@given(st.text(st.characters(exclude_characters=",;\\", exclude_categories=["C", "Z"])))
def test_libreoffice_reads_printable_names_as_they_are(name: str) -> None:
    assert parsed_by_libreoffice(content_for(Program.LIBREOFFICE, name))[0] == name


def parsed_by_office(content: bytes) -> str:
    """As LibreOffice reads Microsoft's owner files; the second length decides where the name stands."""
    assert 0 < content[0] <= 52
    at = 54
    if content[at] == 0x20 and (content[at - 1] != 0 or content[at - 2] != 0):
        at += 1
    units = content[at]
    assert content[at + 1] == 0
    return content[at + 2 : at + 2 + 2 * units].decode("utf-16-le")


@pytest.mark.parametrize(
    ("program", "size"), [(Program.WORD, 162), (Program.EXCEL, 165), (Program.POWERPOINT, 165)]
)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Jane Doe", "Jane Doe"),
        ("Łukasz Żółć", "Łukasz Żółć"),
        ("x" * 52, "x" * 52),
        ("x" * 90, "x" * 52),
        ("x" * 51 + "😀", "x" * 51),
        ("x" * 32, "x" * 32),
    ],
)
def test_office_reads_the_name(program: Program, size: int, name: str, shown: str) -> None:
    content = content_for(program, name)
    assert len(content) == size
    assert parsed_by_office(content) == shown


class Holds(CheckOuts):
    """Keeps what is held, and sends nothing."""

    def __init__(self) -> None:
        self.holds: list[tuple[Inode, Hashable]] = []

    def hold(self, inode: Inode, by: Hashable) -> None:
        self.holds.append((inode, by))

    def drop(self, inode: Inode, by: Hashable) -> None:
        self.holds.remove((inode, by))


class Holders(Claims):
    """Other users' check-outs."""

    def __init__(self) -> None:
        self.others: dict[Inode, Holder] = {}

    def holder(self, inode: Inode) -> Holder | None:
        return self.others.get(inode)


def test_each_lock_file_holds_its_document_until_it_is_removed() -> None:
    holds = Holds()
    office = OfficeLocks(Holders(), holds)
    office.created(FOLDER, b".~lock.a.odt#", Inode(5))
    office.created(FOLDER, b".~lock.a.odt#", Inode(5))
    office.created(FOLDER, b"~$a.odt", Inode(5))
    assert [inode for inode, _ in holds.holds] == [5, 5]
    office.removed(FOLDER, b".~lock.a.odt#")
    office.removed(FOLDER, b".~lock.a.odt#")
    office.removed(Inode(9), b"~$a.odt")
    assert [inode for inode, _ in holds.holds] == [5]
    office.removed(FOLDER, b"~$a.odt")
    assert holds.holds == []


def test_a_program_that_saves_by_renaming_keeps_its_lock() -> None:
    holds = Holds()
    office = OfficeLocks(Holders(), holds)
    office.created(FOLDER, b".~lock.a.odt#", Inode(5))
    office.replaced(FOLDER, b"a.odt", Inode(6))
    office.replaced(FOLDER, b"a.odt", Inode(6))
    office.replaced(FOLDER, b"b.odt", Inode(7))
    assert [inode for inode, _ in holds.holds] == [6]
    office.removed(FOLDER, b".~lock.a.odt#")
    assert holds.holds == []


def test_a_lock_file_that_is_gone_holds_nothing() -> None:
    holds = Holds()
    office = OfficeLocks(Holders(), holds)
    office.created(FOLDER, b".~lock.a.odt#", Inode(5))
    office.created(FOLDER, b".~lock.b.odt#", Inode(6))
    office.keep(lambda folder, name: (folder, name) == (FOLDER, b".~lock.b.odt#"))
    assert holds.holds == [(Inode(6), (FOLDER, b".~lock.b.odt#"))]


def test_somebody_elses_lock_files_are_seen_beside_the_document() -> None:
    holders = Holders()
    office = OfficeLocks(holders, Holds())
    assert office.shown_beside(b"Quarterly.docx", Inode(5)) == {}
    holders.others[Inode(5)] = Holder(UserId(2), "Jane Doe", None)
    seen = office.shown_beside(b"Quarterly.docx", Inode(5))
    assert parsed_by_libreoffice(seen[b".~lock.Quarterly.docx#"])[0] == "Jane Doe"
    assert parsed_by_office(seen[b"~$arterly.docx"]) == "Jane Doe"
    holders.others[Inode(5)] = Holder(UserId(2), "", None)
    assert b"another user" in office.shown_beside(b"a.txt", Inode(5))[b".~lock.a.txt#"]
