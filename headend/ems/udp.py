"""The lab's datagrams at the EMS (wire reference, section 6): VTNs above, and EMAs that only tell and are told.

Nothing here is answered but to a VTN, so an event line is sent several times. Cannot do: know that an EMA heard of an
event, answer its RDR (it cannot ask), tell an EMA from who forges its address; give two events of one EMA the same
start (the line has no number but that): the later one begins a minute earlier.
"""

from __future__ import annotations

import asyncio
import logging
import zlib

from gateway.control.negotiation.messages import FromCoordinator
from gateway.errors import OperatorError
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.messages.budget import Budget
from gateway.links.mir2017.udp import messages as udp
from gateway.links.mir2017.udp.ends import Dropped, EmsEnd, Updated, VtnGone, VtnRegistered, VtnReported
from gateway.transport.sources import Sources
from gateway.transport.udp import Address, UdpPort
from headend.ems.head import EventBody
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings, parse_address, parse_sources
from headend.ems.state import Device
from headend.ems.translate import number_of
from headend.ems.view_types import LinkView

NAME = "udp"
MINUTE = 60.0
# Each line again after these, of the machine's seconds: one lost datagram is not to cost the EMS's own repetition.
AGAIN_S = (0.2, 1.0)


class UdpHead:
    """One socket. ``run`` until cancelled."""

    name = NAME
    controls_devices = False
    negotiates = prices = False
    answers = False

    def __init__(self, service: EmsService, settings: EmsSettings, log: logging.Logger) -> None:
        self._service = service
        self._log = log
        self._address = parse_address("udp", settings.udp)
        self.end = EmsEnd(wire.zone_named(settings.zone), settings.duration_ms)
        self.port = UdpPort(
            self._address,
            Sources(parse_sources(settings.udp_sources)),
            self._received,
            log,
            udp.LARGEST_DATAGRAM,
        )
        self._configured = parse_emas(settings.udp_emas)  # number → host, port (0: the one it sends from)
        self._numbers = {host: number for number, (host, _) in self._configured.items()}
        self._where: dict[int, Address] = {number: to for number, to in self._configured.items() if to[1]}
        self._starts: dict[tuple[int, int], tuple[float, float]] = {}  # EMA, event → its start, the line's start
        self._repeats: dict[tuple[int, float], list[asyncio.TimerHandle]] = {}  # EMA, the line's start
        service.attach(self)

    @property
    def up(self) -> bool:
        return self.port.up

    def link(self) -> LinkView:
        """For pages and scripts; ``refused`` are datagrams, those of strangers too."""
        host, port = self._address
        refused = self.end.dropped + self.port.sources.refused + self.port.failed
        return LinkView(NAME, self.up, f"{host}:{port}", 0, 0, self.port.oversized, refused)

    async def run(self) -> None:
        """Raise ``OperatorError`` when the address is taken."""
        await self.port.open()
        self._log.info("UDP %s:%d: serving VTNs and EMAs", *self._address)
        self._service.link_changed(self)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.port.close()
            for handles in self._repeats.values():
                for handle in handles:
                    handle.cancel()
            self._repeats.clear()
            self._service.link_changed(self)

    # What comes in

    def _received(self, body: bytes, address: Address) -> None:
        answer, happened = self.end.received(body)
        if answer is not None:
            self.port.send(answer, address)
        where = f"{address[0]}:{address[1]}"
        match happened:
            case VtnRegistered(vtn, vens):
                self._service.vtns.registered(vtn, where, vens)
            case VtnReported(vtn, vens, value):
                self._service.vtns.reported(vtn, where, vens, value)
            case VtnGone(vtn):
                self._service.vtns.gone(vtn)
            case Updated(update):
                self._updated(update, body, address)
            case Dropped(reason):
                self._service.refuse(f"udp {address[0]}", reason)

    def _updated(self, update: udp.EiUpdate, body: bytes, address: Address) -> None:
        number = self._number(update.ema, address)
        if number is None:
            return
        name, book = wire.ema_name(number), self._service.book
        known = book.emas.get(name)
        if known is not None and known.connected and known.protocol != NAME:
            # Else anybody in the list of sources could take an EMA's events away from its session.
            self._service.refuse(f"udp {address[0]}", f"{name} has a session over {known.protocol}")
            return
        if not self._configured.get(number, ("", 0))[1] and self._service.admits(name):
            self._where[number] = address
        power: dict[str, float | None] = dict.fromkeys(
            ("power_w", "threshold_w", "margin_w", "generate_w", "storage_w")
        )
        devices = []
        if update.device is None:
            power |= {"power_w": update.power, "threshold_w": update.threshold, "margin_w": update.margin}
        else:
            devices.append(
                Device(
                    ema=name,
                    id=wire.device_name(update.device),
                    number=update.device,
                    on=update.on,
                    dimming=update.dimming,
                    watt=update.power,
                    priority=update.priority,
                )
            )
        # The wire has no RequestID: a datagram that comes twice says the same.
        self._service.intake.reported(name, NAME, f"udp {zlib.crc32(body):08x}", update.at, power, devices)

    def _number(self, said: int | None, address: Address) -> int | None:
        """Whose report it is: by its address, where that is configured, else by what it says, else by who said its
        number from there before."""
        host = address[0]
        ours = self._numbers.get(host)
        if ours is not None and said is not None and said != ours and said not in self._configured:
            self._service.refuse(f"udp {host}", f"says EMA {said}, and udp_emas has EMA {ours} there")
            return None
        if said is not None and said in self._configured and self._configured[said][0] != host:
            self._service.refuse(f"udp {host}", f"says EMA {said}, which udp_emas has at {self._configured[said][0]}")
            return None
        if said is not None:
            return said
        found = ours or next((n for n, where in self._where.items() if where == address), None)
        if found is None:
            self._service.refuse(f"udp {host}", "a report without a number; udp_emas can say which EMA is there")
        return found

    # What goes out

    def push(self, ema: str, event: EventBody) -> None:
        number = number_of(ema)
        first, before = self._line_start(number, event)
        if before is not None:
            self._say(number, before, before, event.value_w)  # it began at another time: that one is none any more
        self._say(number, first, first if event.end <= event.start else event.end, event.value_w)

    def _line_start(self, number: int, event: EventBody) -> tuple[float, float | None]:
        """The start by which this EMA knows the event; and the one it knew it by before, where that is another."""
        key = (number, event.id)
        known = self._starts.get(key)
        if known is not None and known[0] == event.start:
            return known[1], None
        events = self._service.book.events
        for old in [k for k in self._starts if k[1] not in events]:
            del self._starts[old]
        taken = {line for (ema, other), (_, line) in self._starts.items() if ema == number and other != event.id}
        first = event.start
        while first in taken:
            first -= MINUTE
        self._starts[key] = (event.start, first)
        return first, known[1] if known is not None and known[1] != first else None

    def _say(self, number: int, first: float, end: float, value_w: float) -> None:
        """Now and again; what was said of that start before is not repeated any more."""
        for handle in self._repeats.pop((number, first), ()):
            handle.cancel()
        where = self._where.get(number)
        if where is None:
            self._log.debug("gw/%d: an event waits until it reports: its address is not known", number)
            return
        body = self.end.event(first, end, round(value_w))
        self.port.send(body, where)
        loop = asyncio.get_running_loop()
        again = [loop.call_later(wait, self.port.send, body, where) for wait in AGAIN_S]
        again.append(loop.call_later(AGAIN_S[-1], self._repeats.pop, (number, first), None))
        self._repeats[number, first] = again

    def broadcast(self, event: EventBody) -> None:
        for ema in self._service.book.emas.values():
            if ema.protocol == NAME and ema.connected:
                self.push(ema.name, event)

    # What this wire has no words for

    def answer_poll(self, ema: str, event: EventBody | None, want_report: bool) -> None: ...

    def acknowledge_report(self, ema: str, request_id: str) -> None: ...

    def refuse_report(self, ema: str, request_id: str, code: int, why: str) -> None: ...

    def acknowledge_opt(self, ema: str, code: int) -> None: ...

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None: ...

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None: ...

    def negotiate(self, ema: str, message: FromCoordinator) -> None: ...

    def answer_ask(self, ema: str, accepted: bool, margin_w: int) -> None: ...

    def tell_prices(self, ema: str, budgets: tuple[Budget, ...]) -> None: ...

    def control(self, ema: str, number: int, on: bool) -> None: ...

    def dim(self, ema: str, number: int, up: bool) -> None: ...


def parse_emas(text: str) -> dict[int, Address]:
    """``1=10.0.0.5 2=10.0.0.6:9091``: numbers, and where they are (port 0: where they send from). Raise
    ``OperatorError``."""
    found: dict[int, Address] = {}
    for part in text.replace(",", " ").split():
        number, equals, where = part.partition("=")
        host, port = parse_address("udp_emas", where) if _has_port(where) else (where.strip("[]"), 0)
        if not equals or not number.isdecimal() or not 1 <= int(number) <= 99_999 or not host:
            raise OperatorError(f"udp_emas: {part!r} is not such as 1=10.0.0.5 or 1=10.0.0.5:9091")
        Sources([host])  # an address, no name: it is compared with where datagrams come from
        found[int(number)] = (host, port)
    return found


def _has_port(where: str) -> bool:
    return "]:" in where if where.startswith("[") else where.count(":") == 1
