"""What many documents cost: memory of the daemon, and time to mount what is known already."""

import statistics
import time
from collections.abc import Iterator

from procorefs.procore.wire.models import Document, DocumentId, Kind, Person, UserId, Version, VersionId
from procorefs.tree.document_detail import encode_detail
from procorefs.tree.nodes import ROOT, Inode, State
from procorefs.tree.rows import Row
from procorefs.tree.sync.completeness import Completeness
from procorefs.tree.tree_store import TreeStore
from scripts.bench import work
from scripts.bench.mounts import Mount
from scripts.bench.place import Place
from scripts.bench.results import Figure, at_most

MOUNTS = 5
FOLDER_FILES = 199
TOP_FOLDERS = 50
FIRST_DOCUMENT = 1_000_000_000
"""Far from the sandbox's own ids."""


def memory(place: Place) -> Iterator[Figure]:
    """A project that the server lists."""
    mount, count = place.large_mount, place.sizes.documents
    mount.mount()
    mount.wait_until_listed()
    mount.unmount()
    yield from _warm(mount, count, most_mib=200, most_s=1)


def million(place: Place) -> Iterator[Figure]:
    """A tree filled directly, in a project of which the server has nothing."""
    count = place.sizes.most_documents
    mount = place.new_mount("million", place.new_sandbox("empty"))
    mount.mount()
    mount.wait_until_listed()
    mount.unmount()
    fill(TreeStore.open(mount.tree_file), count)
    yield from _warm(mount, count, most_mib=600, most_s=2)


def _warm(mount: Mount, count: int, *, most_mib: int, most_s: float) -> Iterator[Figure]:
    times_s = []
    for turn in range(MOUNTS):
        times_s.append(mount.timed_mount())
        if turn < MOUNTS - 1:
            mount.unmount()
    yield Figure(
        f"warm mount to the first ls, {count:,} documents",
        statistics.median(times_s),
        "s",
        at_most(most_s, "s"),
    )
    took_s = work.walk(mount.path, int(count * 0.99))
    yield Figure(
        f"daemon's VmRSS after a walk of {count:,} documents",
        mount.resident_bytes() / 1e6,
        "MB",
        at_most(most_mib, "MB"),
        note=f"walk {took_s:.1f} s",
    )
    mount.unmount()


def fill(store: TreeStore, count: int) -> None:
    """Add documents in folders of folders; the totals are kept so that the next poll finds nothing missing."""
    now_s = int(time.time()) - 86_400
    known, listing_pass = store.sync.read().total, store.sync.read().listing_pass
    total = store.counts.live() + (known.total - known.rows.live if known is not None else 0)
    document_id = FIRST_DOCUMENT
    with store.transaction():
        folder = top = ROOT
        for number in range(count):
            document_id += 1
            if number % (count // TOP_FOLDERS) == 0:
                folder = top = _insert(
                    store, ROOT, document_id, f"{number:07d} Building", now_s, listing_pass
                )
            elif number % (FOLDER_FILES + 1) == 1:
                folder = _insert(store, top, document_id, f"{number:07d} Drawings", now_s, listing_pass)
            else:
                name = f"A-{number:07d} Floor plan and reflected ceiling.pdf"
                _insert(store, folder, document_id, name, now_s, listing_pass, is_file=True)
        store.set_all_listed()
        with store.sync.change() as state:
            Completeness(store).begin(state, total, is_balanced=True, keeps_countings=True)
    store.close()


def _insert(
    store: TreeStore,
    folder: Inode,
    number: int,
    name: str,
    now_s: int,
    listing_pass: int,
    *,
    is_file: bool = False,
) -> Inode:
    person = Person(UserId(5001), "Robin Keller", "robin.keller@example.com")
    document_id = DocumentId(number)
    version = None
    if is_file:
        url = f"https://storage.example.com/v4/d/us-east-1/pro-core.com/companies/8801/{number:026d}?sig=0123456789abcdef"
        version = Version(VersionId(number), 1, 1_000_000 + number % 1_000_000, now_s, url, person)
    document = Document(
        id=document_id,
        parent_id=None,
        name=name,
        kind=Kind.FILE if is_file else Kind.FOLDER,
        created_at_s=now_s,
        updated_at_s=now_s,
        created_by=person,
        read_only=False,
        deleted=False,
        recycle_bin=False,
        tracked=False,
        private=False,
        description="",
        file_type="pdf" if is_file else "",
        checked_out_by=None,
        checked_out_until_s=None,
        custom_fields={},
        version=version,
    )
    row = Row(
        parent=folder,
        shown=name.encode(),
        name=name,
        document_id=document_id,
        kind=document.kind,
        state=State.LIVE,
        read_only=False,
        private=False,
        created_at_s=now_s,
        updated_at_s=now_s,
        version=version,
        defect="",
        detail=encode_detail(document, None),
        listing_pass=listing_pass,
    )
    return store.insert(row)
