"""Counts calls by route: what the client's budget is measured with."""

from collections import Counter
from typing import Any


class Calls:
    """API calls are those below /rest; logins, download redirects and storage are counted beside them."""

    def __init__(self) -> None:
        self._api: Counter[str] = Counter()
        self._other: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self.stored_bytes_sent = 0

    def count(self, label: str) -> None:
        """`label` is the route: `GET /rest/v1.0/me`, `storage GET`."""
        counter = self._api if " /rest/" in label else self._other
        counter[label] += 1

    def answered(self, status: int) -> None:
        self._statuses[str(status)] += 1

    def reset(self) -> None:
        self._api.clear()
        self._other.clear()
        self._statuses.clear()
        self.stored_bytes_sent = 0

    def report(self) -> dict[str, Any]:
        """The answer of GET calls of the control API."""
        return {
            "total": self._api.total(),
            "by_route": dict(self._api),
            "other": dict(self._other),
            "api_statuses": dict(self._statuses),
            "storage_bytes_sent": self.stored_bytes_sent,
        }
