"""Devices that reach us over CoAP (wire reference, 5 and 5a). Cannot do: DTLS, multicast discovery, observe."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap import Sources, host_port, peer_port, put  # isort: skip

from device_agents import protocol as wire
from gateway.clock import Clock
from gateway.config.model import ControlConfig, DeviceConfig, SiteCoapConfig
from gateway.errors import OperatorError, PeerError, TransientError
from gateway.field.base import SiteInputs
from gateway.field.coap_contacts import Contact, ContactStore, who_answered
from gateway.field.coap_requests import JSON, LAB_PORT, CoapRequests, Where
from gateway.field.device_wire import rdr_answer_of, setpoint_of
from gateway.field.leases import Leases, turns_of
from gateway.field.presence import Entry, Presence
from gateway.site.command import Command
from gateway.site.event import RdrAnswer
from gateway.transport.coap_shared import CoapHub

# How long a device that was there before this start is given for an answer, and between two calls at most.
FIND_S = 1.0
MOST_PAUSE_S = 10.0
# Commands under way. A command takes this process some milliseconds; of a thousand sent at one moment the last answer
# would be taken seconds after it came, and its device be told again for nothing.
AT_ONCE = 32
# However fast a scaled clock runs, the network and this machine need so much for an answer.
LEAST_DEADLINE_S = 0.25


class CoapDevices:
    """All devices that come over CoAP to ``[site_coap]``.

    ``pulse``: a number that changes while control lives, else the engine's own count of its turns. ``hub``: the
    process's CoAP servers, so that an EMS above may be served at the same address.
    """

    name = "coap"
    at_once = AT_ONCE

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
        pulse: Callable[[], int] | None = None,
        contacts: ContactStore | None = None,
        hub: CoapHub | None = None,
    ) -> None:
        self._log = logger or logging.getLogger(__name__)
        self._config = config
        self._clock = clock
        self._hub = hub or CoapHub(ipv6)
        self._sources = Sources(config.sources)
        self._presence = Presence(self, devices, control, inputs, clock, config.open, self._log, config.most_guests)
        self._leases = Leases(self._presence, clock, self._acknowledge, pulse or turns_of(inputs), self._log)
        self._contacts = contacts
        self._requests = CoapRequests(
            self._presence, self._sources, self._log, lab_port, lambda: self._leases.alive, self._keep_contact
        )
        self._context: Any = None
        self.opened = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        # By device: the command that is on its way.
        self._commands: dict[int, tuple[int, asyncio.Task[None]]] = {}
        self.unanswered = 0

    # --- the daemon's side -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Raise ``OperatorError`` when the address or the port is not to be had."""
        with _naming_the_key():
            lease = await self._hub.open(self._requests.site(), self._config.bind, self._config.port)
        self._context = lease.context
        self.opened.set()
        self._log.info("CoAP serves %s", host_port(self._config.bind, self._config.port))
        self._call()
        self._take_up()
        try:
            await self._leases.keep()
        finally:
            self.opened.clear()
            tasks = [*self._tasks.values(), *(task for _, task in self._commands.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._context = None
            await lease.close()

    def send(self, command: Command) -> Awaitable[None]:
        """One command to its device, awaited until the device's own answer. It supersedes the one before, which is
        not sent again from now on, and an `ack` that still waits for its answer: a command says as much."""
        entry = self._entry(command.number)
        newest, before = self._commands.get(command.number, (0, None))
        if command.id < newest:
            raise TransientError(f"{entry.resource.name}: command {command.id} is older than {newest}")
        for waiting in (before, self._tasks.get(command.number)):
            if waiting is not None:
                waiting.cancel()
        self._presence.counters.commands += 1
        task = asyncio.get_running_loop().create_task(self._carry_out(entry, command))
        self._commands[command.number] = command.id, task
        task.add_done_callback(lambda ended: self._forget(command.number, ended))
        return self._outcome(entry, command, task)

    def _forget(self, number: int, ended: asyncio.Task[None]) -> None:
        if number in self._commands and self._commands[number][1] is ended:
            del self._commands[number]

    async def _outcome(self, entry: Entry, command: Command, task: asyncio.Task[None]) -> None:
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                raise
            raise TransientError(f"{entry.resource.name}: command {command.id} is superseded") from None

    async def _carry_out(self, entry: Entry, command: Command) -> None:
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
        self._requests.configure()
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

    # --- over a restart of ours ------------------------------------------------------------------------------

    def _keep_contact(self, number: int) -> None:
        entry = self._presence.entries[number]
        where, announced = entry.where, entry.announced
        if self._contacts is not None and isinstance(where, Where) and isinstance(announced, wire.Connected):
            port = announced.port or peer_port(where.to)
            self._contacts.save_contact(self.name, number, Contact(where.host, port, announced).encode())

    def _take_up(self) -> None:
        """Ask for those that were reached before this start, where they were."""
        kept = self._contacts.contacts(self.name) if self._contacts is not None else {}
        for number, text in kept.items():
            if number in self._presence.entries:
                continue
            try:
                contact = Contact.decode(text)
            except PeerError as err:
                self._log.warning("%s", err)
                continue
            config = self._presence.config(number)
            elsewhere = config is not None and config.address not in ("", contact.host)
            if not elsewhere and self._sources.allows(contact.host):
                self._begin(number, self._find(number, contact))

    async def _find(self, number: int, contact: Contact) -> None:
        """Until it answers, announces itself, or its lease has run out."""
        to = host_port(contact.host, contact.port)
        until = self._clock.monotonic() + self._presence.lease_s
        pause_s = FIND_S / 4
        while number not in self._presence.entries and self._clock.monotonic() < until:
            try:
                answer = await put(self._context, to, wire.PATH_ACK, wire.ACK, FIND_S)
            except TransientError as err:
                self._log.debug("device %d, as before this start: %s", number, err)
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
                continue
            status = who_answered(bytes(answer.payload), contact)
            if status is None or number in self._presence.entries:
                return
            entry = self._presence.came(contact.announced, number)
            if entry is not None:
                entry.where = Where(contact.host, answer.remote)
                self._presence.state(number, status)
            return

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
        self._presence.once.over(path, entry.number, f"{entry.resource.name}: PUT /{path} is taken again")

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
        if before is None:
            self._begin(entry.number, self._alive(entry))

    def _begin(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[number] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda ended: self._tasks.pop(number) if self._tasks.get(number) is ended else None)

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
