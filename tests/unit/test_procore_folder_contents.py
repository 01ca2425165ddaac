"""What really lies below a folder: nothing that lives is missed."""

from procorefs.procore.api.folder_contents import sort_out
from procorefs.procore.wire.models import Document, DocumentId, Kind

FOLDER = DocumentId(1)


def document(
    number: int, parent: int | None, *, deleted: bool = False, recycle_bin: bool = False
) -> Document:
    return Document(
        id=DocumentId(number),
        parent_id=None if parent is None else DocumentId(parent),
        name=str(number),
        kind=Kind.FOLDER,
        created_at_s=0,
        updated_at_s=0,
        created_by=None,
        read_only=None,
        deleted=deleted,
        recycle_bin=recycle_bin,
        tracked=None,
        private=None,
        description="",
        file_type="",
        checked_out_by=None,
        checked_out_until_s=None,
        custom_fields={},
        version=None,
    )


def living(*listed: Document, binned: tuple[int, ...] = ()) -> list[int]:
    return [found.id for found in sort_out(listed, FOLDER, {DocumentId(number) for number in binned}).living]


def test_the_folder_itself_is_not_below_itself() -> None:
    assert living(document(1, None), document(2, 1), document(3, 2)) == [2, 3]
    assert living(document(2, 1), document(3, 2), document(2, 1)) == [2, 3]


def test_the_deleted_and_what_lies_below_them() -> None:
    assert living(document(2, 1, deleted=True), document(3, 2), document(4, 3), document(5, 1)) == [5]
    assert living(document(9, None, recycle_bin=True), document(2, 9), document(3, 2)) == []


def test_parents_that_the_list_does_not_show() -> None:
    listed = [document(3, 2), document(4, 3), document(6, 5)]
    found = sort_out(listed, FOLDER)
    assert ([one.id for one in found.living], found.unknown_parents) == ([3, 4, 6], {2, 5})
    assert living(*listed, binned=(2,)) == [6]
    assert living(*listed, binned=(3,)) == [6]
    assert living(*listed, binned=(99,)) == [3, 4, 6]


def test_what_cannot_be_placed_counts_as_living() -> None:
    assert living(document(2, None), document(3, 4), document(4, 3)) == [2, 3, 4]
