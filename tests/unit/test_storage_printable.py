"""Names of others neither drive the terminal nor forge lines of the log."""

import ast
import json
import logging
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from procorefs.cli.mounts.daemonize import log_to_stderr
from procorefs.cli.support import terminal
from procorefs.cli.support.error_output import complain
from procorefs.storage.printable import printable, shell_word

PRODUCT = Path(__file__).resolve().parents[2] / "procorefs"
CLI = PRODUCT / "cli"

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\rb\u202egnp.exe\u2066\x9b2J\u2028c\x7f\x00\U000e0001"


@given(st.text())
def test_what_comes_out_is_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() for character in shown)
    if text.isprintable():
        assert shown == text


@given(st.dictionaries(st.text(), st.text()))
def test_json_means_the_same(value: dict[str, str]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert json.loads(printable(text)) == value


def hostile_in(text: str) -> set[str]:
    return {character for character in text if not character.isprintable()} - {"\n"}


def test_lines_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(HOSTILE, "second")
    terminal.say_json({"name": HOSTILE})
    complain(f"{HOSTILE} cannot be used")
    said = capsys.readouterr()
    assert not hostile_in(said.out + said.err)
    assert said.out.count("\n") == 3
    assert json.loads(said.out.split("\n")[2]) == {"name": HOSTILE}


def test_a_line_break_in_a_name_begins_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = "Tower\nprocorefs: run: rm -rf ~\r\x0b\x85\u2029x"
    terminal.say(f"Logged in as {name}.")
    complain(f"{name} cannot be used")
    said = capsys.readouterr()
    assert said.out.count("\n") == said.err.count("\n") == 1
    assert said.out.startswith("Logged in as Tower\\nprocorefs: run")


def test_rich_prints_only_escaped_text() -> None:
    """It would break a line in the text of a cell or a paragraph before anything could escape it."""
    wrong = []
    for file in CLI.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("Text", "Text.from_markup"):
                continue
            if not ast.unparse(node.args[0]).startswith("printable("):
                wrong.append(f"{file.name}:{node.lineno}")
    assert not wrong


def test_tables_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    console = terminal.console()
    table = Table("NAME")
    table.add_row(Text(HOSTILE))
    console.print(table)
    console.print(Text(HOSTILE, style="bold"))
    assert not hostile_in(capsys.readouterr().out)


def test_lines_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    try:
        log_to_stderr()
        logging.getLogger("procorefs.test").warning("%s is refused", "a\n2026-01-01 INFO procorefs: forged")
        try:
            raise OSError(HOSTILE)
        except OSError:
            logging.getLogger("procorefs.test").exception("failed")
    finally:
        root.handlers[:], logging.raiseExceptions = handlers, raises
        root.setLevel(level)
    said = capsys.readouterr().err
    assert not hostile_in(said)
    first, second, *trace = said.rstrip("\n").split("\n")
    assert "forged" in first
    assert second.endswith("failed")
    assert all(line.startswith("  ") for line in trace)


def test_commands_print_nothing_in_another_way() -> None:
    wrong = []
    for file in CLI.rglob("*.py"):
        if file.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                is_usage = called == "print" and "USAGE" in ast.unparse(node)
                if (
                    called in ("print", "click.echo", "click.secho", "Console", "sys.stdout.write")
                    and not is_usage
                ):
                    wrong.append(f"{file.name}:{node.lineno} {called}")
    assert not wrong


@given(st.text() | st.sampled_from(["$(touch x)", "a'b", "; ls", "-l", "/plain/path", "`id`", "a\nb", ""]))
def test_a_path_in_a_command_is_one_word_and_nothing_is_run(text: str) -> None:
    word = shell_word(text)
    assert word.isprintable()
    assert shlex.split(word) == [printable(text)]


def test_every_path_in_a_command_that_is_shown_is_quoted() -> None:
    """In sentences with `procorefs COMMAND PATH` and after "run:"."""
    shown = re.compile(
        r"(?:`(?:procorefs|fusermount3)|run: (?:umount|mkdir|chmod))[^`\"]*?\{(?!shell_word)(\w[\w.]*)"
    )
    found = {
        (path.name, match[1])
        for path in PRODUCT.rglob("*.py")
        for match in shown.finditer(path.read_text())
        if "sandbox" not in path.parts
    }
    quoted_before = {("formatting.py", "path"), ("formatting.py", "place"), ("status_view.py", "place")}
    profile_names = {("spec.py", "known"), ("spec.py", "head")}
    assert found <= quoted_before | profile_names
