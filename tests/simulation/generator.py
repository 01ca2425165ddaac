"""Makes histories: few names, so that they collide, and the ways in which programs save files."""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from tests.simulation.attributes import FIXED, KEYS, SETTABLE, TAGS, XDG_TAGS
from tests.simulation.names import (
    ENCODED,
    HELD_FOLDER,
    JUNK,
    LOCAL_FOLDERS,
    LOCKS,
    MADE_BY_OTHERS,
    REFUSED,
    REFUSED_TEMPORARY,
    SUBSTITUTES,
    TEMPORARY,
)
from tests.simulation.steps import Fault, FaultKind, History, Setting, Step

NAMES = ("a", "b", "c")
SLOTS = 3
SIZES = (0, 1, 5, 40, 300, 5000)
OFFSETS = (0, 0, 1, 7, 100, 4096)
LENGTHS, LONG = (30, 120), (120, 200)
"""Operations of programs in a history."""
LONG_EVERY = 20
"""Every so many seeds there is a long history."""
PAUSES_S = (0.0, 0.0, 0.0, 0.01, 0.1, 0.7, 1.5, 3.0, 10.0, 45.0, 400.0)


FEATURES: dict[str, float] = {
    "errors": 0.4,
    "lost": 0.35,
    "late": 0.25,
    "kill": 0.35,
    "power": 0.2,
    "colleague": 0.3,
    "clock": 0.2,
    "full": 0.15,
    "dialect": 0.5,
    "guard": 0.25,
    "rights": 0.15,
    "junk": 0.35,
    "before": 0.25,
    "encode": 0.2,
    "attributes": 0.3,
}
"""What fate may do, and in which part of the histories it does: requests that are refused and surely not done; those of
which nobody knows; those that are done later; the daemon killed; the power cut; a colleague's changes;
steps of the computer's wall clock; a disk that is full for a while; open
questions that Procore answers otherwise; a delete guard that holds a few deletions already; an account that is no
administrator. What programs do in some histories only: names that never go to Procore, or that it refuses; extended
attributes. And how it begins: with what a colleague made before; with `invalid_names=encode`."""

DIALECT: dict[str, tuple[Any, ...]] = {
    "documents_lists": ("without_company", "none"),
    "new_items_private": (True,),
    "root_in_list": (False,),
    "bin_folder_in_list": (False,),
    "bin_in_list": (True,),
    "deleted_parent": ("old",),
    "descendants": ("living", "hidden"),
    "descendants_touched": (True,),
    "delete_touches": (False,),
    "deleted_get": ("404",),
    "delete_status": (200,),
    "versions_order": ("oldest",),
    "child_touches_parent": (True,),
    "root_id_as_parent": (False,),
    "rename_touches": (False,),
    "check_out_touches": (False,),
    "delete_again": (204, 422),
    "patch_renumbers": (True,),
    "answered_versions": ("none",),
    "answered_lists": (False,),
    "version_authors": (False,),
    "used_upload": ("words", "unnamed", "missing", "conflict"),
    "invalid_status": (422,),
    "version_urls": ("api_bytes", "storage"),
}
"""The answers beside the usual ones. Those that programs would see as other names are not among them, and none that
makes versions which nobody sent: the contract says that only new bytes make one."""


_KINDS: dict[str, tuple[FaultKind, ...]] = {
    "errors": ("refused", "status_before"),
    "lost": ("lost_before", "lost_after", "status_after"),
    "late": ("late", "gateway"),
}
_MATCHES = ("change", "change", "POST", "PATCH", "PATCH", "DELETE", "upload", "storage", "look", "login")
_STATUSES: dict[FaultKind, tuple[int, ...]] = {
    "status_before": (404, 408, 425, 429, 429, 500, 502, 503, 504),
    "status_after": (500, 502, 504),
    "gateway": (504,),
}


