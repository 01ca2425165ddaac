"""The pages for people beside the code: what they name exists, and what exists is in them."""

import ast
import errno
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from procorefs.cli.main import COMMANDS
from procorefs.config.options import OPTIONS
from procorefs.config.profiles import Config, Profile
from procorefs.kernel import errno_table
from procorefs.xattr import attribute_names

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])


def page(name: str) -> str:
    return (DOCS / name).read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_paths_that_contributors_are_sent_to_exist() -> None:
    named = re.findall(r"`((?:procorefs|tests|docs)/[\w/.-]+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_each_promise_names_code_and_tests_that_exist() -> None:
    text = page("threat-model.md")
    named = re.findall(r"`((?:procorefs|tests)/[\w/.-]+)`", text)
    assert [path for path in named if not (ROOT / path).is_file()] == []
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 4]
    assert len([row for row in rows if "`tests/" in row]) > 20
    assert [row for row in rows if "| code |" not in row and "`tests/" not in row] == []


def test_every_dependency_has_a_reason() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)
    project = settings["project"]
    wanted = [*project["dependencies"], *settings["build-system"]["requires"]]
    wanted += [one for extra in project["optional-dependencies"].values() for one in extra]
    names = {match[0] for one in wanted if (match := re.match(r"[\w-]+", one))} - {"procorefs"}
    table = page("../CONTRIBUTING.md").partition("| needed for |")[2]
    assert {name for name in names if f"`{name}`" not in table} == set()


def test_readme_is_short_and_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert [path.name for path in DOCS.glob("*.md") if f"(docs/{path.name})" not in text] == []


def test_every_option_is_documented() -> None:
    table = page("configuration.md")
    assert [row.name for row in OPTIONS if not re.search(rf"`{row.name}[=`]", table)] == []


def test_every_variable_is_documented() -> None:
    code = "".join(path.read_text() for path in (ROOT / "procorefs").rglob("*.py"))
    used = set(re.findall(r"\"((?:PROCOREFS|XDG)_[A-Z]+(?:_[A-Z]+)*)\"", code))
    assert used
    assert {name for name in used if f"`{name}`" not in page("configuration.md")} == set()


def test_every_key_of_the_configuration_is_documented() -> None:
    keys = {*Config.__struct_fields__, *Profile.__struct_fields__} - {"profiles"}
    assert {key for key in keys if f"`{key}`" not in page("configuration.md")} == set()


def test_every_command_is_documented() -> None:
    assert [name for name in COMMANDS if not re.search(rf"`{name}[ `]", page("configuration.md"))] == []


def test_every_attribute_is_documented() -> None:
    names = attribute_names.READ_ONLY | {
        attribute_names.PRIVATE,
        attribute_names.TRACKED,
        *attribute_names.ALIASES,
    }
    table = page("attributes.md")
    prefix = attribute_names.PROCORE.rstrip(".")
    assert [
        name for name in names if f"`{name}`" not in table and f"`{name[len(prefix) :]}`" not in table
    ] == []


def test_every_errno_is_explained() -> None:
    source = Path(errno_table.__file__).read_text()
    used = set(re.findall(r"\berrno\.(E[A-Z]+)\b", source)) - WELL_KNOWN
    assert used
    shown = {name for name in used if f"`{name}`" in page("errors.md")}
    # EWOULDBLOCK is EAGAIN: one number, one name
    assert {number_of(name) for name in used - shown} <= {number_of(name) for name in shown}


def number_of(name: str) -> int:
    return int(getattr(errno, name))


WELL_KNOWN = {"ENOENT", "EEXIST", "EISDIR", "ENOTDIR", "ENOMEM"}
"""They mean here what they mean everywhere."""


PLACEHOLDER = re.compile(
    r"'?\b(?:X|N|FILE|NAME|HOST|PROGRAM)\b'?|…|/dev/fuse|/etc/fuse\.conf|`\w+`| \([^)]*\)|[:;]"
)


@pytest.mark.parametrize("section", ["Reasons from Procore", "Messages of the commands", "What the log says"])
def test_every_message_that_is_explained_exists(section: str) -> None:
    """Up to the values in it, a message stands in the code as it stands in the page."""
    rows = page("errors.md").partition(f"## {section}\n")[2].partition("\n## ")[0]
    messages = [
        line.split(" | ")[0].removeprefix("| ") for line in rows.splitlines() if line.startswith("| ")
    ][1:]
    assert messages
    known = texts_of_the_code()
    fragments = {part.strip() for message in messages for part in PLACEHOLDER.split(message)}
    assert {part for part in fragments if part.lower() not in known} == set()


@functools.cache
def texts_of_the_code() -> str:
    """All strings in lower case, each with a mark where a value goes in."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "procorefs").rglob("*.py"))
    return "\n".join(text for tree in trees for text in strings_in(tree)).lower()


def strings_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
