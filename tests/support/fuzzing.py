"""Settings and input of the fuzz tests: few fixed examples in `make test`, many new ones by `make fuzz`."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""Examples of each test; 0: a few, the same each time."""

FEW = 60
LONGEST_S = 5.0
"""CPU seconds that no parser needs for what it accepts, however slow the machine is."""

fuzz = settings(
    max_examples=EXAMPLES or FEW,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

ODD = (
    "",
    "\0",
    "\n",
    "\r\n",
    "\x1b]0;x\x07",
    "\u202e",
    "\ud800",
    "..",
    "/",
    "a" * 5000,
    "%s{}",
    "\\",
    '"',
    "\u0130",
)
HOSTILE_TEXT = st.sampled_from(ODD) | st.text(max_size=40)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, 10**400, 1e308, float("inf"), float("nan"), 0.5]
    ),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, HOSTILE_TEXT)


def nested(levels: int) -> Any:
    """Lists and objects in each other, so many."""
    value: Any = []
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE_TEXT, inner, max_size=4),
    max_leaves=12,
) | st.sampled_from([10, 60, 70, 300]).map(nested)


def json_bytes(value: Any) -> bytes:
    """JSON as a careless or hostile server writes it: NaN, huge numbers and lone surrogates included."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


def objects(names: list[str], more: st.SearchStrategy[Any] = JSON) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the names, each with a value of any kind."""
    return st.dictionaries(st.sampled_from(names) | HOSTILE_TEXT, more, max_size=len(names))


DEEP = (b"[" * 100_000, b'{"a":' * 100_000, b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
"""Nested until any decoder gives up."""


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of which some are replaced, left out or doubled."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 8))
        data[at : at + cut] = draw(st.binary(max_size=8))
    return bytes(data)


@contextmanager
def bounded() -> Iterator[None]:
    """Fail when the block takes longer than LONGEST_S of CPU time."""
    began_s = time.process_time()
    yield
    took_s = time.process_time() - began_s
    assert took_s < LONGEST_S, f"it took {took_s:.1f} s of CPU time"
