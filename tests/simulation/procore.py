"""The sandbox in this process: what Procore holds, read without a call, and what a colleague does there."""

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import CompanyId, ProjectId
from procorefs.sandbox.api.oauth_tokens import expire_access_tokens
from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.app import create_app, create_storage_app
from procorefs.sandbox.config import SandboxConfig
from procorefs.sandbox.control.acts import Act, Actor
from procorefs.sandbox.fill import announcement, fill
from procorefs.sandbox.project.invented_project import OTHER_USER_ID, PROJECT_ID, SERVICE_USER_ID
from procorefs.sandbox.project.records import Document
from procorefs.sandbox.project.roles import GRANULAR, Right
from procorefs.sandbox.state import Sandbox
from procorefs.tree.naming.full_width import to_programs
from tests.simulation.attributes import FIELD_ID, Value
from tests.simulation.deletions import Deletions
from tests.simulation.network import Application
from tests.simulation.steps import Setting, Step, content_of

API, STORAGE = "127.0.0.1:1", "localhost:2"


@dataclass(frozen=True, slots=True)
class Held:
    """A living document as Procore holds it."""

    id: int
    is_folder: bool
    content: bytes | None
    """Of the newest version."""
    versions: int


class Procore:
    """One project, empty at first."""

    def __init__(self, now_s: Callable[[], float], *, hourly_calls: int = 0, spike_calls: int = 0) -> None:
        self.sandbox = Sandbox(SandboxConfig(hourly_calls=hourly_calls, spike_calls=spike_calls))
        self.sandbox.urls.api = f"http://{API}"
        self.sandbox.urls.storage = f"http://{STORAGE}"
        fill(self.sandbox, 0)
        self._actor = Actor(self.sandbox)
        self.deletions = Deletions(self.sandbox.store, now_s)
        self.hosts: dict[str, Application] = {
            API: create_app(self.sandbox),
            STORAGE: create_storage_app(self.sandbox),
        }

    def adopt(self, setting: Setting) -> None:
        """Answer as a history wants it from now on."""
        sandbox = self.sandbox
        sandbox.dialect = msgspec.structs.replace(sandbox.dialect, **setting.dialect)
        sandbox.faults.settings = msgspec.structs.replace(
            sandbox.faults.settings, per_page_cap=setting.per_page
        )
        if setting.is_limited:
            self.give_role("limited")

    def give_role(self, role: str) -> None:
        """Let the account be a reader, or have the level Standard, `limited` with all rights but seeing the bin."""
        actions = [action for action in GRANULAR if action != Right.SEE_BIN.granular]
        self._actor.do(
            Act(
                op="membership",
                user="first",
                level="read" if role == "read" else "standard",
                actions=actions if role == "limited" else [],
            )
        )

    def settings(self) -> ApiSettings:
        """How the product logs in."""
        told = announcement(self.sandbox)
        return ApiSettings(
            api_url=told["url"],
            login_url=told["login_url"],
            client_id=told["client_id"],
            client_secret=told["client_secret"],
            company_id=CompanyId(told["company_id"]),
            project_id=ProjectId(told["project_id"]),
        )

    def holds(self, *, encodes: bool = False, hidden: bool = True) -> dict[str, Held]:
        """Every living document by its path. `encodes`: as programs see it where names are encoded.

        `hidden`: also what Procore does not show to the mount's account.
        """
        store = self.sandbox.store
        project = store.project(PROJECT_ID)
        assert project is not None
        found: dict[str, Held] = {}
        waiting = [(project.root_id, "")]
        while waiting:
            folder, above = waiting.pop()
            children = [child for child in store.children(folder) if hidden or not self._hides(child)]
            names = {child.name for child in children}
            for child in children:
                if child.is_bin:
                    continue
                name = to_programs(child.name, names.__contains__) if encodes else child.name
                path = f"{above}/{name}".lstrip("/")
                versions = store.versions(child.id)
                content = self.sandbox.contents.read(versions[0]) if versions else None
                found[path] = Held(child.id, not child.is_file, content, len(versions))
                if not child.is_file:
                    waiting.append((child.id, path))
        return found

    def _hides(self, document: Document) -> bool:
        """Whether it is private, and neither made by the mount's account nor shown to it by a right."""
        if document.private_root is None or document.created_by == SERVICE_USER_ID:
            return False
        role = self.sandbox.store.role(SERVICE_USER_ID, PROJECT_ID)
        return role is None or not role.may(Right.SEE_PRIVATE)

    def make(self, path: str, content: bytes | None) -> None:
        """Let the colleague make a file, or a folder, and those above it, where there is nothing yet."""
        above = path.rpartition("/")[0]
        if above and above not in self.holds():
            self.make(above, None)
        if content is None:
            self._actor.do(Act(op="create_folder", path=f"/{path}"))
        else:
            self._actor.do(Act(op="put", path=f"/{path}", base64=base64.b64encode(content).decode()))

    def act(self, step: Step) -> None:
        """What the colleague does: nothing where it can't be done."""
        act = Act(op=step.flags, path=f"/{step.path}")
        if step.flags == "put":
            act.base64 = base64.b64encode(content_of(step)).decode()
        elif step.flags == "rename_to":
            act.to = f"/{step.to}"
        elif step.flags in ("tag", "untag"):
            act.tag = step.value
        elif step.flags == "describe":
            act.text = step.value
        elif step.flags == "tracked":
            act.on = step.value == "true"
        if not self._could_be(step):
            return
        with suppress(ApiError):
            told = self._actor.do(act)
            if step.flags in ("tag", "untag", "describe", "tracked"):
                return
            self.deletions.acted(told["id"], deletes=step.flags == "delete")

    def _could_be(self, step: Step) -> bool:
        """Whether Procore would let the colleague do it: the sandbox itself asks nothing of those who act in it."""
        held = self.holds()

        def is_free(path: str) -> bool:
            above = held.get(path.rpartition("/")[0])
            return path not in held and ("/" not in path or (above is not None and above.is_folder))

        match step.flags:
            case "put":
                return is_free(step.path) or (step.path in held and not held[step.path].is_folder)
            case "create_folder":
                return is_free(step.path)
            case "rename_to":
                return step.path in held and is_free(step.to) and not step.to.startswith(f"{step.path}/")
            case _:
                return step.path in held

    def all_contents(self) -> set[bytes]:
        """Of every version of every document, the deleted ones too."""
        store = self.sandbox.store
        versions = (store.version(version) for version in store.column("SELECT id FROM versions"))
        return {self.sandbox.contents.read(version) for version in versions if version is not None}

    def named_versions(self, *, first_of_ours: bool = False) -> list[tuple[str, bytes]]:
        """Names and contents of all versions, or of those with which this mount made documents."""
        store = self.sandbox.store
        which = f" WHERE number = 1 AND created_by = {SERVICE_USER_ID}" if first_of_ours else ""
        versions = map(store.version, store.column(f"SELECT id FROM versions{which}"))
        return [
            (version.name, self.sandbox.contents.read(version)) for version in versions if version is not None
        ]

    def attributes(self, document: int) -> dict[str, Value]:
        """By key (attributes.py)."""
        store = self.sandbox.store
        description, tracked, fields = store.one(
            "SELECT description, tracked, fields FROM documents WHERE id = ?", (document,)
        )
        tags = "SELECT name FROM tags JOIN document_tags ON tag_id = id WHERE document_id = ?"
        area = msgspec.json.decode(fields).get(f"custom_field_{FIELD_ID}", {}).get("value")
        return {
            "description": description or "",
            "tracked": "true" if tracked else "false",
            "tags": frozenset(store.column(tags, (document,))),
            "field": "" if area is None else str(area),
        }

    def checked_out(self) -> list[str]:
        """Names of documents that this mount has checked out now."""
        return self.sandbox.store.column(
            "SELECT name FROM documents WHERE NOT deleted AND NOT buried"
            " AND checked_out_by = ? AND checked_out_until > ?",
            (SERVICE_USER_ID, self.sandbox.clock.now_s()),
        )

    def doubled(self) -> str:
        """A version that this mount made twice in a row; empty: there is none.

        In some dialects Procore makes one of the same upload for a PATCH without bytes.
        """
        store = self.sandbox.store
        for document, name in store.execute("SELECT id, name FROM documents WHERE is_file").fetchall():
            ours = [version for version in store.versions(document) if version.created_by == SERVICE_USER_ID]
            for newer, older in pairwise(ours):
                content = self.sandbox.contents.read(newer)
                is_next = newer.number == older.number + 1 and newer.source != older.source
                if len(content) > 1 and is_next and content == self.sandbox.contents.read(older):
                    return f"{name}, versions {older.number} and {newer.number}: {content[:20]!r}"
        return ""

    def colleagues_gone(self) -> list[tuple[int, int, str]]:
        """Documents whose newest version, or which as folders, are the colleague's, and which somebody else deleted.

        Not those of which nobody could know when they went.
        """
        rows = self.sandbox.store.execute(
            "SELECT d.id, coalesce(v.id, 0), d.name FROM documents d LEFT JOIN versions v ON v.id = d.version_id"
            " WHERE (d.deleted OR d.buried) AND coalesce(v.created_by, d.created_by) = ?",
            (OTHER_USER_ID,),
        ).fetchall()
        gone = self.deletions.unexcused(document for document, _, _ in rows)
        return [row for row in rows if row[0] in gone]

    def expire_tokens(self) -> None:
        """No token that was given out before is good any more."""
        expire_access_tokens(self.sandbox)

    def close(self) -> None:
        self.sandbox.close()
