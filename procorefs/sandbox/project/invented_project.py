"""Invents a company with its people, and a believable construction project of any number of documents."""

import random
import secrets
from collections.abc import Iterator
from typing import NamedTuple

from procorefs.sandbox.clock import Clock
from procorefs.sandbox.project.procore_names import file_type
from procorefs.sandbox.project.rows import Store
from procorefs.sandbox.project.schema import FIRST_DOCUMENT_ID, FIRST_VERSION_ID

COMPANY_ID = 8_801
OTHER_COMPANY_ID = 8_802
PROJECT_ID = 1_204_501
CONFIDENTIAL_PROJECT_ID = 1_204_502
QUIET_PROJECT_ID = 1_204_503
SYSTEM_USER_ID = 2
"""Made the system items; its name is a single blank."""
SERVICE_USER_ID = 50_001
OTHER_USER_ID = 50_002
_PROJECT_STARTED_S = 1_735_689_600
_PROJECT_LASTS_S = 500 * 86_400

_DISCIPLINES = (
    ("A", "Architectural"),
    ("S", "Structural"),
    ("M", "Mechanical"),
    ("E", "Electrical"),
    ("P", "Plumbing"),
    ("C", "Civil"),
    ("F", "Fire Protection"),
    ("L", "Landscape"),
)
_SHEETS = (
    "Floor Plan",
    "Reflected Ceiling Plan",
    "Elevations",
    "Building Sections",
    "Wall Sections",
    "Details",
    "Schedules",
)
_DIVISIONS = (
    "03 Concrete",
    "04 Masonry",
    "05 Metals",
    "07 Thermal and Moisture Protection",
    "08 Openings",
    "09 Finishes",
    "14 Conveying Equipment",
    "21 Fire Suppression",
    "22 Plumbing",
    "23 HVAC",
    "26 Electrical",
    "31 Earthwork",
)
_SUBJECTS = (
    "Anchor bolts at grid",
    "Beam penetration",
    "Door hardware",
    "Slab edge",
    "Duct clearance",
    "Curtain wall sill",
)
_PRODUCTS = ("Product Data", "Shop Drawings", "Samples", "Mix Design", "Warranty", "Test Report")
_PLACES = ("Level 01", "Level 02", "Level 03", "Roof", "Basement", "Façade North", "Façade South", "Site")
_MEETINGS = ("OAC Meeting", "Subcontractor Coordination", "Safety Toolbox Talk", "BIM Coordination")
_SIZES = {
    "pdf": (1_200, 48_000),
    "dwg": (4_000, 60_000),
    "jpg": (2_000, 40_000),
    "csv": (200, 6_000),
    "txt": (0, 3_000),
}


class Invented(NamedTuple):
    """A file to be: the folder's path, and its name."""

    folder: tuple[str, ...]
    name: str


def seed_company(store: Store, clock: Clock) -> None:
    """Companies, two clients with a user each, people, fields, and three projects with an empty tree each."""
    store.insert_many(
        "companies",
        "id, name, active",
        [(COMPANY_ID, "Northwind Builders", 1), (OTHER_COMPANY_ID, "Harbour Group", 1)],
    )
    people = [
        (SERVICE_USER_ID, "procorefs.service@northwind.example", "ProcoreFS Service"),
        (OTHER_USER_ID, "robin.keller@northwind.example", "Robin Keller"),
        (50_003, "dana.reyes@northwind.example", "Dana Reyes"),
        (50_004, "sam.okafor@northwind.example", "Sam Okafor"),
    ]
    store.insert_many("users", "id, login, name", [(SYSTEM_USER_ID, "", " "), *people])
    for number, user_id in enumerate((SERVICE_USER_ID, OTHER_USER_ID), 1):
        client_id = f"sandbox-client-{number}"
        store.insert_many(
            "clients", "client_id, client_secret, user_id", [(client_id, secrets.token_hex(20), user_id)]
        )
        store.insert_many("connections", "client_id, company_id", [(client_id, COMPANY_ID)])
    _seed_fields(store)
    add_project(store, clock, PROJECT_ID, "Riverside Medical Center", "2026-014")
    add_project(store, clock, CONFIDENTIAL_PROJECT_ID, "Confidential Headquarters", "2026-021")
    add_project(store, clock, QUIET_PROJECT_ID, "Harbour Warehouse", None, active=False)
    members = [
        (user[0], project_id, "admin") for user in people for project_id in (PROJECT_ID, QUIET_PROJECT_ID)
    ]
    members.append((SERVICE_USER_ID, CONFIDENTIAL_PROJECT_ID, "admin"))
    store.insert_many("memberships", "user_id, project_id, level", members)


