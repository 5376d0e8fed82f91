"""Connections to the API that say little and stay: bounded in time and number, so that they stop nobody else.

uvicorn ends a connection that is idle after a request; it waits for ever for the first byte, for the rest of a head,
for a body, and for a reader that does not read. Cannot do: bound TLS handshakes in number (they are in time).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True)
class Bounds:
    """``connections``: at once (files of a process are 1024 by default; 200 pages may be open); beyond it the oldest
    that waits for a request gives way. Seconds of the machine's clock: ``head_s`` until a request's head is here (and a
    TLS handshake done), ``body_s`` until its body is, ``read_s`` until an answer that waits is read on."""

    connections: int = 400
    head_s: float = 10.0
    body_s: float = 30.0
    read_s: float = 30.0


class GuardedProtocol(H11Protocol):
    """One connection. ``bounds``: another in a subclass (``bounded``)."""

    bounds = Bounds()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._phase = ""
        self._reader: asyncio.TimerHandle | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for("head", self.bounds.head_s)
        if len(self.connections) > self.bounds.connections:
            _make_room(self.connections, self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_for("", 0)
        self._read_on()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader is None:
            self._reader = self.loop.call_later(self.bounds.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._read_on()
        super().resume_writing()

    # Where the request stands

    @property
    def waits(self) -> bool:
        """Is no request of it complete that is not answered yet."""
        return bool(self._phase) or self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._wait_for("body", self.bounds.body_s)
        elif state is h11.IDLE and (self._phase == "head" or self.conn.trailing_data[0]):
            self._wait_for("head", self.bounds.head_s)
        else:
            self._wait_for("", 0)  # it is answered, or idle: that is uvicorn's own time-out

    def _wait_for(self, phase: str, seconds: float) -> None:
        if phase == self._phase:
            return  # what trickles in buys no time
        self._phase = phase
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if phase:
            self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _read_on(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None


def _make_room(connections: Iterable[Any], newest: GuardedProtocol) -> None:
    """End the oldest connection that waits for a request; where all are being answered, the newest."""
    waiting = [c for c in connections if isinstance(c, GuardedProtocol) and c.waits and c is not newest]
    oldest = min((c for c in waiting if not c.transport.is_closing()), key=lambda c: c.made, default=newest)
    oldest.transport.abort()


def bounded(bounds: Bounds) -> type[GuardedProtocol]:
    """The protocol with these bounds."""
    return type("BoundedProtocol", (GuardedProtocol,), {"bounds": bounds})