class Generator:
    """One history from one seed. Without a feature of fate the programs' steps are the same."""

    def __init__(self, seed: int, features: Collection[str] = tuple(FEATURES)) -> None:
        self._seed = seed
        self._choose = random.Random(seed)
        self._length = self._choose.randint(*(LENGTHS if seed % LONG_EVERY else LONG))
        self._steps: list[Step] = []
        # Each history has its own habits: some are about folders, some about open files, some hardly pause.
        self._depth = self._choose.choice((1, 2, 2, 3))
        self._haste = self._choose.choice((0.3, 0.6, 0.9))
        self._names = NAMES[: self._choose.choice((2, 3, 3))]
        self._fate = random.Random(f"{seed}/fate")
        self._guard = random.Random(f"{seed}/guard")
        self._junk = random.Random(f"{seed}/junk")
        self._encode = random.Random(f"{seed}/encode")
        self._before = random.Random(f"{seed}/before")
        own_draws = {"guard": self._guard, "rights": random.Random(f"{seed}/rights"), "junk": self._junk}
        self._attributes = random.Random(f"{seed}/attributes")
        own_draws |= {"encode": self._encode, "before": self._before, "attributes": self._attributes}
        chosen = {name for name, part in FEATURES.items() if own_draws.get(name, self._fate).random() < part}
        self._features = chosen & set(features)
        self._often = self._fate.choice((0.02, 0.06, 0.15))
        self._ways: list[tuple[Callable[[], None], float]] = [
            (self._save, 6),
            (self._save_aside, 3),
            (self._save_with_backup, 1.5),
            (self._make_folder, 4),
            (self._remove, 4),
            (self._remove_folder, 2),
            (self._rename, 6),
            (self._exchange, 1.5),
            (self._open, 4),
            (self._use_handle, 8),
            (self._truncate, 1),
            (self._set_time, 1),
            (self._settle, 0.4),
            (self._lock, 1),
            (self._describe, 0.7),
            (self._list, 2),
            (self._read, 2),
            (self._cycle, 0.7),
            (self._remove_tree, 1),
        ]
        for number, (way, weight) in enumerate(self._ways):
            self._ways[number] = (way, weight * self._choose.choice((0.2, 1, 1, 3)))

    def history(self) -> History:
        ways = [way for way, _ in self._ways]
        weights = [weight for _, weight in self._ways]
        junk = (self._keep_beside, self._keep_beside, self._edit_in_office, self._trash, self._copy_refused)
        while len(self._steps) < self._length:
            self._choose.choices(ways, weights)[0]()
            if "junk" in self._features and self._junk.random() < 0.15:
                self._junk.choice(junk)()
            if "attributes" in self._features and self._attributes.random() < 0.1:
                self._save_with_attributes()
            while "attributes" in self._features and self._attributes.random() < 0.3:
                self._use_attribute()
        return History(self._seed, list(self._with_fate()), self._setting())

    def _setting(self) -> Setting:
        """Half of the histories have a Procore that answers open questions otherwise than the usual one."""
        guard, takes_back = self._guard.choice((1, 1, 2)), self._guard.random() < 0.5
        setting = msgspec.structs.replace(self._dialect(), is_limited="rights" in self._features)
        if "guard" in self._features:
            setting = msgspec.structs.replace(setting, delete_guard=guard, takes_back=takes_back)
        encodes = "encode" in self._features
        return msgspec.structs.replace(setting, encodes=encodes, made_before=self._made_before())

    def _made_before(self) -> list[str]:
        if "before" not in self._features:
            return []
        names = (*NAMES, *MADE_BY_OTHERS) if "encode" in self._features else NAMES
        folders = ["", *(f"{self._before.choice(names)}/" for _ in range(self._before.choice((0, 1, 2))))]
        files = [self._before.choice(folders) + self._before.choice(names) for _ in range(4)]
        return list(dict.fromkeys([*folders[1:], *(path for path in files if f"{path}/" not in folders)]))

    def _dialect(self) -> Setting:
        if "dialect" not in self._features:
            return Setting()
        questions = self._fate.sample(sorted(DIALECT), self._fate.choice((1, 2, 4)))
        return Setting(
            write_back_s=self._fate.choice((2.0, 2.0, 0.2, 10.0)),
            per_page=self._fate.choice((None, None, 1, 2, 5)),
            dialect={name: self._fate.choice(DIALECT[name]) for name in questions},
        )

    def _with_fate(self) -> Iterator[Step]:
        """The programs' steps, with faults on some, and deaths between them."""
        number = len(self._steps)
        for step in self._steps:
            if self._fate.random() < self._often and (faults := list(self._faults())):
                step = msgspec.structs.replace(step, faults=faults)
            deaths = sorted(self._features & {"kill", "power"})
            if deaths and self._fate.random() < 0.03:
                number += 1
                yield self._death(number, self._fate.choice(deaths))
            if "errors" in self._features and self._fate.random() < 0.01:
                number += 1
                away_s = self._fate.choice((5, 60, 400))
                yield self._fate.choice((Step(number, "away", offset=away_s), Step(number, "expire")))
            if "colleague" in self._features and self._fate.random() < self._often:
                number += 1
                yield self._colleague(number)
            if {"rights", "colleague"} <= self._features and self._fate.random() < 0.03:
                number += 1
                yield Step(
                    number, "role", flags=self._fate.choice(("limited", "limited", "standard", "read"))
                )
            if "clock" in self._features and self._fate.random() < 0.02:
                number += 1
                yield Step(
                    number,
                    "clock",
                    offset=self._fate.choice((-86_400, -3_600, -60, -1, 1, 60, 3_600, 86_400)),
                )
            if "full" in self._features and self._fate.random() < 0.04:
                number += 1
                yield Step(number, "full", flags=self._fate.choice(("on", "off")))
            yield step

    def _colleague(self, number: int) -> Step:
        op = self._fate.choice(("put", "put", "put", "create_folder", "rename_to", "delete"))
        path, to = (
            self._odd(
                [self._fate.choice(self._names) for _ in range(self._fate.randint(1, self._depth))],
                0.05,
                (*MADE_BY_OTHERS, *SUBSTITUTES),
            )
            for _ in "ab"
        )
        pause_s = self._fate.choice((0.0, 0.0, 0.5, 3.0, 40.0))
        if "attributes" in self._features and self._attributes.random() < 0.4:
            op = self._attributes.choice(("tag", "tag", "untag", "describe", "tracked"))
            value = {"tracked": "true", "describe": f"theirs {number}"}.get(
                op, self._attributes.choice("xyz")
            )
            return Step(number, "colleague", path, flags=op, value=value, pause_s=pause_s)
        return Step(
            number, "colleague", path, to, flags=op, size=self._fate.choice(SIZES[1:]), pause_s=pause_s
        )

    def _death(self, number: int, kind: str) -> Step:
        where = self._fate.choice(("write", "write", "turn"))
        after = self._fate.choice((0, 0, 1, 2, 3, 5, 8, 13, 30)) * (1 if where == "write" else 4)
        return Step(number, "crash", flags=f"{kind} {where}", size=after)

    def _faults(self) -> Iterator[Fault]:
        for _ in range(self._fate.choice((1, 1, 1, 2, 3))):
            kinds = [kind for feature in sorted(self._features) for kind in _KINDS.get(feature, ())]
            if kinds:
                kind = self._fate.choice(kinds)
                yield Fault(
                    kind,
                    match=self._fate.choice(_MATCHES),
                    skip=self._fate.choice((0, 0, 0, 1, 2)),
                    status=self._fate.choice(_STATUSES[kind]) if kind in _STATUSES else 503,
                    seconds=self._fate.choice((2.0, 12.0, 35.0, 90.0))
                    if kind in ("late", "gateway")
                    else 0.0,
                )

    def _add(self, op: str, path: str = "", to: str = "", *, joined: bool = False, **fields: object) -> None:
        """A step; `joined`: it follows at once, as within one program's work."""
        hastens = joined and self._choose.random() < 0.9
        pause_s = 0.0 if hastens or self._choose.random() < self._haste else self._choose.choice(PAUSES_S)
        self._steps.append(
            Step(len(self._steps), op, path, to, pause_s=pause_s, **fields)  # type: ignore[arg-type]
        )

    def _path(self, *, temporary: float = 0.05) -> str:
        depth = self._choose.randint(1, self._depth)
        names = [self._choose.choice(self._names) for _ in range(depth)]
        if self._choose.random() < temporary:
            names[-1] = self._choose.choice(TEMPORARY)
        return self._odd(names, 0.15, ENCODED)

    def _odd(self, names: list[str], share: float, encoded: Sequence[str]) -> str:
        """The path, sometimes with a name that Procore refuses, or that never goes there."""
        if "encode" in self._features:
            for at in range(len(names)):
                if self._encode.random() < (0.3 if at + 1 == len(names) else 0.15):
                    names[at] = self._encode.choice(encoded)
        if "junk" not in self._features:
            return "/".join(names)
        if self._junk.random() < share:
            names[-1] = self._junk.choice(
                (*JUNK, *JUNK, *LOCAL_FOLDERS, HELD_FOLDER, REFUSED_TEMPORARY, *REFUSED)
            )
        if self._junk.random() < share and len(names) <= self._depth:
            names.insert(0, self._junk.choice((*LOCAL_FOLDERS, HELD_FOLDER)))
        return "/".join(names)

    def _size(self) -> int:
        return self._choose.choice(SIZES)

    def _slot(self) -> int:
        return self._choose.randrange(SLOTS)

    # What programs do

    def _save(self) -> None:
        self._write_whole(self._path(), joined=False)

    def _write_whole(self, path: str, *, joined: bool) -> None:
        slot = self._slot()
        self._add("close", slot=slot, joined=joined)
        self._add("open", path, slot=slot, flags="w", joined=True)
        program = JUNK.get(path.rpartition("/")[2], "")
        if program and self._junk.random() < 0.5:
            program = ""  # somebody's own file
        self._add("write", slot=slot, size=self._size(), program=program, joined=True)
        if self._choose.random() < 0.1:
            self._add("fsync", slot=slot, joined=True)
        if self._choose.random() < 0.1:
            self._add("utime", path, joined=True)
        self._add("close", slot=slot, joined=True)

    def _save_aside(self) -> None:
        """As rsync, vim and most others: a new file, renamed over the old one."""
        path = self._path(temporary=0)
        beside = "/".join([*path.split("/")[:-1], self._choose.choice(TEMPORARY)])
        self._write_whole(beside, joined=False)
        self._add("rename", beside, path, joined=True)

    def _save_with_backup(self) -> None:
        """As office programs: the old file goes aside, the new one takes its name, the old one is removed."""
        path = self._path(temporary=0)
        backup = "/".join([*path.split("/")[:-1], self._choose.choice(TEMPORARY)])
        self._add("rename", path, backup)
        self._write_whole(path, joined=True)
        if self._choose.random() < 0.7:
            self._add("unlink", backup, joined=True)

    def _keep_beside(self) -> None:
        """As Finder: a file of its own beside a document, which is removed sooner or later."""
        folder = self._path(temporary=0).rpartition("/")[0]
        path = f"{folder}/{self._junk.choice(sorted(JUNK))}".lstrip("/")
        self._write_whole(path, joined=True)
        if self._junk.random() < 0.5:
            self._settle()
        elif self._junk.random() < 0.5:
            self._add(*self._junk.choice((("unlink", path), ("rename", path, self._path()))))

    def _edit_in_office(self) -> None:
        """A lock file for as long as the document is open."""
        path = self._path(temporary=0)
        lock = "/".join([*path.split("/")[:-1], self._junk.choice(LOCKS)])
        self._write_whole(lock, joined=True)
        self._save()
        if self._junk.random() < 0.8:
            self._add("unlink", lock, joined=True)

    def _trash(self) -> None:
        """As a file manager: into the bin, and perhaps out of it, or the bin is emptied."""
        path, trash = self._path(temporary=0), LOCAL_FOLDERS[1]
        inside = f"{trash}/{path.rpartition('/')[2]}"
        self._add("mkdir", trash, joined=True)
        self._add("rename", path, inside, joined=True)
        self._add(*self._junk.choice((("rename", inside, self._path()), ("rmtree", trash), ("list", trash))))

    def _copy_refused(self) -> None:
        """As rsync, with a name that Procore refuses; its temporary file is left, removed or renamed."""
        folder = self._path(temporary=0).rpartition("/")[0]
        beside, path = (f"{folder}/{name}".lstrip("/") for name in (REFUSED_TEMPORARY, REFUSED[0]))
        self._write_whole(beside, joined=True)
        self._add("rename", beside, path, joined=True)
        self._add(
            *self._junk.choice((("rename", beside, self._path()), ("unlink", beside), ("list", folder)))
        )

    def _make_folder(self) -> None:
        self._add("mkdir", self._path(temporary=0))

    def _remove(self) -> None:
        self._add("unlink", self._path())

    def _remove_folder(self) -> None:
        self._add("rmdir", self._path(temporary=0))

    def _rename(self) -> None:
        self._add("rename", self._path(), self._path(), flags=self._choose.choice(("", "", "", "noreplace")))

    def _exchange(self) -> None:
        self._add("rename", self._path(), self._path(), flags="exchange")

    def _cycle(self) -> None:
        """Names go round, with the help of a further one."""
        paths = [self._path(temporary=0) for _ in range(self._choose.choice((2, 3)))]
        spare = self._choose.choice(("d", "~a.tmp"))
        self._add("rename", paths[0], spare)
        for to, path in pairwise(paths):
            self._add("rename", path, to, joined=True)
        self._add("rename", spare, paths[-1], joined=True)

    def _open(self) -> None:
        flags = self._choose.choice(("r", "r+", "w", "w+", "a", "x"))
        self._add("open", self._path(), slot=self._slot(), flags=flags)

    def _use_handle(self) -> None:
        op = self._choose.choice(("write", "write", "read", "close", "close", "ftruncate", "fsync", "flush"))
        self._add(op, slot=self._slot(), offset=self._choose.choice(OFFSETS), size=self._size())

    def _truncate(self) -> None:
        self._add("truncate", self._path(), size=self._size())

    def _set_time(self) -> None:
        self._add("utime", self._path())

    def _lock(self) -> None:
        flags = self._choose.choice(("shared", "exclusive", "exclusive", "exclusive now", "unlock"))
        self._add("flock", slot=self._slot(), flags=flags)

    def _describe(self) -> None:
        self._add("describe", self._path(), size=self._choose.choice((5, 40)))

    def _use_attribute(self) -> None:
        op = self._attributes.choice(
            ("setxattr", "setxattr", "setxattr", "getxattr", "removexattr", "copyxattr")
        )
        path, name = self._path(), self._attributes.choice(SETTABLE)
        made = [step.to or step.path for step in self._steps[-30:] if step.op in ("rename", "mkdir", "open")]
        if made and self._attributes.random() < 0.8:
            path = self._attributes.choice(made[-4:])
        if op == "copyxattr":
            order = self._attributes.choice(("first", "last"))
            self._add(op, path, flags=order, value=self._value(TAGS), joined=True)
        elif op == "setxattr":
            name = self._attributes.choice((*SETTABLE, *SETTABLE, *FIXED))
            self._add(op, path, name, value=self._value(name), joined=True)
        else:
            self._add(op, path, name, joined=True)
        if self._attributes.random() < 0.08:
            self._settle()

    def _save_with_attributes(self) -> None:
        """What was set stays with the document, or with the file, however it is saved next."""
        draw, path = self._attributes, self._path(temporary=0)
        backup = "/".join([*path.split("/")[:-1], draw.choice((*TEMPORARY, *self._names))])
        self._write_whole(path, joined=True)
        if draw.random() < 0.5:
            self._settle()
        for name in draw.sample(SETTABLE, 3):
            self._add("setxattr", path, name, value=self._value(name), joined=True)
        if draw.random() < 0.3:
            self._settle()
        match draw.choice(("in place", "aside", "backup", "removed", "exchanged")):
            case "aside":
                self._write_whole(backup, joined=True)
                self._add("rename", backup, path, joined=True)
            case "backup":
                self._add("rename", path, backup, joined=True)
                self._write_whole(path, joined=True)
            case "removed":
                self._add("unlink", path, joined=True)
                self._write_whole(path, joined=True)
            case "exchanged":
                self._add("rename", path, backup, flags="exchange", joined=True)
            case _:
                self._write_whole(path, joined=True)
        for name in draw.sample(SETTABLE, 3):
            self._add("getxattr", draw.choice((path, backup)), name, joined=True)

    def _value(self, name: str) -> str:
        draw, number = self._attributes, len(self._steps)
        match KEYS.get(name):
            case "tags":
                tags = draw.sample(("x", "y", "z", f"t{number}"), draw.randint(1, 3))
                return ("," if name == XDG_TAGS else "\n").join(tags)
            case "tracked":
                return draw.choice(("true", "false", "true", "perhaps"))
            case "field":
                return draw.choice((f"{number}", f"{number}.50", "wide"))
            case _:
                return f"words {number}"

    def _settle(self) -> None:
        for slot in range(SLOTS):
            self._add("close", slot=slot, joined=True)
        self._add("settle", joined=True)

    def _list(self) -> None:
        self._add("list", self._path(temporary=0) if self._choose.random() < 0.7 else "")

    def _read(self) -> None:
        self._add("cat", self._path())

    def _remove_tree(self) -> None:
        self._add("rmtree", self._path(temporary=0))
