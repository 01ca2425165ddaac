"""Urls of versions and uploads: signed, opaque, able to expire."""

import hmac
import secrets

from .clock import Clock

_SIGNATURE_BYTES = 12


class Urls:
    """Makes and checks them; raising the generation expires all that were given out before."""

    def __init__(self, clock: Clock) -> None:
        self.api = ""
        self.storage = ""
        """Base urls, known once the ports are bound."""
        self._clock = clock
        self._key = secrets.token_bytes(16)
        self._generation = 0

    def expire_all(self) -> None:
        self._generation += 1

    def version(self, version_id: int, lifetime_s: int, *, direct: bool) -> str:
        """Where a version's bytes are: on the API's host, which redirects, or straight at the store."""
        if direct:
            return self.stored_version(version_id, lifetime_s)
        return f"{self.api}/webclients/files/{version_id}?sig={self._ticket(version_id, lifetime_s)}"

    def stored_version(self, version_id: int, lifetime_s: int) -> str:
        return f"{self.storage}/files/{version_id}?sig={self._ticket(version_id, lifetime_s)}"

    def upload(self, uuid: str) -> str:
        return f"{self.storage}/uploads/{uuid}"

    def segment(self, uuid: str, index: int) -> str:
        return f"{self.storage}/uploads/{uuid}/segments/{index}?sig={self.sign(f'{uuid}/{index}')}"

    def good(self, version_id: int, ticket: str) -> bool:
        """Is the ticket ours, of this generation, and not too old."""
        expiry, _, rest = ticket.partition("-")
        if not expiry.isdecimal() or int(expiry) < self._clock.now():
            return False
        return hmac.compare_digest(rest, self.sign(f"{version_id}/{expiry}/{self._generation}"))

    def sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256")[:_SIGNATURE_BYTES].hex()

    def _ticket(self, version_id: int, lifetime_s: int) -> str:
        expiry = self._clock.now_s() + lifetime_s
        return f"{expiry}-{self.sign(f'{version_id}/{expiry}/{self._generation}')}"
