"""EMAs over MQTT: translates between the service and the server half of a profile's link, nothing else.

Cannot do: tell one EMA from another that speaks in its name (docs/ems.md, "Secure it").
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.clock import Clock
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.server import Server
from gateway.transport.mqtt import MqttLink, MqttSettings, Tls
from headend.ems.head import EventBody
from headend.ems.saying import Saying
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings, parse_address, secret
from headend.ems.translate import event_of, number_of
from headend.ems.view_types import LinkView

if TYPE_CHECKING:
    from gateway.links.emap1b.server import Server as Emap1bServer

NAME = "mqtt"


class MqttHead(Saying):
    """One broker, many EMAs, of profile ``mir2017`` or of ``emap1b``. ``run`` until cancelled; reconnects by itself."""

    def __init__(
        self,
        service: EmsService,
        settings: EmsSettings,
        clock: Clock,
        rng: random.Random,
        log: logging.Logger,
        emap1b: Emap1bServer | None = None,
    ) -> None:
        self._log = log
        server: Server | Emap1bServer = emap1b or Server(
            zone=wire.zone_named(settings.zone),
            duration_ms=settings.duration_ms,
            admit=lambda number: service.admits(wire.ema_name(number)),
            opts_at_once=False,
            prices=lambda number: service.prices.budgets(wire.ema_name(number)),
        )
        super().__init__(NAME, service, server, emap1b is not None)
        topics = wire.EMS_SUBSCRIPTIONS if emap1b is None else emap1b.subscriptions
        self.broker = MqttLink(
            mqtt_settings(settings, topics), clock, rng, self._received, on_up=self._up, on_down=self._down, logger=log
        )
        service.attach(self)

    async def run(self) -> None:
        await self.broker.run()

    @property
    def up(self) -> bool:
        return self.broker.up

    def link(self) -> LinkView:
        """For pages and scripts."""
        link = self.broker
        return LinkView(
            self.name, link.up, link.settings.address, link.reconnects, link.kept, link.oversized, self.server.refused
        )

    async def _up(self) -> None:
        self._log.info("MQTT %s: serving EMAs (%s)", self.broker.settings.address, self.name)
        self._service.link_changed(self)

    def _down(self) -> None:
        self._service.link_changed(self)

    def _say(self, said: Iterable[wire.Send]) -> None:
        for send in said:
            self.broker.post(send.topic, send.body, send.qos)

    # What EMAs say

    def _received(self, topic: str, body: bytes) -> None:
        for output in self.server.received(topic, body):
            if isinstance(output, wire.Send):
                self.broker.post(output.topic, output.body, output.qos)
            else:
                self._happened(output)

    # What the EMS says

    def push(self, ema: str, event: EventBody) -> None:
        self._say(self.server.distribute(number_of(ema), event_of(event)))

    def broadcast(self, event: EventBody) -> None:
        self._say(self.server.broadcast(event_of(event)))


def mqtt_settings(settings: EmsSettings, topics: Sequence[str] = wire.EMS_SUBSCRIPTIONS) -> MqttSettings:
    """The broker session. Raise ``OperatorError`` that names the key or the file."""
    host, port = parse_address("broker", settings.broker)
    wants_tls = settings.tls or bool(settings.ca_file or settings.cert_file)
    tls = None
    if wants_tls:
        ca, certificate, key = (_path(name) for name in (settings.ca_file, settings.cert_file, settings.key_file))
        tls = Tls(ca, certificate, key)
        tls.context()
    return MqttSettings(
        host=host,
        port=port,
        username=settings.user or None,
        password=secret("password_file", settings.password_file),
        tls=tls,
        subscriptions=tuple((topic, 1) for topic in topics),
    )


def _path(name: str) -> Path | None:
    return Path(name) if name else None