def add_project(
    store: Store, clock: Clock, project_id: int, name: str, number: str | None, *, active: bool = True
) -> None:
    """A project with its root folder and recycle bin."""
    now_s = clock.now_s()
    made = {
        "project_id": project_id,
        "is_file": 0,
        "created_at": _PROJECT_STARTED_S,
        "updated_at": _PROJECT_STARTED_S,
    }
    root_id = store.insert_document(**made, parent_id=None, name=name, created_by=SYSTEM_USER_ID)
    bin_id = store.insert_document(
        **made, parent_id=root_id, name="Recycle Bin", created_by=SYSTEM_USER_ID, is_bin=1, read_only=1
    )
    columns = "id, company_id, name, number, active, created_at, updated_at, root_id, bin_id"
    row = (project_id, COMPANY_ID, name, number, int(active), now_s, now_s, root_id, bin_id)
    store.insert_many("projects", columns, [row])


def seed_documents(store: Store, project_id: int, count: int, seed: int) -> None:
    """`count` documents, folders among them, in folders of at most some hundred files."""
    project = store.project(project_id)
    if project is None or count <= 0:
        return
    choose = random.Random(seed)
    planter = _Planter(store, project_id, project.root_id, choose)
    for invented in _invented_files(choose, count):
        if not planter.room_for(invented, count):
            break
        planter.plant(invented)
    planter.write()


class _Planter:
    """Collects rows of folders and files, and writes them in one go."""

    def __init__(self, store: Store, project_id: int, root_id: int, choose: random.Random) -> None:
        self._store = store
        self._project_id = project_id
        self._choose = choose
        self._folders: dict[tuple[str, ...], int] = {(): root_id}
        self._next_document_id = max(store.next_document_id(), FIRST_DOCUMENT_ID)
        self._next_version_id = max(store.next_version_id(), FIRST_VERSION_ID)
        self._documents: list[tuple[object, ...]] = []
        self._versions: list[tuple[object, ...]] = []

    def room_for(self, invented: Invented, count: int) -> bool:
        missing = sum(
            1 for depth in range(len(invented.folder)) if invented.folder[: depth + 1] not in self._folders
        )
        return len(self._documents) + missing + 1 <= count

    def plant(self, invented: Invented) -> None:
        parent_id = self._folder(invented.folder)
        document_id, moment_s, user_id = self._new()
        kind = file_type(invented.name)
        size = self._choose.randint(*_SIZES.get(kind, (500, 20_000)))
        version_id = self._next_version_id
        self._next_version_id += 1
        self._documents.append(
            (
                document_id,
                self._project_id,
                parent_id,
                1,
                invented.name,
                moment_s,
                moment_s,
                user_id,
                kind,
                version_id,
            )
        )
        source = f"seed:{kind}:{version_id}"
        self._versions.append(
            (version_id, document_id, 1, size, None, moment_s, user_id, invented.name, source)
        )

    def write(self) -> None:
        columns = "id, project_id, parent_id, is_file, name, created_at, updated_at, created_by, file_type, version_id"
        self._store.insert_many("documents", columns, self._documents)
        columns = "id, document_id, number, size, notes, created_at, created_by, name, source"
        self._store.insert_many("versions", columns, self._versions)

    def _folder(self, path: tuple[str, ...]) -> int:
        found = self._folders.get(path)
        if found is None:
            parent_id = self._folder(path[:-1])
            found, moment_s, user_id = self._new()
            self._folders[path] = found
            self._documents.append(
                (found, self._project_id, parent_id, 0, path[-1], moment_s, moment_s, user_id, "", None)
            )
        return found

    def _new(self) -> tuple[int, int, int]:
        document_id = self._next_document_id
        self._next_document_id += 1
        moment_s = _PROJECT_STARTED_S + self._choose.randrange(_PROJECT_LASTS_S)
        return document_id, moment_s, SERVICE_USER_ID + self._choose.randrange(4)


