"""Prints all output of commands, with control characters in untrusted names escaped."""

import sys
from typing import TYPE_CHECKING

import msgspec

from procorefs.storage.printable import printable

if TYPE_CHECKING:
    from rich.console import Console


def say(*lines: str, to_stderr: bool = False) -> None:
    """Print lines. A line break in one of them, as in a name, begins no line. Raises OSError, as BrokenPipeError."""
    text = "\n".join(map(printable, lines))
    print(text, file=sys.stderr if to_stderr else sys.stdout, flush=to_stderr)


def say_json(value: object) -> None:
    """Print a value as one line of JSON."""
    say(msgspec.json.encode(value).decode())


def console(*, to_stderr: bool = False, soft_wrap: bool = False, breaks_pipes: bool = False) -> "Console":
    """rich's console; escapes the text that it prints and keeps its own colours.

    It wraps lines on a terminal, and in a pipe or file only with `breaks_pipes`.
    """
    from rich.console import (  # slow to import
        Console,
        ConsoleOptions,
        ConsoleRenderable,
        RenderHook,
        RenderResult,
    )
    from rich.segment import Segment

    class Escaped:
        def __init__(self, inner: ConsoleRenderable) -> None:
            self._inner = inner

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for segment in console.render(self._inner, options):
                if segment.control:
                    yield segment
                else:
                    text = "\n".join(printable(line) for line in segment.text.split("\n"))
                    yield Segment(text, segment.style)

    class Hook(RenderHook):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            return [Escaped(one) for one in renderables]

    made = Console(stderr=to_stderr, highlight=False, soft_wrap=soft_wrap)
    if not made.is_terminal and not breaks_pipes:
        made = Console(stderr=to_stderr, highlight=False, soft_wrap=soft_wrap, width=1000)
    made.push_render_hook(Hook())
    return made
