"""Which names Procore may take for one, and which document of a name a call of ours may have made."""

from pathlib import Path
from typing import Any, cast

import pytest

from procorefs.procore.wire.models import Document
from procorefs.tree.nodes import ROOT
from procorefs.upload.sending.name_conflicts import Likeness, NameConflict, NameConflicts, likeness_of
from tests.support.offline_project import offline_project
from tests.support.tree_documents import file, folder


@pytest.mark.parametrize(
    ("one", "other", "likeness"),
    [
        ("plan.txt", "plan.txt", Likeness.SAME),
        ("Pl\u00e4ne", "Pla\u0308ne", Likeness.COMPOSED),
        ("Plan.TXT", "plan.txt", Likeness.SIMILAR),
        ("two  blanks", "two blanks", Likeness.SIMILAR),
        (" blank", "blank", Likeness.SIMILAR),
        ("PLA\u0308NE", "pl\u00e4ne", Likeness.SIMILAR),
        ("\uff21.txt", "a.txt", Likeness.SIMILAR),
        ("plan.txt", "plan.pdf", None),
        ("plan", "plane", None),
        ("Plane", "Pl\u00e4ne", None),
    ],
)
def test_how_much_names_are_alike(one: str, other: str, likeness: Likeness | None) -> None:
    assert likeness_of(one, other) is likeness
    assert likeness_of(other, one) is likeness


async def test_what_another_change_has_was_made_by_no_call_of_this_one(tmp_path: Path) -> None:
    """Its bytes may be the same: a save, or an empty file."""

    def conflict(document: Document) -> NameConflict:
        return NameConflict(document, Likeness.SAME)

    with offline_project(tmp_path) as project:
        project.list_root(file(7, "old.dwg"))
        new = project.change(project.put("new.dwg", b"the plan"))
        unused = cast(Any, None)
        conflicts = NameConflicts(project.store, project.view, unused, unused)
        there = file(7, "new.dwg")
        assert conflicts.maybe_made(conflict(there), new) is there
        assert conflicts.maybe_made(conflict(folder(8, "new.dwg")), new) is None
        project.edits.entries.rename(ROOT, b"old.dwg", ROOT, b"other.dwg")
        assert conflicts.maybe_made(conflict(there), new) is None