def _invented_files(choose: random.Random, count: int) -> Iterator[Invented]:
    """Files without end, in rounds: every round adds a bit to each part of the project."""
    makers = (_drawings, _submittals, _requests, _photos, _minutes, _specifications, _reports)
    round_number = 0
    # A small project should show every part: rounds begin short.
    while True:
        round_number += 1
        for maker in makers:
            yield from maker(choose, round_number, min(4 + count // 400, 60))


def _drawings(choose: random.Random, number: int, files: int) -> Iterator[Invented]:
    letter, discipline = _DISCIPLINES[number % len(_DISCIPLINES)]
    series = 100 * (1 + number // len(_DISCIPLINES))
    folder = ("01 Drawings", f"{letter}-{series} {discipline}")
    for sheet in range(files):
        title = f"{letter}-{series + sheet} {choose.choice(_SHEETS)}"
        yield Invented(folder, f"{title}.{'dwg' if sheet % 4 == 3 else 'pdf'}")


def _submittals(choose: random.Random, number: int, files: int) -> Iterator[Invented]:
    division = _DIVISIONS[number % len(_DIVISIONS)]
    folder = ("03 Submittals", division, f"Package {1 + number // len(_DIVISIONS):03d}")
    for item in range(files):
        yield Invented(
            folder, f"{division[:2]} {3000 + item * 10} {choose.choice(_PRODUCTS)} Rev {item % 3}.pdf"
        )


def _requests(choose: random.Random, number: int, files: int) -> Iterator[Invented]:
    for item in range(files):
        request = (number - 1) * files + item + 1
        folder = ("04 RFIs", f"RFI {request // 50 * 50:05d}-{request // 50 * 50 + 49:05d}")
        yield Invented(folder, f"RFI-{request:05d} {choose.choice(_SUBJECTS)} {choose.randint(1, 30)}.pdf")


def _photos(choose: random.Random, number: int, files: int) -> Iterator[Invented]:
    year, month = 2025 + (number // 12) % 3, 1 + number % 12
    folder = ("05 Photos", f"{year}-{month:02d}", choose.choice(_PLACES), f"Week {1 + number // 36:02d}")
    for item in range(files * 2):
        yield Invented(folder, f"IMG_{number:04d}_{item:04d}.jpg")


def _minutes(choose: random.Random, number: int, files: int) -> Iterator[Invented]:
    kind = _MEETINGS[number % len(_MEETINGS)]
    folder = ("06 Meetings", kind, f"Series {1 + number // len(_MEETINGS):03d}")
    for item in range(max(files // 2, 2)):
        yield Invented(folder, f"{kind} {item + 1:03d} Minutes.{choose.choice(('pdf', 'txt'))}")


def _specifications(choose: random.Random, number: int, files: int) -> Iterator[Invented]:
    folder = (
        "02 Specifications",
        _DIVISIONS[number % len(_DIVISIONS)],
        f"Issue {1 + number // len(_DIVISIONS):02d}",
    )
    for item in range(max(files // 2, 2)):
        yield Invented(folder, f"{number % 50:02d} {item * 100:04d} {choose.choice(_PRODUCTS)}.pdf")


def _reports(choose: random.Random, number: int, files: int) -> Iterator[Invented]:
    folder = ("07 Daily Reports", f"Week {number:04d}")
    for item in range(min(files, 7)):
        yield Invented(folder, f"Daily Report {number:04d}-{item + 1} {choose.choice(_PLACES)}.csv")


def _seed_fields(store: Store) -> None:
    fields = [
        (301, COMPANY_ID, "Discipline", "lov_entry", "documents"),
        (302, COMPANY_ID, "Approved", "boolean", "documents"),
        (303, COMPANY_ID, "Cost code", "string", "documents"),
        (304, COMPANY_ID, "Area m²", "decimal", "documents"),
        (305, COMPANY_ID, "Trades", "lov_entries", "documents"),
        (306, COMPANY_ID, "Cost code", "string", "rfis"),
    ]
    store.insert_many("field_definitions", "id, company_id, label, data_type, tool", fields)
    entries = [(401 + number, 301, name, number, 1) for number, (_, name) in enumerate(_DISCIPLINES)]
    entries += [
        (451 + number, 305, name, number, int(name != "Masonry"))
        for number, name in enumerate(("Concrete", "Masonry", "Steel"))
    ]
    store.insert_many("lov_entries", "id, definition_id, label, position, active", entries)
