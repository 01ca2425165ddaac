"""Which refusals are about an empty file or a blocked type, and which files are not sent after them."""

import pytest
import trio.testing

from procorefs.procore.errors import Invalid, ProcoreError, UploadRefused
from procorefs.storage import clocks
from procorefs.upload.planning.refused_content import KNOWN_S, STRICT_TYPES, RefusedContent


def _refusal(words: str, kind: type[ProcoreError] = Invalid) -> ProcoreError:
    return kind("Could not create the file", status=422, answer={"errors": {"base": [words]}})


@pytest.mark.parametrize(
    ("name", "size", "error", "says"),
    [
        ("a.txt", 0, _refusal("The file is empty"), "does not take empty files"),
        ("a.txt", 0, _refusal("size must be greater than 0"), "does not take empty files"),
        ("a.txt", 0, _refusal("upload is empty", UploadRefused), "does not take empty files"),
        ("a.EXE", 5, _refusal("has a file type that is not allowed"), "of the type .EXE"),
        ("a.exe", 0, _refusal("extension is blocked"), "of the type .exe"),
    ],
)
def test_a_refusal_that_names_the_rule(name: str, size: int, error: ProcoreError, says: str) -> None:
    """From then on no file that breaks it is sent, and all others are."""
    rules = RefusedContent()
    assert rules.refusal(name, size) == ""
    assert says in rules.explain(name, size, error)
    assert says in rules.refusal(name, size)
    assert rules.refusal("b.txt", 1) == ""


def test_a_blocked_type_blocks_all_of_them() -> None:
    rules = RefusedContent()
    rules.explain("a.exe", 5, _refusal("file type not allowed"))
    assert all(rules.refusal(f"b.{kind}", 1) for kind in STRICT_TYPES)
    assert not any(rules.refusal(name, 1) for name in ("exe", ".exe", "b.pdf", "b.exe.pdf"))


def test_a_refusal_without_words_proves_nothing() -> None:
    rules = RefusedContent()
    said = rules.explain("a.exe", 5, _refusal("Something is wrong"))
    assert "it is of the type .exe, which Procore may refuse" in said
    assert "it is empty, which Procore may refuse" in rules.explain(
        "a.txt", 0, _refusal("Something is wrong")
    )
    assert rules.refusal("a.exe", 5) == rules.refusal("a.txt", 0) == ""
    assert rules.explain("a.txt", 5, _refusal("The file is empty")) == ""
    assert rules.explain("a.txt", 0, _refusal("the upload has expired", UploadRefused)) == ""


async def test_a_rule_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(clocks, "unix_s", lambda: now_s[0])
    rules = RefusedContent()
    rules.explain("a.txt", 0, _refusal("The file is empty"))
    now_s[0] += KNOWN_S - 1
    assert rules.refusal("a.txt", 0)
    now_s[0] += 2
    assert not rules.refusal("a.txt", 0)
