"""Changes of the tree that API and control share: make, rename, move, delete, restore, versions, privacy, tags."""

from procorefs.sandbox.project.procore_names import file_type
from procorefs.sandbox.project.records import Document, Value
from procorefs.sandbox.state import Sandbox


class Changes:
    """Changes made by one user; names and permissions were checked before."""

    def __init__(self, sandbox: Sandbox, user_id: int) -> None:
        self._sandbox = sandbox
        self._store = sandbox.store
        self._user_id = user_id
        self._now_s = sandbox.clock.now_s()

    def create_folder(self, project_id: int, parent_id: int, name: str, **columns: Value) -> int:
        return self._insert(project_id, parent_id, name, is_file=0, **columns)

    def create_file(
        self,
        project_id: int,
        parent_id: int,
        name: str,
        *,
        size: int,
        source: str,
        notes: str | None = None,
        **columns: Value,
    ) -> int:
        """A file with version 1."""
        document_id = self._insert(
            project_id, parent_id, name, is_file=1, file_type=file_type(name), **columns
        )
        self.add_version(document_id, name, size=size, source=source, notes=notes)
        return document_id

    def add_version(
        self, document_id: int, name: str, *, size: int, source: str, notes: str | None = None
    ) -> int:
        return self._store.add_version(
            document_id,
            size=size,
            name=name,
            source=source,
            user_id=self._user_id,
            now_s=self._now_s,
            notes=notes,
        )

    def update(self, document_id: int, **columns: Value) -> None:
        """Set columns, and with them `updated_at`."""
        self._store.update_document(document_id, updated_at=self._now_s, **columns)

    def rename_and_move(self, document: Document, name: str, parent_id: int | None) -> None:
        if self._sandbox.dialect.rename_touches:
            self.update(document.id)
        kind = {"file_type": file_type(name)} if document.is_file else {}
        self._store.update_document(document.id, name=name, parent_id=parent_id, **kind)
        if parent_id != document.parent_id:
            self._set_private_roots(document.id)
            for folder_id in (document.parent_id, parent_id):
                self._touch_parent(folder_id)

    def set_private(self, document_id: int, private: bool) -> None:
        self.update(document_id, private=int(private))
        self._set_private_roots(document_id)

    def delete(self, document: Document) -> None:
        """Into the bin, with all below."""
        self._store.update_document(document.id, deleted=1)
        if self._sandbox.dialect.delete_touches:
            self.update(document.id)
        touched = f", updated_at = {self._now_s}" if self._sandbox.dialect.descendants_touched else ""
        self._store.execute(
            f"UPDATE documents SET buried = 1{touched} WHERE id IN (SELECT value FROM json_each(?))",
            (str(self._store.below(document.id)),),
        )
        self._touch_parent(document.parent_id)

    def restore(self, document: Document) -> None:
        """Out of the bin to where it was, with all below that was not deleted by itself."""
        self.update(document.id, deleted=0)
        for child_id in self._store.below(document.id):
            lost = any(
                self._store.value("SELECT deleted FROM documents WHERE id = ?", (above,))
                for above, *_ in self._store.ancestors(child_id)[:-1]
            )
            self._store.update_document(child_id, buried=int(lost))

    def purge(self, document_id: int) -> None:
        """Gone for ever, with all below."""
        for gone in (*self._store.below(document_id), document_id):
            self._store.execute("DELETE FROM versions WHERE document_id = ?", (gone,))
            self._store.execute("DELETE FROM document_tags WHERE document_id = ?", (gone,))
            self._store.execute("DELETE FROM documents WHERE id = ?", (gone,))

    def check_out(self, document_id: int, until_s: int | None) -> None:
        """Until then; None checks it in. No new version."""
        holder = self._user_id if until_s is not None else None
        self._store.update_document(document_id, checked_out_by=holder, checked_out_until=until_s)
        if self._sandbox.dialect.check_out_touches:
            self.update(document_id)

    def tag(self, project_id: int, document_id: int, name: str) -> int:
        """The tag's id; the same name gives the same one."""
        same = "lower(name) = lower(?)" if self._sandbox.dialect.tags_fold_case else "name = ?"
        tag_id = self._store.value(f"SELECT id FROM tags WHERE project_id = ? AND {same}", (project_id, name))
        if tag_id is None:
            tag_id = (self._store.value("SELECT max(id) FROM tags") or 9_000) + 1
            self._store.insert_many("tags", "id, project_id, name", [(tag_id, project_id, name)])
        self._store.execute("INSERT OR IGNORE INTO document_tags VALUES (?, ?)", (document_id, tag_id))
        self._touch_by_tagging(document_id)
        return int(tag_id)

    def untag(self, document_id: int, tag_id: int) -> bool:
        """False: it did not bear the tag."""
        gone = self._store.execute(
            "DELETE FROM document_tags WHERE document_id = ? AND tag_id = ?", (document_id, tag_id)
        )
        self._touch_by_tagging(document_id)
        return gone.rowcount > 0

    def _insert(self, project_id: int, parent_id: int, name: str, **columns: Value) -> int:
        document_id = self._store.insert_document(
            project_id=project_id,
            parent_id=parent_id,
            name=name,
            created_at=self._now_s,
            updated_at=self._now_s,
            created_by=self._user_id,
            **columns,
        )
        self._set_private_roots(document_id)
        self._touch_parent(parent_id)
        return document_id

    def _set_private_roots(self, document_id: int) -> None:
        """Write the nearest private document from here up into this one and all below."""
        for changed in (document_id, *self._store.below(document_id)):
            private = [above for above, _, is_private, _ in self._store.ancestors(changed) if is_private]
            self._store.update_document(changed, private_root=private[-1] if private else None)

    def _touch_parent(self, folder_id: int | None) -> None:
        if folder_id is not None and self._sandbox.dialect.child_touches_parent:
            self.update(folder_id)

    def _touch_by_tagging(self, document_id: int) -> None:
        if self._sandbox.dialect.tagging_touches:
            self.update(document_id)
