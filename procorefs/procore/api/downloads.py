"""Streams ranges of versions from the storage: exactly the bytes asked for, or an error.

A body that breaks off is continued where it stopped; an address that has expired is looked up again once. Bytes
of two objects are never mixed: size and ETag must stay the same from the first answer on. Storage is not under
the call limit, only the look-up is.
"""

import logging
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import trio

from procorefs.limiter import Priority
from procorefs.procore.api.client import Client
from procorefs.procore.errors import (
    Malformed,
    ProcoreError,
    Silent,
    Unavailable,
    error_of_answer,
)
from procorefs.procore.http.bodies import Response, body_pieces, short_body
from procorefs.procore.http.byte_ranges import Body, body_of, range_header, strong_etag
from procorefs.procore.wire.models import Version, VersionId

log = logging.getLogger(__name__)

REMEMBERED = 4096
"""Versions whose fresh address and ETag are kept."""

TRIES = 5
"""In a row without progress."""

PROGRESS_BYTES = 64 * 1024
"""As much in one try makes it count as progress."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
EXPIRED = frozenset({401, 403, 404, 410})
BUSY = frozenset({408, 425, 429})
"""5xx are Unavailable anyway."""


class _Source:
    """Where the bytes of one version are, as far as is known."""

    def __init__(self, listed_url: str) -> None:
        self.listed_url = listed_url
        """By the listing; when it changes, the listing is newer than the look-up."""
        self.url = listed_url
        self.etag: str | None = None
        """Strong; of the first answer."""
        self.sends_whole_bodies = False
        """A range was asked for and everything came."""
        self.looking_up = trio.Lock()
        """Readers of one version share a look-up."""


class _Expired(Exception):
    """The address does not serve the version now; `error` is raised when a new look-up does not help."""

    def __init__(self, url: str, error: ProcoreError) -> None:
        super().__init__()
        self.url = url
        self.error = error


class _TokenRejected(Exception):
    """The API's own host wants another token for the bytes."""

    def __init__(self, token: str, error: ProcoreError) -> None:
        super().__init__()
        self.token = token
        self.error = error


class Downloads:
    """The ranges of all versions of the project."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sources: OrderedDict[VersionId, _Source] = OrderedDict()

    @asynccontextmanager
    async def stream(self, version: Version, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes [start, end) of a version in pieces of up to 1 MiB, as they come.

        While iterated it raises ProcoreError: Silent after 30 s without a byte, Malformed when the storage has
        other bytes than Procore lists. Leaving the context ends the download.
        """
        if not 0 <= start <= end <= version.size_bytes:
            raise ValueError(f"[{start}, {end}) is not inside {version.size_bytes} bytes")
        stream = _Stream(self._client, version, self._source_of(version))
        async with aclosing(stream.pieces(start, end)) as pieces:
            yield pieces

    def ignores_ranges(self, version: Version) -> bool:
        """Whether the storage was seen to send all of the version when a range was asked for."""
        source = self._sources.get(version.id)
        return source is not None and source.sends_whole_bodies

    def waits_for_budget(self, version: Version) -> bool:
        """Whether a fresh address is being looked up, and the call has to wait for the budget."""
        source = self._sources.get(version.id)
        if source is None or not source.looking_up.locked():
            return False
        return self._client.limiter.would_wait(Priority.INTERACTIVE)

    def _source_of(self, version: Version) -> _Source:
        source = self._sources.get(version.id)
        if source is None:
            source = self._sources[version.id] = _Source(version.url)
            if len(self._sources) > REMEMBERED:
                self._sources.popitem(last=False)
        elif source.listed_url != version.url:
            source.listed_url = source.url = version.url
        self._sources.move_to_end(version.id)
        return source


