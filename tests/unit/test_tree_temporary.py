"""Which names are temporary: what programs really make, and documents that look a little like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procorefs.tree.naming.name_fate import is_temporary, is_temporary_folder


@pytest.mark.parametrize(
    "name",
    [
        ".A-101.dwg.x4Kp2Q", ".bashrc.abcdef", ".com.google.Chrome.AbC123", "A.pdf.1f3a9c2e.partial", "A.pdf.part",
        "A.pdf.filepart", "Unconfirmed 4.crdownload", "A.pdf.opdownload", "A.pdf.aria2", ".A.pdf.~2f1c", ".in.A.pdf",
        ".mutagen-temporary-3f", "~WRD0001.tmp", "~WRL3121.tmp", "~DF9A.TMP", "1A2B3C4D.tmp", "ppt1A2B.tmp",
        "A.dwg~RF1a2b3c.TMP", "lu12ab3c.tmp", "sav1A2B.tmp", "A9R1a2b.tmp", ".syncthing.A.pdf.tmp", "4CCA4100",
        "7f8c1000", "A.docx.sb-1a2b3c4d-x4Kp2Q", ".goutputstream-WM3LTU", ".xdp-A.odt-a1B2c3", "A.dwg.xKpQzA",
        "recent.xbel.ZL4TBW", "ziRXG5pP", "A.txt.oaWwlrX", "XXHCfmqf", "d2utmpa1B2c3",
        "A.jpg_exiftool_tmp", "A.pdf.~qpdf-temp#",
        "sedAb12Cd", "tmpk3j2_h1x", "tmpk3j2_h1x.pdf", "4913",
        ".A.txt.swx", ".A.txt.swpx",
        ".A.md.kate-swp", "#A.org#", "A.py___jb_tmp___", "A.dwl", "A.DWL2", "A_1_2_34.sv$", "A.db-journal",
        "A.sqlite3-wal", "tmp_obj_x4Kp2Q", ".tmp-123-pack-9f.pack", "index.lock", "HEAD.lock", "FETCH_HEAD.lock",
    ],
)  # fmt: skip
def test_temporary(name: str) -> None:
    assert is_temporary(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "A-101.dwg", "A-101.REV002", "A-101 2024.pdf", "20240131", "19991231", "12345", "1234567", "123456789",
        "Plan.bak", "A.dwg~", "report.pdf.backup", "report.pdf.Backup", ".notes", ".gitignore", ".travis.yml",
        "sediments", "sedan", "zigzags", "zippered", "A.outline", "XXL",
        "tmp", "tmp.pdf", "temporary works.pdf", "template.docx", "poetry.lock", "Cargo.lock",
        "part", "plan.parts", "partial.pdf", "4913.pdf", "site-journal", "#1 plan.pdf", "index.html", "decade",
        "v1.2.pdf", "tmp_site.pdf", "A.tar.gz", "A.000012", "facade.dwg",
    ],
)  # fmt: skip
def test_documents(name: str) -> None:
    assert not is_temporary(name.encode())


@given(
    st.text(min_size=1, max_size=60).map(str.encode),
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=6, max_size=6),
)
def test_the_copy_of_any_file_by_rsync_is_temporary(name: bytes, random: str) -> None:
    # rsync adds no second dot to a hidden file
    assert is_temporary(
        (b"" if name.startswith(b".") and len(name) > 1 else b".") + name + b"." + random.encode()
    )


def test_a_name_that_is_not_utf8_is_looked_at_too() -> None:
    assert is_temporary(b".caf\xe9.txt.x4Kp2Q")
    assert not is_temporary(b"caf\xe9.txt")


@pytest.mark.parametrize(
    ("name", "is_so"),
    [
        (".~tmp~", True), (".rsync-partial", True), (".rsync-tmp", True), ("A.docx.sb-1a2b3c4d-x4Kp2Q", True),
        ("tmp_objdir-incoming-a1B2c3", True), ("tmp", False), ("20240131", False), ("4913", False), ("A.tmp", False),
        ("partial", False), (".git", False),
    ],
)  # fmt: skip
def test_folders(name: str, is_so: bool) -> None:
    assert is_temporary_folder(name.encode()) is is_so
