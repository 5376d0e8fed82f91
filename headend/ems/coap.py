"""EMAs over CoAP (wire reference, sections 3 and 8): answers, pushes and notifications.

An EMA is written to where it last asked from. Cannot do: reach an EMA that was not heard of since the EMS started;
what is meant for it waits until it asks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gateway.transport.coap import GuardedSite, Sources  # isort: skip
from gateway.control.negotiation.messages import FromCoordinator
from gateway.links.emap1b.messages.names import CONTENT_FORMAT, PROFILE
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.coap.server import Server, Write
from gateway.links.mir2017.messages.budget import Budget
from gateway.links.mir2017.messages.negotiation import LabAnswer
from gateway.negotiation_words import written
from gateway.transport.coap_ask import TEXT
from gateway.transport.coap_emas import LONGEST_REASON, CoapEmas
from gateway.transport.coap_shared import CoapHub
from headend.ems.head import EventBody
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings, parse_address, parse_sources
from headend.ems.translate import Translator, event_of, number_of, rdr_words
from headend.ems.view_types import LinkView

if TYPE_CHECKING:
    from gateway.links.emap1b.coap_server import CoapServer as Emap1bServer
    from gateway.transport.oscore import Keys

NAME = "coap"


class CoapHead:
    """One address, many EMAs, of profile ``mir2017`` or of ``emap1b``. ``run`` until cancelled."""

    def __init__(
        self,
        service: EmsService,
        settings: EmsSettings,
        log: logging.Logger,
        hub: CoapHub,
        emap1b: Emap1bServer | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.name = NAME if emap1b is None else f"{NAME} emap1b"
        self.controls_devices = emap1b is None
        self.negotiates = emap1b is None
        self.prices = True
        self.answers = True
        self._service = service
        self._translator = Translator(service, self.name)
        self._log = log
        self._hub = hub
        self._address = parse_address("coap", settings.coap)
        self._sources = Sources(parse_sources(settings.coap_sources))
        self.server: Server | Emap1bServer = emap1b or Server(
            zone=wire.zone_named(settings.zone),
            duration_ms=settings.duration_ms,
            admit=lambda number: service.admits(wire.ema_name(number)),
            prices=lambda number: service.prices.budgets(wire.ema_name(number)),
        )
        self._keys = keys
        self._speaker: Any = None  # the address of whoever is heard now
        if keys is not None:
            self.server.speaks = self._speaks
        self.emas = CoapEmas(
            self.server,
            self._happened,
            self._registered,
            self._refused,
            log,
            observe="obs" if emap1b is None else PROFILE,
            content_format=TEXT if emap1b is None else CONTENT_FORMAT,
            heard=self._heard,
        )
        service.attach(self)

    async def run(self) -> None:
        """Raise ``OperatorError`` when the address is taken."""
        if self._keys is not None:
            self._keys.open()
        try:
            await self._run()
        finally:
            if self._keys is not None:
                self._keys.close()

    async def _run(self) -> None:
        site = GuardedSite(self._sources, self._keys)
        await self.emas.serve(self._hub, site, self._address, self._opened, self._closed)

    @property
    def up(self) -> bool:
        return self.emas.up

    def _opened(self) -> None:
        self._log.info("CoAP %s:%d: serving EMAs (%s)", *self._address, self.name)
        self._service.link_changed(self)

    def _closed(self) -> None:
        self._service.link_changed(self)

    def link(self) -> LinkView:
        """For pages and scripts."""
        host, port = self._address
        return LinkView(self.name, self.up, f"{host}:{port}", 0, 0, self.emas.oversized, self.server.refused)

    # What EMAs say

    def _happened(self, output: h.ServerHappening) -> None:
        self._translator.happened(output)
        if isinstance(output, h.EmaRegistered) and not isinstance(self.server, Server):
            # In the other profile prices are part of the set-up.
            name = wire.ema_name(output.ema)
            self.tell_prices(name, self._service.prices.budgets(name))

    def _heard(self, remote: Any) -> None:
        self._speaker = remote

    def _speaks(self, number: int) -> bool:
        """An EMA with a key speaks by it and for itself alone; one without, only without."""
        assert self._keys is not None
        speaker = self._keys.speaker(self._speaker)
        return number not in self._keys.emas if speaker is None else speaker == number

    def _registered(self, ema: int) -> None:
        """Its observation stands: what waits for it is told by the service."""
        name = wire.ema_name(ema)
        known = self._service.seen(name, self.name)
        if known is not None:
            self._service.events.came(known)

    def _refused(self, write: Write, code: Any) -> None:
        self._service.refuse(wire.ema_name(write.ema), f"/{write.path}: it answers {code}")

    # What the EMS says

    def push(self, ema: str, event: EventBody) -> None:
        number = number_of(ema)
        self.emas.tell(number, lambda observed: self.server.distribute(number, event_of(event), observed=observed))

    def broadcast(self, event: EventBody) -> None:
        for number in self.emas.known:
            self.push(wire.ema_name(number), event)

    def answer_poll(self, ema: str, event: EventBody | None, want_report: bool) -> None:
        body = None if event is None else event_of(event)
        if isinstance(self.server, Server):
            # An EMA reports with each poll: there is no word to ask it for one.
            self.emas.answer(self.server.answer_poll(number_of(ema), body))
        else:
            self.emas.answer(self.server.answer_poll(number_of(ema), body, want_report))

    def acknowledge_report(self, ema: str, request_id: str) -> None:
        self.emas.answer(self.server.acknowledge_report(number_of(ema), int(request_id)))

    def refuse_report(self, ema: str, request_id: str, code: int, why: str) -> None:
        self.emas.answer(self.server.acknowledge_report(number_of(ema), int(request_id), code, why[:LONGEST_REASON]))

    def acknowledge_opt(self, ema: str, code: int) -> None:
        self.emas.answer(self.server.acknowledge_opt(number_of(ema), code))

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None:
        self.emas.answer(self.server.acknowledge_device(number_of(ema), number, connected))

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None:
        self.emas.answer(self.server.answer_rdr(number_of(ema), number, granted, rdr_words(granted, why)))

    def negotiate(self, ema: str, message: FromCoordinator) -> None:
        if isinstance(self.server, Server):
            self.emas.write(self.server.negotiate(number_of(ema), written(number_of(ema), message)))

    def answer_ask(self, ema: str, accepted: bool, margin_w: int) -> None:
        if isinstance(self.server, Server):
            self.emas.write(self.server.negotiate(number_of(ema), LabAnswer(accepted, margin_w)))

    def tell_prices(self, ema: str, budgets: tuple[Budget, ...]) -> None:
        if isinstance(self.server, Server):
            self.emas.write(self.server.tell_prices(number_of(ema), budgets))
            return
        from headend.ems.emap1b import signals_of

        for signal in signals_of(budgets):
            self.emas.write(self.server.budget(number_of(ema), signal))

    def control(self, ema: str, number: int, on: bool) -> None:
        if isinstance(self.server, Server):
            self.emas.write(self.server.control(number_of(ema), number, on))

    def dim(self, ema: str, number: int, up: bool) -> None:
        if isinstance(self.server, Server):
            self.emas.write(self.server.dim(number_of(ema), number, up))
