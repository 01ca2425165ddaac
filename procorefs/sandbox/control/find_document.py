"""Finds documents of the control API by path or id."""

from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.project.rows import Store


def resolve(store: Store, root_id: int, path: str) -> int:
    """The document at a path from the project's root. Raises ApiError 404."""
    found = root_id
    for name in path.split("/"):
        if name:
            child = store.child_named(found, name)
            if child is None:
                raise ApiError(404, f"nothing is at {path!r}")
            found = child
    return found


def split(path: str) -> tuple[str, str]:
    """(folder, name)."""
    folder, _, name = path.rstrip("/").rpartition("/")
    return folder, name
