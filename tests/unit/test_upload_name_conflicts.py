"""Which names Procore may take for one."""

import pytest

from procorefs.upload.sending.name_conflicts import Likeness, likeness_of


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
