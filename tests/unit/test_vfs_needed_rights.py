"""Which rights in Procore a rename and metadata need."""

import pytest

from procorefs.journal.change import Location, MetadataPatch
from procorefs.tree.nodes import ROOT, Inode
from procorefs.vfs.refusals import needed_to_rename, needed_to_set

HERE, FOLDER = Location(ROOT, "a"), Inode(7)


@pytest.mark.parametrize(
    ("was", "place", "rest", "needed"),
    [
        (HERE, Location(ROOT, "b"), {}, {"rename"}),
        (HERE, Location(FOLDER, "a"), {}, {"move"}),
        (HERE, Location(FOLDER, "b"), {}, {"rename", "move"}),
        (HERE, HERE, {}, set()),
        (HERE, Location(ROOT, "~b.tmp"), {"is_sent": False}, set()),
        (HERE, Location(ROOT, "b"), {"replaces_document": True}, {"delete", "write"}),
        (HERE, Location(ROOT, "b"), {"replaces_document": True, "is_folder": True}, {"delete", "rename"}),
        (None, Location(ROOT, "b"), {}, {"write"}),
        (None, Location(ROOT, "b"), {"replaces_document": True}, {"write"}),
        (None, Location(ROOT, "b"), {"replaces_document": True, "is_folder": True}, {"delete", "write"}),
    ],
)
def test_renames(was: Location | None, place: Location, rest: dict[str, bool], needed: set[str]) -> None:
    usual = {"is_folder": False, "replaces_document": False, "is_sent": True}
    assert needed_to_rename(was, place, **(usual | rest)) == needed


def test_metadata_that_was_not_wanted_before() -> None:
    patch = MetadataPatch(description="x", private=True, tags=["a"], custom_fields={7: 1})
    assert needed_to_set(patch, MetadataPatch()) == {"describe", "set_private", "write"}
    assert needed_to_set(patch, MetadataPatch(description="x", tags=["a"], custom_fields={7: 1})) == {
        "set_private"
    }
    assert needed_to_set(MetadataPatch(), patch) == set()
