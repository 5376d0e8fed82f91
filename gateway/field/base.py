"""What an adapter of the field is to the daemon, and the daemon to it. Two small interfaces."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from gateway.site.command import Command
from gateway.site.event import RdrAnswer
from gateway.site.resource import Reading, Resource


class FieldAdapter(Protocol):
    """One protocol below. Translates and nothing else (docs/architecture.md, rule 3).

    Optional: ``opened``, an ``asyncio.Event`` that is set while what it opens on this machine (a socket, lines) is
    open; the daemon is ready once it is. A peer that is away must not keep it from being set. ``at_once``: so many
    commands may be under way; the others wait for the end of those (of what ``send`` returns).
    """

    name: str  # "mqtt", "coap", "gpio": the `link` of a device in the configuration

    async def run(self) -> None:
        """Serve until cancelled. Raise only what a restart of this part can mend."""

    def send(self, command: Command) -> Awaitable[None]:
        """Put one command on the wire, where the wire allows it before this returns; await what becomes of it.

        Raise ``TransientError``, here or there, when it cannot be sent now.
        """

    async def answer_rdr(self, number: int, answer: RdrAnswer) -> None:
        """Tell a device what became of an RDR that was pending."""

    async def close(self) -> None:
        """Bring outputs to their declared exit state, say good-bye, within one second."""


class SiteInputs(Protocol):
    """What the adapters tell the site. Synchronous: all return at once, nothing blocks."""

    def appeared(self, adapter: FieldAdapter, resource: Resource) -> None:
        """A resource announced itself (again). Its state follows by ``reported``."""

    def gone(self, number: int, why: str, lost: bool = False) -> None:
        """It said good-bye. ``lost``: its last will said so or its lease ran out, and it may still draw power."""

    def reported(self, number: int, reading: Reading) -> None:
        """A new reading. May cause commands to be sent before it returns."""

    def asked_back(self, number: int, watts: float, for_s: float) -> RdrAnswer:
        """An RDR. A pending answer is followed by ``FieldAdapter.answer_rdr``."""
