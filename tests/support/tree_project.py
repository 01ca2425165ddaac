"""A project in memory that answers as Procore does, in every dialect that the contract leaves open."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from procorefs.limiter import Priority
from procorefs.procore.errors import NotFound
from procorefs.procore.wire.models import Document, DocumentId, FolderListing, Kind, Page, Version, VersionId

ROOT_ID, BIN_ID = 1, 2


@dataclass(frozen=True)
class Habits:
    """One answer to each open question of procore-api.md."""

    root_listed: bool = True
    bin_listed: bool = True
    deleted_listed: bool = False
    """Without a filter the bin's contents are in the list."""
    deleted_parent: str = "bin"  # or "old"
    below_deleted: str = "deleted"  # or "living", "hidden"
    bin_hidden: bool = False
    """The account may not see the bin: what is in it, and below what is in it, is left out everywhere."""
    delete_touches: bool = True
    delete_touches_below: bool = False
    restore_touches: bool = True
    move_touches: bool = True
    ties_upwards: bool = True
    per_page_cap: int = 100
    folder_reads: bool = True
    """There are lists of what is below a folder."""
    total: Callable[[int], int | None] = lambda count: count
    tells_time: bool = False
    """Answers have a Date."""
    next_only: bool = False
    """The answer says what follows, as by Link; otherwise the total does."""

    @classmethod
    def any(cls, random: random.Random) -> "Habits":
        choose = random.choice
        return cls(
            root_listed=choose((True, False)),
            bin_listed=choose((True, False)),
            deleted_listed=choose((True, False)),
            deleted_parent=choose(("bin", "old")),
            below_deleted=choose(("deleted", "living", "hidden")),
            delete_touches=choose((True, True, False)),
            delete_touches_below=choose((True, False)),
            restore_touches=choose((True, True, False)),
            move_touches=choose((True, True, False)),
            ties_upwards=choose((True, False)),
            per_page_cap=choose((3, 10, 100)),
            tells_time=choose((True, False)),
        )


@dataclass
class Item:
    id: int
    parent: int | None
    name: str
    kind: Kind
    created_s: int
    updated_s: int
    deleted: bool = False
    versions: list[Version] = field(default_factory=list)


