"""What the mount deleted, and whether it could know: nobody can tell Procore to delete only what was seen."""

from collections.abc import Callable, Iterable

from procorefs.procore.http._httpx import httpx
from procorefs.sandbox.project.rows import Store

LOOK_HOLDS_S, ANSWERED_WITHIN_S = 10.0, 27.0
"""A look is good for removals that are decided so soon after it began; its answers take no longer without faults."""

TROUBLE_S = 150.0
"""With faults a DELETE may be sent so long after the look."""

APPLIED_S = 0.5
"""An answer that came so long ago has been taken up."""


class Deletions:
    """Hears of the colleague's acts, of looks and of DELETE."""

    def __init__(self, store: Store, now_s: Callable[[], float]) -> None:
        self._store = store
        self._now_s = now_s
        self._acted_s: dict[int, float] = {}
        """When the colleague did something to a document the last time, or to a folder above it."""
        self._by_colleague: set[int] = set()
        self._looks: list[tuple[float, float]] = [(0.0, 0.0)]
        """When an answer came that told of all changes, and as of when."""
        self._excused: set[int] = set()
        """Documents that went with a change which nobody could know."""

    def acted(self, document: int, *, deletes: bool) -> None:
        """The colleague did something to a document."""
        for one in [document, *self._store.below(document)]:
            self._acted_s[one] = self._now_s()
            if deletes:
                self._by_colleague.add(one)
            else:
                self._by_colleague.discard(one)

    def answered(self, request: httpx.Request, status: int | None, worked_s: float) -> None:
        """An answer of Procore has come."""
        query = request.url.params
        is_look = (
            request.method == "GET"
            and request.url.path.endswith("/documents")
            and query.get("page", "1") == "1"
            and query.get("filters[is_in_recycle_bin]") != "true"
            and "filters[folder_id]" not in query
        )
        if is_look and status == 200:
            self._looks.append((self._now_s(), worked_s))

    def worked(self, request: httpx.Request, status: int | None, sent_s: float, *, is_troubled: bool) -> None:
        """Procore has done what was asked."""
        if request.method != "DELETE" or status not in (200, 204):
            return
        told_s = max(
            (as_of_s for came_s, as_of_s in self._looks if came_s <= sent_s - APPLIED_S),
            default=0.0,
        )
        known_s = sent_s - LOOK_HOLDS_S - ANSWERED_WITHIN_S - (TROUBLE_S if is_troubled else 0.0)
        document = int(request.url.path.rpartition("/")[2])
        for one in [document, *self._store.below(document)]:
            if self._acted_s.get(one, 0.0) > max(told_s, known_s):
                self._excused.add(one)

    def unexcused(self, documents: Iterable[int]) -> set[int]:
        """Those that are gone, that the colleague did not delete, and of which the mount could know."""
        return set(documents) - self._by_colleague - self._excused
