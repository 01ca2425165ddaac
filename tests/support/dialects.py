"""Draws Procores that answer open questions of the contract in other ways, each from a seed."""

import random
from typing import Any, Literal, get_args, get_origin, get_type_hints

from procorefs.sandbox.faults.dialect import Dialect

NOT_DRAWN = {
    "empty_files",
    "strict_types",
    "authorize_page",
    "checks_code_verifier",
    "token_owner",
    "tool_name",
}
"""They decide what a workload may do at all, or are about another login."""


def choices() -> dict[str, tuple[Any, ...]]:
    """The answers to each open question beside the usual one."""
    usual, found = Dialect(), {}
    for name, kind in get_type_hints(Dialect).items():
        answers = (True, False) if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()
        others = tuple(answer for answer in answers if answer != getattr(usual, name))
        if others and name not in NOT_DRAWN:
            found[name] = others
    return found


def drawn_dialect(seed: int, part: float = 0.5) -> dict[str, Any]:
    """About that part of all open questions answered otherwise than usual, and never so that nothing works."""
    draw = random.Random(f"dialect {seed}")
    dialect = {name: draw.choice(others) for name, others in choices().items() if draw.random() < part}
    if dialect.get("documents_lists") == "none":
        dialect.pop("folder_reads", None)
    if "empty_text_clears" in dialect:
        dialect.pop("null_clears_description", None)
    return dialect
