"""Documents as answers bring them, and a tree in a real file to apply them to, for tests."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from procorefs.procore.wire.models import (
    Document,
    DocumentId,
    FolderListing,
    Kind,
    Person,
    UserId,
    Version,
    VersionId,
)
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.document_writer import Applied
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.tree.request_order import Request
from procorefs.tree.tree_store import TreeStore
from tests.support.local_work import ME, Inside

ROOT_ID = 1
SOMEBODY = Person(UserId(5), "Sam", "sam@example.com")


def version(number: int, *, size_bytes: int = 10) -> Version:
    return Version(VersionId(number), 1, size_bytes, 1000 + number, f"https://store.example/{number}")


def file(number: int, name: str, parent: int | None = ROOT_ID, **changes: Any) -> Document:
    return document(number, name, parent, **({"kind": Kind.FILE, "version": version(number)} | changes))


def folder(number: int, name: str, parent: int | None = ROOT_ID, **changes: Any) -> Document:
    return document(number, name, parent, **changes)


def document(number: int, name: str, parent: int | None, **changes: Any) -> Document:
    made = Document(
        id=DocumentId(number),
        parent_id=None if parent is None else DocumentId(parent),
        name=name,
        kind=Kind.FOLDER,
        created_at_s=1000,
        updated_at_s=2000,
        created_by=SOMEBODY,
        read_only=False,
        deleted=False,
        recycle_bin=False,
        tracked=False,
        private=False,
        description="",
        file_type="",
        checked_out_by=None,
        checked_out_until_s=None,
        custom_fields={},
        version=None,
    )
    return msgspec.structs.replace(made, **changes)


class ListedTree:
    """A tree whose root is listed, and what applies answers to it."""

    def __init__(self, path: Path) -> None:
        self.store = TreeStore(path)
        self.open: set[Inode] = set()
        self.applier = DocumentApplier(self.store, Inside(self.open), ME)
        self.list_folder(ROOT, folder(ROOT_ID, "Documents", None))

    def apply(self, *documents: Document, request: Request | None = None, **options: Any) -> Applied:
        """An answer with these documents: to a request of this moment, or to one that was sent before."""
        options = {"listing_pass": 1} | options
        if request is not None:
            return self.applier.apply(documents, request=request, **options)
        with self.applier.order.reading() as request:
            return self.applier.apply(documents, request=request, **options)

    def list_folder(self, inode: Inode, of: Document, *children: Document, refused: int = 0) -> Applied:
        listing = FolderListing(of, list(children), refused)
        with self.applier.order.reading() as request:
            return self.applier.apply_folder(listing, inode, request=request, listing_pass=1)

    def apply_deleted(self, *documents: Document) -> Applied:
        with self.applier.order.reading() as request:
            return self.applier.apply_deleted(documents, request=request)

    def paths(self, at: Inode = ROOT, above: str = "") -> dict[str, int | None]:
        """Path -> document."""
        found: dict[str, int | None] = {}
        for node in self.store.children(at):
            path = above + node.shown.decode()
            found[path] = node.document_id
            found |= self.paths(node.inode, path + "/")
        return found

    def of(self, number: int) -> Node:
        known = self.store.known(DocumentId(number))
        assert known is not None
        return known.node

    def inodes(self, numbers: Iterable[int]) -> list[Inode]:
        return [self.of(number).inode for number in numbers]
