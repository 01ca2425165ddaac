"""What a mount costs of the API's budget, counted by the sandbox."""

import math
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.bench import work
from scripts.bench.embedded import Sandbox
from scripts.bench.mounts import Mount
from scripts.bench.place import Place
from scripts.bench.results import Figure, at_most

WALK_SURPLUS = 5
LOOKS_MOST = 2
WALK_MOST = 2
LOOK_DUE_S = 1.0


def calls(place: Place) -> Iterator[Figure]:
    """Listings of a large project, looks at a large and a small one, and bytes."""
    large = place.large
    yield from _first_mount(place, large, place.large_mount)
    yield from _later_walks(place, large, place.large_mount)
    yield _look(large, place.large_mount, place.sizes.documents)
    yield _capped_walk(place, large)
    few = place.new_sandbox("few", "--seed", str(place.sizes.few_documents + _FOLDERS_BESIDE))
    mount = place.new_mount("few", few)
    yield _reading(place, few, mount)
    mount.unmount()
    yield _look(few, mount, place.sizes.few_documents)
    yield _look_after_import(place)


_FOLDERS_BESIDE = 400
"""Folders are documents too: with so many more there are files enough to read."""


def _first_mount(place: Place, sandbox: Sandbox, mount: Mount) -> Iterator[Figure]:
    per_page, total = sandbox.granted_page()
    sandbox.reset_calls()
    mount.mount()
    subprocess.run(["ls", mount.path], stdout=subprocess.DEVNULL, check=True)
    yield Figure(
        f"first ls of the root, {place.sizes.documents:,} documents", sandbox.calls(), "calls", at_most(4)
    )
    yield _walk_figure(sandbox, mount, per_page, total)
    yield Figure(
        f"daemon's VmRSS after the first walk, {place.sizes.documents:,} documents",
        mount.resident_bytes() / 1e6,
        "MB",
        at_most(200, "MB"),
    )


def _walk_figure(sandbox: Sandbox, mount: Mount, per_page: int, total: int) -> Figure:
    took_s = work.walk(mount.path, 0)
    most = math.ceil(total / per_page) + WALK_SURPLUS
    return Figure(
        f"complete first walk, pages of {per_page:,}",
        sandbox.calls(),
        "calls",
        at_most(most),
        note=f"{took_s:.1f} s",
    )


def _later_walks(place: Place, sandbox: Sandbox, mount: Mount) -> Iterator[Figure]:
    entries = int(place.sizes.documents * 0.99)
    sandbox.reset_calls()
    work.walk(mount.path, entries)
    yield Figure("second walk", sandbox.calls(), "calls", at_most(WALK_MOST))
    mount.unmount()
    sandbox.reset_calls()
    mount.mount()
    work.walk(mount.path, entries)
    yield Figure("walk after unmount and mount", sandbox.calls(), "calls", at_most(WALK_MOST))
    mount.unmount()


def _capped_walk(place: Place, sandbox: Sandbox) -> Figure:
    """The same with a server that grants small pages."""
    sandbox.cap_pages(place.sizes.low_cap)
    per_page, total = sandbox.granted_page()
    mount = place.new_mount("capped", sandbox)
    sandbox.reset_calls()
    mount.mount()
    figure = _walk_figure(sandbox, mount, per_page, total)
    mount.unmount()
    sandbox.cap_pages(None)
    return figure


def _look(sandbox: Sandbox, mount: Mount, documents: int) -> Figure:
    """The dearest look: without a change, after a new file, and after a deletion."""
    mount.mount(f"freshness={LOOK_DUE_S:g}")
    mount.wait_until_listed()
    _names(mount)
    name = "Bench note.txt"
    changes: tuple[dict[str, str], ...] = (
        {},
        {"op": "put", "path": f"/{name}", "text": "Pour the slab 20 mm higher.\n"},
        {"op": "delete", "path": f"/{name}"},
    )
    dearest = 0
    for change in changes:
        if change:
            sandbox.act(**change)
        time.sleep(LOOK_DUE_S * 1.2)
        sandbox.reset_calls()
        names = _names(mount)
        dearest = max(dearest, sandbox.calls())
    if name in names:
        raise work.Incomplete(f"the look did not see that {name} was deleted")
    mount.unmount()
    return Figure(
        f"a poll for changes, {documents:,} documents",
        dearest,
        "calls",
        at_most(LOOKS_MOST),
        note="the most expensive of three",
    )


def _look_after_import(place: Place) -> Figure:
    """All documents changed in the same seconds, so by their times none is older than the others."""
    sandbox, mount = place.imported, place.imported_mount
    mount.mount()
    mount.wait_until_listed()
    mount.unmount()
    sandbox.reset_calls()
    mount.mount()
    _names(mount)
    looked = sandbox.calls()
    mount.unmount()
    what = f"the first poll after a remount, {place.sizes.entries:,} documents imported at once"
    return Figure(what, looked, "calls", at_most(LOOKS_MOST))


def _names(mount: Mount) -> set[str]:
    """The root's entries, by one opening of it."""
    return {path.name for path in mount.path.iterdir()}


def _reading(place: Place, sandbox: Sandbox, mount: Mount) -> Figure:
    """Right after a look, so that none falls due meanwhile: they are counted by themselves."""
    mount.mount()
    mount.wait_until_listed()
    found = subprocess.run(["find", mount.path, "-type", "f", "-print0"], stdout=subprocess.PIPE, check=True)
    files = [Path(os.fsdecode(name)) for name in found.stdout.split(b"\0")[:-1]][: place.sizes.few_documents]
    sandbox.reset_calls()
    began = time.perf_counter()
    size_bytes = sum(len(file.read_bytes()) for file in files)
    note = f"{size_bytes / 1e6:.0f} MB in {time.perf_counter() - began:.1f} s"
    return Figure(f"reading {len(files):,} files", sandbox.calls(), "calls", at_most(0), note=note)
