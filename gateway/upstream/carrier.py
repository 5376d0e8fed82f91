"""What carries an EMS's session: a transport with the client of its profile. One small interface, a carrier a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client import ClientOutput, Step
from gateway.record import slim


class UpperClient(Protocol):
    """The EMA's end of a profile, sans-I/O."""

    ema: int
    echoes: bool
    refused: int
    stale: int
    step: Step

    @property
    def up(self) -> bool:
        """Is the session set up."""

    def connected(self) -> list[ClientOutput]:
        """Begin the set-up (again)."""

    def disconnected(self) -> None:
        """The transport broke."""

    def farewell(self) -> list[wire.Send]:
        """What is said before an orderly end."""

    def poll(self) -> list[wire.Send]: ...

    def report(self, report: wire.UpdateReport) -> list[wire.Send]: ...

    def margin(self, margin: wire.PowerMargin) -> list[wire.Send]: ...

    def created_event(self, event_id: int, request_id: int, opt_in: bool) -> list[wire.Send]: ...

    def rdr(self, number: int, watts: int) -> list[wire.Send]: ...

    def device_connect(self, device: wire.DeviceText) -> list[wire.Send]: ...

    def device_disconnect(self, device: wire.DeviceText) -> list[wire.Send]: ...

    def device_info(self, device: wire.DeviceText) -> list[wire.Send]: ...


Take = Callable[[list[ClientOutput]], None]
"""What a carrier calls with all that one message of the EMS gave."""


class Carrier(Protocol):
    """Puts what the client says on the wire, and hands what it makes of the answers to ``take``."""

    answers: bool  # its wire has answers; where not, what was sent counts as done

    @property
    def reconnects(self) -> int:
        """How often the transport came back."""

    @property
    def oversized(self) -> int:
        """What was not looked at: too large, or of a stranger."""

    @property
    def address(self) -> str:
        """Where the EMS (or its broker) is, for people."""

    @property
    def up(self) -> bool:
        """Does the transport stand."""

    @property
    def state(self) -> str:
        """The same in a word."""

    async def run(self) -> None:
        """Hold the transport until cancelled; comes back by itself."""

    def post(self, send: wire.Send) -> None:
        """Say it without waiting. What is lost is said again by the session's own deadlines."""

    async def publish(self, send: wire.Send) -> None:
        """Say it; return when the other side's transport has it. Raise ``TransientError``."""


@slim(frozen=True, slots=True)
class Hooks:
    """What a carrier tells the session."""

    take: Take
    up: Callable[[], Awaitable[None]]
    down: Callable[[], None]