class _Stream:
    """One download: its tries, and what they have in common."""

    def __init__(self, client: Client, version: Version, source: _Source) -> None:
        self._client = client
        self._version = version
        self._source = source
        self._action = "read the file"
        self._silence_s = client.settings.silence_s
        self._last_byte_s = trio.current_time()
        """Moved on as well while the consumer is busy."""
        self._failures = 0
        self._renewed = False
        self._looked_up = False
        self._named_pause_s = 0.0
        """By the storage's last Retry-After."""

    async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes [start, end), over as many tries as it takes."""
        position = start
        while position < end:
            began = position
            try:
                async with aclosing(self._one_try(position, end)) as body:
                    async for piece in body:
                        position += len(piece)
                        yield piece
                        self._last_byte_s = trio.current_time()
            except _TokenRejected as rejected:
                await self._renew(rejected)
            except _Expired as expired:
                await self._look_up(expired)
            except Unavailable as error:
                await self._wait_after(error, position - began)

    async def _one_try(self, position: int, end: int) -> AsyncGenerator[bytes, None]:
        """What one answer brings from `position` on, perhaps less than was asked for."""
        client, url = self._client, self._source.url
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "Range": range_header(position, end)}
        if self._source.etag is not None:
            headers["If-Range"] = self._source.etag
        token = await client.auth.token() if client.http.takes_token(url) else ""
        own_headers = client.own_headers(token) if token else {}
        silence_s = max(1.0, self._silence_s - (trio.current_time() - self._last_byte_s))
        async with client.http.get(
            url, action=self._action, headers=headers, own_headers=own_headers, silence_s=silence_s
        ) as response:
            if response.status_code not in (200, 206):
                raise await self._refusal(response, url, token)
            body = self._checked(response, url, position)
            if response.status_code == 200:
                self._source.sends_whole_bodies = (position, end) != (0, self._version.size_bytes)
            async with aclosing(_between(response, body, position, end, self._action)) as pieces:
                async for piece in pieces:
                    yield piece

    def _checked(self, response: Response, url: str, position: int) -> Body:
        """The body that an answer brings. Raises Malformed or _Expired when these are not the version's bytes."""
        size_bytes = self._version.size_bytes
        body = body_of(response.status_code, response.headers, position, size_bytes, self._action)
        etag = strong_etag(response.headers)
        if etag is not None:
            if self._source.etag is None:
                self._source.etag = etag
            elif etag != self._source.etag:
                changed = Malformed(f"Could not {self._action}: its bytes have changed in the storage")
                raise _Expired(url, changed)
        return body

    async def _refusal(self, response: Response, url: str, token: str) -> Exception:
        """What an answer without the bytes means for this download."""
        status = response.status_code
        if status == 416:
            size = self._version.size_bytes
            return Malformed(f"Could not {self._action}: the storage has fewer than the {size} bytes listed")
        self._named_pause_s = _retry_after_s(response.headers.get("retry-after", ""))
        error = error_of_answer(self._action, status, await short_body(response))
        if status == 401 and token and self._client.http.takes_token(str(response.url)) and not self._renewed:
            return _TokenRejected(token, error)
        if status in EXPIRED:
            return _Expired(url, error)
        if status in BUSY:
            return Unavailable(
                f"Could not {self._action}: the storage is busy (HTTP {status})", status=status
            )
        return error

    async def _renew(self, rejected: _TokenRejected) -> None:
        self._renewed = True
        await self._client.auth.renew(rejected.token)

    async def _look_up(self, expired: _Expired) -> None:
        """Ask Procore for a fresh address, once a stream; readers of one version ask once together."""
        if self._looked_up:
            raise expired.error
        self._looked_up = True
        source = self._source
        async with source.looking_up:
            if source.url != expired.url:
                return  # another stream did meanwhile
            log.info("the address of version %d has expired: looking it up again", self._version.id)
            fresh = await self._client.file_version(self._version.id, priority=Priority.INTERACTIVE)
            if fresh.id != self._version.id or fresh.size_bytes != self._version.size_bytes:
                raise Malformed(f"Could not {self._action}: Procore now says it has {fresh.size_bytes} bytes")
            source.url = fresh.url
        self._last_byte_s = trio.current_time()  # waiting for the call budget is not the storage's silence

    async def _wait_after(self, error: Unavailable, progress_bytes: int) -> None:
        """Pause before the next try, or raise the error when there were enough."""
        self._failures = 0 if progress_bytes >= PROGRESS_BYTES else self._failures + 1
        pause_s = min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S) * (0.5 + random.random())
        pause_s, self._named_pause_s = max(pause_s, self._named_pause_s), 0.0
        silent_s = trio.current_time() + pause_s - self._last_byte_s
        if isinstance(error, Silent) or self._failures >= TRIES or silent_s > self._silence_s:
            raise error
        log.info("%s: continuing with version %d in %.1f s", error, self._version.id, pause_s)
        await trio.sleep(pause_s)


async def _between(
    response: Response, body: Body, position: int, end: int, action: str
) -> AsyncGenerator[bytes, None]:
    """The bytes [position, end) out of a body, as far as it goes. Raises Unavailable when it breaks off."""
    at = body.start
    stop = min(end, body.stop)
    async with body_pieces(response) as pieces:
        async for piece in pieces:
            begin, at = at, at + len(piece)
            if at > body.stop:
                raise Malformed(f"Could not {action}: the storage sent more bytes than Procore lists")
            if begin < position or at > stop:
                piece = piece[max(position - begin, 0) : max(stop - begin, 0)]
            if piece:
                yield piece
            if at >= stop and stop < body.stop:
                return  # else read on: the connection stays usable, and an unannounced body may be too long
    if at < stop:
        raise Unavailable(f"Could not {action}: the storage sent only {at - body.start} bytes")


def _retry_after_s(value: str) -> float:
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0.0
