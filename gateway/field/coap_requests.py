"""What devices ask of us over CoAP (wire reference, 5 and 5a): the resources that we serve.

Every path is PUT. Whoever is not in the list of sources gets 4.03; a device with ``address`` in its configuration
may speak from there only; one that has not announced itself gets 4.12 and has to begin with ``/connected``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.record import slim

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap import GuardedSite, Sources, host_port, peer_host, peer_port  # isort: skip
import aiocoap

from device_agents import protocol as wire
from gateway.field.device_wire import rdr_answer_of
from gateway.transport.coap_site import Put

if TYPE_CHECKING:
    from gateway.field.presence import Presence

JSON = 50
LAB_PORT = 5683


@slim(slots=True)
class Where:
    """How a device is reached: an address that aiocoap knows already, else "host:port"."""

    host: str
    to: Any


class CoapRequests:
    """Turns requests into what ``presence`` takes, and its answers into ours.

    ``alive``: does control live. ``came`` is told who announced itself, once it is known where.
    """

    def __init__(
        self,
        presence: Presence,
        sources: Sources,
        logger: logging.Logger,
        lab_port: int = LAB_PORT,
        alive: Callable[[], bool] = lambda: True,
        came: Callable[[int], None] = lambda number: None,
    ) -> None:
        self._log = logger
        self._presence = presence
        self._sources = sources
        self._lab_port = lab_port
        self._alive = alive
        self._announced_itself = came
        self._by_address: dict[str, int] = {}
        self.configure()

    def configure(self) -> None:
        """The addresses that are configured now."""
        self._by_address = {d.address: d.number for d in self._presence.configs() if d.address}

    def site(self) -> GuardedSite:
        """All resources."""
        site = GuardedSite(self._sources)
        takers = {
            wire.PATH_CONNECTED: self._came,
            wire.PATH_STATUS: self._state,
            wire.PATH_RDR: self._asked,
            wire.PATH_DISCONNECTED: self._went,
        }
        for path, take in takers.items():
            site.add_resource([path], Put(self._guarded(path, take)))
        return site

    def _guarded(self, path: str, take: Any) -> Any:
        """An answer for whatever comes; a fault of ours is logged and answered 5.00."""

        def answer(remote: Any, body: bytes) -> Any:
            host = peer_host(remote)
            try:
                return take(remote, host, body)
            except wire.WireError as err:
                self._presence.malformed(f"{host} /{path}", str(err))
                return _answer(aiocoap.BAD_REQUEST, str(err))
            except Exception as err:
                self._log.debug("CoAP %s: PUT /%s", host, path, exc_info=True)
                text = f"CoAP {host}: PUT /{path}: {type(err).__name__}: {err}"
                self._presence.once.say("fault", (path, type(err)), text)
                return _answer(aiocoap.INTERNAL_SERVER_ERROR)

        return answer

    def _came(self, remote: Any, host: str, body: bytes) -> Any:
        return self._announced(remote, host, wire.decode_connected(body))

    def _announced(self, remote: Any, host: str, message: wire.Connected | wire.LabHello) -> Any:
        number = message.dev
        if number is None:
            number = self._by_address.get(message.addr or "", self._by_address.get(host))
        if number is None:
            self._presence.counters.strangers += 1
            self._presence.once.say(
                "address", host, f"coap: a device of the lab at {host} is refused: no [[device]] has this address"
            )
            return _answer(aiocoap.FORBIDDEN, "no [[device]] has this address")
        if not self._from_its_address(number, host):
            return _answer(aiocoap.FORBIDDEN, "another address is configured for this device")
        if self._presence.came(message, number) is None:
            entry = self._presence.entries.get(number)
            known = entry is not None and entry.here
            return _answer(aiocoap.CHANGED) if known else _answer(aiocoap.FORBIDDEN, "not configured here")
        self._presence.entries[number].where = self._where(remote, host, message)
        self._announced_itself(number)
        if not self._alive() and isinstance(message, wire.Connected):
            # Our 2.04 keeps its lease. It comes again, and is held to what control says when that goes on.
            return _answer(aiocoap.SERVICE_UNAVAILABLE, "control stands still")
        return _answer(aiocoap.CHANGED)

    def _where(self, remote: Any, host: str, message: wire.Connected | wire.LabHello) -> Where:
        """The sender's own address, with the port it names. Another host that it names is taken for a device of the
        lab alone, and only one that may speak here: else a device could aim our commands at somebody else."""
        if isinstance(message, wire.Connected):
            port = message.port
        else:
            port = self._lab_port
            if message.addr and message.addr != host and self._sources.allows(message.addr):
                return Where(host, host_port(message.addr, port))
        if port is None or port == peer_port(remote):
            return Where(host, remote)
        return Where(host, host_port(host, port))

    def _from_its_address(self, number: int, host: str) -> bool:
        config = self._presence.config(number)
        if config is None or not config.address or config.address == host:
            return True
        self._sources.refused += 1
        self._presence.once.say(
            "address",
            (number, host),
            f"coap: {host} speaks as device {number}, whose address is {config.address}; refused",
        )
        return False

    def _speaks_for(self, number: int, host: str) -> bool:
        """Only from where it announced itself; a device that moved announces itself again."""
        entry = self._presence.entries.get(number)
        return entry is None or not isinstance(entry.where, Where) or entry.where.host == host

    def _state(self, remote: Any, host: str, body: bytes) -> Any:
        message = wire.decode_status(body)
        if isinstance(message, wire.LabHello):
            return self._announced(remote, host, message)
        if not self._from_its_address(message.dev, host):
            return _answer(aiocoap.FORBIDDEN)
        if not self._speaks_for(message.dev, host) or not self._presence.state(message.dev, message):
            return _answer(aiocoap.PRECONDITION_FAILED, "connected first")
        known = message.dev in self._presence.entries
        return _answer(aiocoap.CHANGED) if known else _answer(aiocoap.FORBIDDEN, "not configured here")

    def _asked(self, remote: Any, host: str, body: bytes) -> Any:
        message = wire.Rdr.decode(body)
        if not self._from_its_address(message.dev, host):
            return _answer(aiocoap.FORBIDDEN)
        answer = self._presence.asked(message.dev, message) if self._speaks_for(message.dev, host) else None
        if answer is None:
            return _answer(aiocoap.PRECONDITION_FAILED, "connected first")
        return aiocoap.Message(code=aiocoap.CONTENT, payload=rdr_answer_of(answer), content_format=JSON)

    def _went(self, remote: Any, host: str, body: bytes) -> Any:
        if wire.is_json(body):
            message = wire.Gone.decode(body)
        else:
            hello = wire.LabHello.decode(body)
            number = hello.dev if hello.dev is not None else self._by_address.get(host)
            if number is None:
                return _answer(aiocoap.FORBIDDEN)
            message = wire.Gone(number, wire.MAX_COUNTER)
        if not self._from_its_address(message.dev, host) or not self._speaks_for(message.dev, host):
            return _answer(aiocoap.FORBIDDEN)
        self._presence.went(message)
        return _answer(aiocoap.CHANGED)


def _answer(code: Any, text: str = "") -> Any:
    return aiocoap.Message(code=code, payload=text.encode("ascii", "backslashreplace")[:200])
