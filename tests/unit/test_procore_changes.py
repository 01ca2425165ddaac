"""What a change sends: its fields, and nothing that was not set."""

import msgspec
import pytest

from procorefs.procore.api.changes import FileChange, FolderChange, cleared_by, fields_of, moment
from procorefs.procore.wire.models import DocumentId


def test_only_what_is_set_is_sent() -> None:
    assert fields_of(FileChange()) == {}
    assert fields_of(FolderChange(name="a", private=False)) == {"name": "a", "explicit_permissions": False}
    everything = FileChange(
        parent_id=DocumentId(5),
        name="a",
        upload_uuid="u",
        description="d",
        checked_out_until_s=1_483_565_238,
        tracked=True,
        private=True,
        custom_fields={3: "x", 4: 1.5, 5: False, 6: [1, 2], 7: 8},
    )
    assert fields_of(everything) == {
        "parent_id": 5,
        "name": "a",
        "upload_uuid": "u",
        "description": "d",
        "checked_out_until": "2017-01-04T21:27:18Z",
        "is_tracked": True,
        "explicit_permissions": True,
        "custom_field_3": "x",
        "custom_field_4": 1.5,
        "custom_field_5": False,
        "custom_field_6": [1, 2],
        "custom_field_7": 8,
    }
    assert cleared_by(everything) == set()


def test_none_is_a_value_of_its_own() -> None:
    assert fields_of(FileChange(parent_id=None)) == {"parent_id": None}
    assert fields_of(FileChange(checked_out_until_s=None)) == {"checked_out_until": None}


def test_what_is_cleared_is_an_empty_text() -> None:
    change = FileChange(name="", description="", custom_fields={1: None, 2: "", 3: [], 4: 0, 5: False})
    assert {name: value for name, value in fields_of(change).items() if value == ""} == {
        "name": "",
        "description": "",
        "custom_field_1": "",
        "custom_field_2": "",
        "custom_field_3": "",
    }
    assert cleared_by(change) == {"description", "custom_field_1", "custom_field_2", "custom_field_3"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_say_is_a_mistake(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        fields_of(FileChange(custom_fields={1: number}))


@pytest.mark.parametrize(
    "change",
    [
        FileChange(),
        FileChange(parent_id=None, checked_out_until_s=None, description=""),
        FileChange(name="ä", custom_fields={1: None, 2: [3], 4: True, 5: 1.5, 6: "x", 7: 8}),
        FileChange(parent_id=DocumentId(5), checked_out_until_s=7, tracked=False),
    ],
)
def test_a_change_can_be_kept_as_json(change: FileChange) -> None:
    assert msgspec.json.decode(msgspec.json.encode(change), type=FileChange) == change


def test_times_are_whole_seconds_in_utc() -> None:
    assert moment(0) == "1970-01-01T00:00:00Z"
