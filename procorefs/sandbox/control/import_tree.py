"""Copies a local directory tree into a project, names as they are, thousands of files in seconds."""

import os
from pathlib import Path
from typing import Any

import msgspec

from procorefs.sandbox.project.procore_names import file_type
from procorefs.sandbox.state import Sandbox


class Imported(msgspec.Struct):
    """How many went in, and what did not: links, devices, names that are not UTF-8."""

    folders: int = 0
    files: int = 0
    bytes: int = 0
    skipped: list[str] = []


class TreeImport:
    """One import; folders that exist are filled, and everything is as new as an upload of this second."""

    def __init__(self, sandbox: Sandbox, project_id: int, user_id: int) -> None:
        self._sandbox = sandbox
        self._store = sandbox.store
        self._project_id = project_id
        self._user_id = user_id
        self._now_s = sandbox.clock.now_s()
        self._next_document_id = sandbox.store.next_document_id()
        self._next_version_id = sandbox.store.next_version_id()
        self._documents: list[tuple[Any, ...]] = []
        self._versions: list[tuple[Any, ...]] = []
        self.result = Imported()

    def run(self, path: Path, folder_id: int) -> Imported:
        """Raises OSError when the directory cannot be read."""
        self._folder(path, folder_id)
        columns = "id, project_id, parent_id, is_file, name, created_at, updated_at, created_by, file_type, version_id"
        self._store.insert_many("documents", columns, self._documents)
        columns = "id, document_id, number, size, notes, created_at, created_by, name, source"
        self._store.insert_many("versions", columns, self._versions)
        return self.result

    def _folder(self, path: Path, folder_id: int) -> None:
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not _is_text(entry.name):
                    self.result.skipped.append(os.fsencode(entry.path).decode(errors="backslashreplace"))
                elif entry.is_dir(follow_symlinks=False):
                    self._folder(Path(entry.path), self._make_folder(folder_id, entry))
                elif entry.is_file(follow_symlinks=False):
                    self._make_file(folder_id, entry)
                else:
                    self.result.skipped.append(entry.path)

    def _make_folder(self, parent_id: int, entry: "os.DirEntry[str]") -> int:
        existing = self._store.child_named(parent_id, entry.name)
        if existing is not None:
            return existing
        document_id = self._take_document_id()
        self._documents.append(
            (
                document_id,
                self._project_id,
                parent_id,
                0,
                entry.name,
                self._now_s,
                self._now_s,
                self._user_id,
                "",
                None,
            )
        )
        self.result.folders += 1
        return document_id

    def _make_file(self, parent_id: int, entry: "os.DirEntry[str]") -> None:
        document_id, version_id = self._take_document_id(), self._next_version_id
        self._next_version_id += 1
        source = self._sandbox.contents.copy_in(f"v{version_id}", Path(entry.path))
        size = self._sandbox.contents.path(f"v{version_id}").stat().st_size
        kind = file_type(entry.name)
        self._documents.append(
            (
                document_id,
                self._project_id,
                parent_id,
                1,
                entry.name,
                self._now_s,
                self._now_s,
                self._user_id,
                kind,
                version_id,
            )
        )
        self._versions.append(
            (version_id, document_id, 1, size, None, self._now_s, self._user_id, entry.name, source)
        )
        self.result.files += 1
        self.result.bytes += size

    def _take_document_id(self) -> int:
        self._next_document_id += 1
        return self._next_document_id - 1


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
