"""Where each CoAP device was reached last, kept over a restart of ours, so that it can be commanded at once.

An address alone proves nothing: it may be lent to another device meanwhile (DHCP), and a command names no device. So a
remembered one is first sent an ``ack``; the state in its answer says who it is (docs/devices.md). Who says nothing
there, or something else, is left to announce itself.
"""

from __future__ import annotations

import json
from typing import Protocol

from device_agents import protocol as wire
from gateway.errors import PeerError
from gateway.record import slim


class ContactStore(Protocol):
    """What the journal keeps of how devices are reached: a text a device, on disk when it changes."""

    def contacts(self, link: str) -> dict[int, str]: ...

    def save_contact(self, link: str, number: int, text: str) -> None: ...


@slim(frozen=True, slots=True)
class Contact:
    """A device as it announced itself, and where it serves."""

    host: str
    port: int
    announced: wire.Connected

    def encode(self) -> str:
        """One line of text."""
        announced = self.announced.encode().decode("ascii")
        return json.dumps({"host": self.host, "port": self.port, "connected": announced}, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Contact:
        """Raise ``PeerError`` for what ``encode`` did not write."""
        try:
            kept = json.loads(text)
            host, port = str(kept["host"]), int(kept["port"])
            return cls(host, port, wire.Connected.decode(kept["connected"].encode("ascii")))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PeerError(f"a contact in the journal: {error}") from None


def who_answered(payload: bytes, contact: Contact) -> wire.Status | None:
    """The state in an answer to ``ack``; None: it is not this start of this device that answered."""
    try:
        status = wire.Status.decode(payload)
    except wire.WireError:
        return None
    announced = contact.announced
    return status if (status.dev, status.boot) == (announced.dev, announced.boot) else None
