"""Connections that end when their client stalls: each holds a file descriptor, of which there are few."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with bounds on the waiting that no request is there to bound.

    A connection is closed when within the time allowed it does not bring the head of a request, or does not
    take what it is being sent. While a request is under way, `BodyLimits` bounds the waiting for its body.

    Args:
        patience: Seconds to wait for either.
        **given: As uvicorn gives them.
    """

    def __init__(self, *, patience: float, **given: Any) -> None:
        super().__init__(**given)
        self._patience = patience
        self._waits: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; with the last ones of a head the wait for it ends."""
        super().data_received(data)
        self._wait_for_head()

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        super().on_response_complete()
        self._wait_for_head()

    def pause_writing(self) -> None:
        """Wait until the client takes more."""
        super().pause_writing()
        self._wait("reader")

    def resume_writing(self) -> None:
        """The client takes what it is sent."""
        super().resume_writing()
        self._end_wait("reader")

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waits."""
        for reason in list(self._waits):
            self._end_wait(reason)
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._wait("head")
        else:
            self._end_wait("head")

    def _wait(self, reason: str) -> None:
        if reason not in self._waits:
            loop = asyncio.get_running_loop()
            self._waits[reason] = loop.call_later(self._patience, self.transport.abort)

    def _end_wait(self, reason: str) -> None:
        if wait := self._waits.pop(reason, None):
            wait.cancel()
