"""Urls of versions and uploads: signed, opaque, able to expire."""

import hashlib
import hmac
import secrets

from procorefs.sandbox.clock import Clock

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

    def expiry(self, lifetime_s: int) -> int:
        """Unix second at which a url given out now is over."""
        return self._clock.now_s() + lifetime_s

    def version(self, version_id: int, expiry_s: int, *, direct: bool) -> str:
        """Where a version's bytes are: on the API's host, which redirects, or straight at the store."""
        base = f"{self.storage}/files" if direct else f"{self.api}/webclients/files"
        ticket = self.sign(f"{version_id}/{expiry_s}/{self._generation}")
        return f"{base}/{version_id}?sig={expiry_s}-{ticket}"

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
        return hashlib.blake2b(text.encode(), digest_size=_SIGNATURE_BYTES, key=self._key).hexdigest()