class Project:
    """What others do in it, and the two lists that the tree asks for."""

    def __init__(self, habits: Habits, *, now_s: int = 1_700_000_000) -> None:
        self.habits = habits
        self.now_s = now_s
        self.calls = 0
        self.index_route = 0
        self.before_answer: Callable[[], None] = lambda: None
        """Something that happens between the asking and the answer."""
        self.left_out: set[int] = set()
        """Documents that lists without a filter leave out, by mistake."""
        self.items: dict[int, Item] = {}
        self._next = 10
        for number, parent, name in ((ROOT_ID, None, "Documents"), (BIN_ID, ROOT_ID, "Recycle Bin")):
            self.items[number] = Item(number, parent, name, Kind.FOLDER, now_s - 1000, now_s - 1000)

    # What others do

    def create(self, kind: Kind, parent: int, name: str) -> int:
        number = self._next
        self._next += 1
        item = Item(number, parent, name, kind, self.now_s, self.now_s)
        self.items[number] = item
        if kind is Kind.FILE:
            self.add_version(number)
        return number

    def add_version(self, number: int) -> None:
        item = self.items[number]
        version_id = self._next
        self._next += 1
        url = f"https://store.example/{version_id}"
        item.versions.append(
            Version(VersionId(version_id), len(item.versions) + 1, version_id, self.now_s, url)
        )
        item.updated_s = self.now_s

    def rename(self, number: int, name: str) -> None:
        self.items[number].name = name
        self.items[number].updated_s = self.now_s

    def move(self, number: int, parent: int) -> None:
        self.items[number].parent = parent
        if self.habits.move_touches:
            self.items[number].updated_s = self.now_s

    def delete(self, number: int) -> None:
        self.items[number].deleted = True
        if self.habits.delete_touches:
            self.items[number].updated_s = self.now_s
        if self.habits.delete_touches_below:
            for below in self.below(number):
                below.updated_s = self.now_s

    def restore(self, number: int) -> None:
        self.items[number].deleted = False
        if self.habits.restore_touches:
            self.items[number].updated_s = self.now_s

    def purge(self, number: int) -> None:
        for below in list(self.below(number)):
            del self.items[below.id]
        del self.items[number]

    # What is true

    def below(self, number: int) -> Iterator[Item]:
        for item in list(self.items.values()):
            if item.id != number and number in self.above(item.id):
                yield item

    def above(self, number: int) -> list[int]:
        found = []
        at = self.items[number].parent
        while at is not None:
            found.append(at)
            at = self.items[at].parent
        return found

    def buried(self, item: Item) -> bool:
        return any(self.items[above].deleted for above in self.above(item.id))

    def living(self) -> dict[int, Item]:
        """All that a mount must show, the root not among it."""
        return {
            item.id: item
            for item in self.items.values()
            if item.id not in (ROOT_ID, BIN_ID) and not item.deleted and not self.buried(item)
        }

    # What Procore answers

    async def documents_page(
        self,
        *,
        page: int,
        per_page: int,
        sort: str = "",
        updated_to_s: int | None = None,
        in_recycle_bin: bool | None = None,
        priority: Priority,  # noqa: ARG002 - asked of every list
        on_sent: Callable[[], None] | None = None,
    ) -> Page[Document]:
        assert sort == "-updated_at"
        self.calls += 1
        if on_sent is not None:
            on_sent()
        self.before_answer()
        listed = [item for item in self.items.values() if self._is_listed(item, in_recycle_bin)]
        if updated_to_s is not None:
            listed = [item for item in listed if item.updated_s <= updated_to_s]
        sign = 1 if self.habits.ties_upwards else -1
        listed.sort(key=lambda item: (-item.updated_s, sign * item.id))
        size = min(per_page, self.habits.per_page_cap)
        chosen = listed[(page - 1) * size : page * size]
        total = self.habits.total(len(listed))
        more = page * size < len(listed)
        next_page = page + 1 if more else None
        asked_at_s = self.now_s if self.habits.tells_time else None
        return Page([self.document(item) for item in chosen], total, size, next_page, asked_at_s=asked_at_s)

    async def below_page(
        self,
        folder_id: DocumentId,
        *,
        page: int,
        per_page: int,
        priority: Priority,  # noqa: ARG002 - asked of every list
        on_sent: Callable[[], None] | None = None,
    ) -> Page[Document]:
        self.calls += 1
        if on_sent is not None:
            on_sent()
        self.before_answer()
        if not self.habits.folder_reads:
            raise NotFound("Could not list what is below the folder: there is no such call")
        below = [item for item in self.below(folder_id) if not item.deleted and not self.buried(item)]
        size = min(per_page, self.habits.per_page_cap)
        items = [self.document(item) for item in below[(page - 1) * size : page * size]]
        following = page + 1 if page * size < len(below) else None
        return Page(items, len(below), size, following)

    async def folder(
        self,
        folder_id: DocumentId | None,
        *,
        priority: Priority,  # noqa: ARG002 - asked of every list
        on_sent: Callable[[], None] | None = None,
    ) -> FolderListing:
        self.calls += 1
        if on_sent is not None:
            on_sent()
        self.before_answer()
        number = ROOT_ID if folder_id is None else folder_id
        item = self.items.get(number)
        if item is None or (self.habits.bin_hidden and (item.deleted or self.buried(item))):
            raise NotFound("Could not list the folder: it does not exist")
        children = [
            replace_unknown(self.document(item))
            for item in self.items.values()
            if item.parent == number and not item.deleted and item.id != BIN_ID
        ]
        return FolderListing(self.document(self.items[number]), children)

    def document(self, item: Item) -> Document:
        habits = self.habits
        flagged = item.deleted or (habits.below_deleted == "deleted" and self.buried(item))
        in_bin = item.deleted and habits.deleted_parent == "bin"
        return Document(
            id=DocumentId(item.id),
            parent_id=DocumentId(BIN_ID)
            if in_bin
            else None
            if item.parent is None
            else DocumentId(item.parent),
            name=item.name,
            kind=item.kind,
            created_at_s=item.created_s,
            updated_at_s=item.updated_s,
            created_by=None,
            read_only=False,
            deleted=flagged,
            recycle_bin=item.id == BIN_ID,
            tracked=None,
            private=None,
            description="",
            file_type="",
            checked_out_by=None,
            checked_out_until_s=None,
            custom_fields={},
            version=item.versions[-1] if item.versions else None,
        )

    def _is_listed(self, item: Item, in_recycle_bin: bool | None) -> bool:
        habits = self.habits
        if item.id in self.left_out and not in_recycle_bin:
            return False
        buried = self.buried(item)
        if habits.bin_hidden and (item.deleted or buried or item.id == BIN_ID or in_recycle_bin):
            return False
        if buried and habits.below_deleted == "hidden":
            return False
        deleted = item.deleted or (buried and habits.below_deleted == "deleted")
        if in_recycle_bin:
            return deleted
        if item.id == ROOT_ID:
            return habits.root_listed
        if item.id == BIN_ID:
            return habits.bin_listed
        return habits.deleted_listed or not deleted

    def pages(self) -> int:
        """Calls that a full listing must take."""
        listed = sum(self._is_listed(item, None) for item in self.items.values())
        return max(1, math.ceil(listed / self.habits.per_page_cap))


def replace_unknown(document: Document) -> Document:
    """As a folder's listing tells it: not who made it, when, and whether it is read-only."""
    import msgspec

    return msgspec.structs.replace(document, created_at_s=0, read_only=None, created_by=None)


__all__ = ["BIN_ID", "ROOT_ID", "Habits", "Item", "Project", "replace"]
