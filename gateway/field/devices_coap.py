"""Devices that reach us over CoAP (wire reference, 5 and 5a). Cannot do: DTLS, multicast discovery, observe.

Every path is PUT. Whoever is not in the list of sources gets 4.03; a device with ``address`` in its configuration
may speak from there only; one that has not announced itself gets 4.12 and has to begin with ``/connected``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap import GuardedSite, Sources, host_port, open_server, peer_host, peer_port, put  # isort: skip
import aiocoap
import aiocoap.resource

from device_agents import protocol as wire
from gateway.clock import Clock
from gateway.config.model import ControlConfig, DeviceConfig, SiteCoapConfig
from gateway.errors import OperatorError, TransientError
from gateway.field.base import SiteInputs
from gateway.field.device_wire import rdr_answer_of, setpoint_of
from gateway.field.presence import Entry, Presence, keep_leases
from gateway.site.command import Command
from gateway.site.event import RdrAnswer

JSON = 50
LAB_PORT = 5683
# However fast a scaled clock runs, the network and this machine need so much for an answer.
LEAST_DEADLINE_S = 0.25


@dataclass(slots=True)
class Where:
    """How a device is reached: an address that aiocoap knows already, else "host:port"."""

    host: str
    to: Any


class _Path(aiocoap.resource.Resource):
    """One resource of ours: PUT, one datagram."""

    def __init__(self, take: Any) -> None:
        super().__init__()
        self._take = take

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        """No message on this wire needs it, and half a message kept for a peer is memory given away."""
        return False

    async def render_put(self, request: Any) -> Any:
        if request.opt.block1 is not None and (request.opt.block1.more or request.opt.block1.block_number):
            return aiocoap.Message(code=aiocoap.REQUEST_ENTITY_TOO_LARGE)
        return self._take(request.remote, request.payload)


class CoapDevices:
    """All devices that come over CoAP to ``[site_coap]``."""

    name = "coap"

    def __init__(
        self,
        config: SiteCoapConfig,
        devices: Sequence[DeviceConfig],
        control: ControlConfig,
        inputs: SiteInputs,
        clock: Clock,
        logger: logging.Logger | None = None,
        ipv6: bool | None = None,
        lab_port: int = LAB_PORT,
    ) -> None:
        self._log = logger or logging.getLogger(__name__)
        self._config = config
        self._clock = clock
        self._ipv6 = ipv6
        self._lab_port = lab_port
        self._sources = Sources(config.sources)
        self._presence = Presence(self, devices, control, inputs, clock, config.open, self._log)
        self._by_address = {d.address: d.number for d in self._presence.configs() if d.address}
        self._context: Any = None
        self.opened = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.unanswered = 0

    # --- the daemon's side -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Raise ``OperatorError`` when the address or the port is not to be had."""
        site = GuardedSite(self._sources)
        takers = {
            wire.PATH_CONNECTED: self._came,
            wire.PATH_STATUS: self._state,
            wire.PATH_RDR: self._asked,
            wire.PATH_DISCONNECTED: self._went,
        }
        for path, take in takers.items():
            site.add_resource([path], _Path(self._guarded(path, take)))
        core = aiocoap.resource.WKCResource(site.get_resources_as_linkheader, impl_info=None)
        site.add_resource([".well-known", "core"], core)
        with _naming_the_key():
            self._context = await open_server(site, self._config.bind, self._config.port, self._ipv6)
        self.opened.set()
        self._log.info("CoAP serves %s", host_port(self._config.bind, self._config.port))
        self._call()
        try:
            await keep_leases(self._presence, self._clock, self._acknowledge)
        finally:
            self.opened.clear()
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            context, self._context = self._context, None
            await context.shutdown()

    async def send(self, command: Command) -> None:
        """One command to its device; returns with the device's own answer."""
        entry = self._entry(command.number)
        self._presence.counters.commands += 1
        if entry.lab is None:
            await self._put(entry, wire.PATH_SETPOINT, setpoint_of(command), content_format=JSON)
            return
        for frame in entry.lab.begin(command):
            await self._put(entry, wire.PATH_LIGHT, frame)
        entry.lab.told(command)
        self._presence.told(entry, entry.lab.reading(self._clock.monotonic(), entry.resource.rated_w, command.id))

    async def answer_rdr(self, number: int, answer: RdrAnswer) -> None:
        """What became of a pending RDR."""
        self._presence.answered(number, answer)
        await self._put(self._entry(number), wire.PATH_RDR, rdr_answer_of(answer), content_format=JSON)

    def configure(self, devices: Sequence[DeviceConfig], control: ControlConfig) -> None:
        """Other ``[[device]]`` tables; the socket and all other devices stay."""
        self._presence.configure(devices, control)
        self._by_address = {d.address: d.number for d in self._presence.configs() if d.address}
        for number, entry in list(self._presence.entries.items()):
            config, where = self._presence.config(number), entry.where
            if config is not None and config.address and isinstance(where, Where) and where.host != config.address:
                self._presence.drop(number, f"its address is {config.address} now")
        self._call()

    def _call(self) -> None:
        """Devices of the lab that do not announce themselves: their address and port are configured."""
        if self._context is None:
            return
        for config in self._presence.configs():
            number = config.number
            if not (config.address and config.port) or number in self._presence.entries:
                continue
            entry = self._presence.came(
                wire.LabHello(config.address, number, max(config.priority, 0), config.type), number
            )
            if entry is not None:
                entry.where = Where(config.address, host_port(config.address, config.port))
                entry.called = True
                self._acknowledge(entry)

    async def close(self) -> None:
        """Nothing to say: the devices keep their leases, and a restarted EMA takes up what runs."""

    def status(self) -> dict[str, object]:
        """For `smartema status`."""
        guards = self._context.guards if self._context is not None else ()
        return {
            "serves": host_port(self._config.bind, self._config.port),
            "running": self._context is not None,
            "refused": self._sources.refused,
            "unanswered": self.unanswered,
            "dropped": sum(g.dropped for g in guards),
            "broken": sum(g.broken for g in guards),
            **self._presence.status(),
        }

    # --- requests to a device --------------------------------------------------------------------------------

    async def _put(self, entry: Entry, path: str, payload: bytes, **options: Any) -> None:
        """Carried out by the device, or ``TransientError``."""
        answer = await self._ask(entry, path, payload, **options)
        if not answer.code.is_successful():
            reason = bytes(answer.payload[:80]).decode("utf-8", "replace")
            text = f"{entry.resource.name}: PUT /{path}: {answer.code} {reason}".rstrip()
            self._presence.once.say(path, entry.number, text)
            raise TransientError(text)

    async def _ask(self, entry: Entry, path: str, payload: bytes, **options: Any) -> Any:
        """The device's answer, which is a sign of life whatever it says."""
        where = entry.where
        if self._context is None or not isinstance(where, Where):
            raise TransientError(f"{entry.resource.name}: CoAP is not up")
        seconds = max(self._clock.real(entry.resource.latency_s), LEAST_DEADLINE_S)
        try:
            answer = await put(self._context, where.to, path, payload, seconds, **options)
        except TransientError:
            self.unanswered += 1
            raise
        where.to = answer.remote
        self._presence.heard(entry)
        return answer

    def _acknowledge(self, entry: Entry) -> None:
        before = self._tasks.get(entry.number)
        if before is None or before.done():
            self._tasks[entry.number] = asyncio.get_running_loop().create_task(self._alive(entry))

    async def _alive(self, entry: Entry) -> None:
        """``ack``; a device of the lab has no such path, and by saying so it is alive as well."""
        try:
            await self._ask(entry, wire.PATH_ACK, wire.ACK)
        except TransientError as err:
            self._log.debug("%s: %s", entry.resource.name, err)
            return
        if entry.lab is not None:
            reading = entry.lab.reading(self._clock.monotonic(), entry.resource.rated_w)
            self._presence.told(entry, reading)

    # --- requests of a device --------------------------------------------------------------------------------

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

    def _entry(self, number: int) -> Entry:
        entry = self._presence.entries.get(number)
        if entry is None or not entry.here:
            raise TransientError(f"device {number} is not there")
        return entry


@contextlib.contextmanager
def _naming_the_key() -> Iterator[None]:
    try:
        yield
    except OperatorError as err:
        reason = err.__cause__
        ours = isinstance(reason, OSError) and reason.errno != errno.EADDRNOTAVAIL
        raise OperatorError(f"[site_coap] {'port' if ours else 'bind'}: {err}") from err


def _answer(code: Any, text: str = "") -> Any:
    return aiocoap.Message(code=code, payload=text.encode("ascii", "backslashreplace")[:200])
