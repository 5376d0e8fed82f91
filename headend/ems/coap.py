"""EMAs over CoAP (wire reference, sections 3 and 8): answers, pushes and notifications.

An EMA is written to where it last asked from. Cannot do: reach an EMA that was not heard of since the EMS started;
what is meant for it waits until it asks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gateway.transport.coap import GuardedSite, Sources  # isort: skip
from gateway.links.emap1b.messages.names import CONTENT_FORMAT, PROFILE
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.coap.server import Answer, Server, Write
from gateway.transport.coap_ask import TEXT
from gateway.transport.coap_emas import CoapEmas
from gateway.transport.coap_shared import CoapHub
from headend.ems.head import EventBody
from headend.ems.saying import Saying
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings, parse_address, parse_sources
from headend.ems.translate import event_of, number_of
from headend.ems.view_types import LinkView

if TYPE_CHECKING:
    from gateway.links.emap1b.coap_server import CoapServer as Emap1bServer
    from gateway.transport.oscore import Keys

NAME = "coap"


class CoapHead(Saying):
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
        self._log = log
        self._hub = hub
        self._address = parse_address("coap", settings.coap)
        self._sources = Sources(parse_sources(settings.coap_sources))
        server: Server | Emap1bServer = emap1b or Server(
            zone=wire.zone_named(settings.zone),
            duration_ms=settings.duration_ms,
            admit=lambda number: service.admits(wire.ema_name(number)),
            prices=lambda number: service.prices.budgets(wire.ema_name(number)),
        )
        super().__init__(NAME, service, server, emap1b is not None)
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

    def _say(self, said: Answer | Write | None) -> None:
        if isinstance(said, Write):
            self.emas.write(said)
        else:
            self.emas.answer(said)
