"""Waiting for those who call: not for ever, and not when the service is to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sficonv.service.settings import Settings

FORM_OVERHEAD = 100_000
"""Bytes of a form beside the file in it."""
STALLED = "the upload stalled or was too slow; send it again"


class Closing:
    """Ends all that waits for a client when the service is to stop."""

    def __init__(self) -> None:
        self.begun = False
        self._waits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def patience(self, seconds: float | None, complaint: str = "") -> AsyncIterator[None]:
        """Bound what is awaited in the block.

        Args:
            seconds: To wait at most; `None` for no limit.
            complaint: The reason to give with 408 when they are over.

        Raises:
            HTTPException: 408, or 503 when the service stops meanwhile; either closes the connection.
        """
        try:
            async with asyncio.timeout(0 if self.begun else seconds) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError as error:
            status, reason = (503, "the service is being stopped") if self.begun else (408, complaint)
            raise HTTPException(status, reason, {"Connection": "close"}) from error

    def begin(self) -> None:
        """End all waits, now and from now on."""
        self.begun = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())


class BodyLimits:
    """Bounds the size, the slowness and the number of request bodies; nothing is held for one that stalls.

    A body is refused as soon as it grows past the limit, not when it has been read to its end; with 408 when
    no byte comes for `settings.upload_pause` seconds, or when on average it is slower than
    `settings.upload_rate`; and with 429 while `settings.max_uploads` others are under way.

    Args:
        app: The application behind it.
        settings: The limits.
        closing: Ends the waiting when the service stops.
    """

    def __init__(self, app: ASGIApp, settings: Settings, closing: Closing) -> None:
        self.app, self.settings, self.closing = app, settings, closing
        self._under_way: set[_Body] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request whose body is counted and timed while it comes."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body = _Body(self.settings)

        async def bounded() -> Message:
            if body.complete:  # what may come now is that the client leaves
                return await receive()
            if body not in self._under_way and len(self._under_way) >= self.settings.max_uploads:
                raise HTTPException(429, "too many uploads are under way; try again", {"Retry-After": "5"})
            self._under_way.add(body)
            async with self.closing.patience(body.patience, STALLED):
                message = await receive()
            body.note(message)
            if body.complete:
                self._under_way.discard(body)
            return message

        try:
            return await self.app(scope, bounded, send)
        finally:
            self._under_way.discard(body)


class _Body:
    """One request body: how much of it has come, and how long to wait for more."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._begun = settings, monotonic()
        self.received = 0
        self.complete = False

    @property
    def patience(self) -> float:
        pause = self._settings.upload_pause
        at_this_rate = self._begun + pause + self.received / self._settings.upload_rate
        return max(0.0, min(pause, at_this_rate - monotonic()))

    def note(self, message: Message) -> None:
        self.received += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        if self.received > self._settings.max_upload + FORM_OVERHEAD:
            raise HTTPException(413, too_large(self._settings.max_upload))


def too_large(limit: int) -> str:
    """What to tell of an upload that is too large."""
    return f"the file is larger than the limit of {limit / 1e6:.0f} MB"
