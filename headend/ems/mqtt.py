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
from gateway.control.negotiation.messages import FromCoordinator
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.happenings import EmaRegistered
from gateway.links.mir2017.messages.budget import Budget
from gateway.links.mir2017.messages.negotiation import LabAnswer
from gateway.links.mir2017.server import Server
from gateway.negotiation_words import written
from gateway.transport.mqtt import MqttLink, MqttSettings, Tls
from headend.ems.head import EventBody
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings, parse_address, secret
from headend.ems.translate import Translator, event_of, number_of, rdr_words
from headend.ems.view_types import LinkView

if TYPE_CHECKING:
    from gateway.links.emap1b.server import Server as Emap1bServer

NAME = "mqtt"


class MqttHead:
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
        self.name = NAME if emap1b is None else f"{NAME} emap1b"
        self.controls_devices = emap1b is None
        self.negotiates = emap1b is None
        self.prices = True
        self.answers = True
        self._service = service
        self._translator = Translator(service, self.name)
        self._log = log
        self.server: Server | Emap1bServer = emap1b or Server(
            zone=wire.zone_named(settings.zone),
            duration_ms=settings.duration_ms,
            admit=lambda number: service.admits(wire.ema_name(number)),
            opts_at_once=False,
            prices=lambda number: service.prices.budgets(wire.ema_name(number)),
        )
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

    def _post(self, sends: Iterable[wire.Send]) -> None:
        for send in sends:
            self.broker.post(send.topic, send.body, send.qos)

    # What EMAs say

    def _received(self, topic: str, body: bytes) -> None:
        for output in self.server.received(topic, body):
            if isinstance(output, wire.Send):
                self.broker.post(output.topic, output.body, output.qos)
            else:
                self._translator.happened(output)
            if isinstance(output, EmaRegistered) and not isinstance(self.server, Server):
                # In the other profile prices are part of the set-up.
                name = wire.ema_name(output.ema)
                self.tell_prices(name, self._service.prices.budgets(name))

    # What the EMS says

    def push(self, ema: str, event: EventBody) -> None:
        self._post(self.server.distribute(number_of(ema), event_of(event)))

    def broadcast(self, event: EventBody) -> None:
        self._post(self.server.broadcast(event_of(event)))

    def answer_poll(self, ema: str, event: EventBody | None, want_report: bool) -> None:
        body = event_of(event) if event is not None else None
        self._post(self.server.answer_poll(number_of(ema), body, want_report))

    def acknowledge_report(self, ema: str, request_id: str) -> None:
        self._post(self.server.acknowledge_report(number_of(ema), int(request_id)))

    def refuse_report(self, ema: str, request_id: str, code: int, why: str) -> None:
        self._post(self.server.refuse_report(number_of(ema), int(request_id), code, why))

    def acknowledge_opt(self, ema: str, code: int) -> None:
        self._post(self.server.acknowledge_opt(number_of(ema), code))

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None:
        self._post(self.server.acknowledge_device(number_of(ema), number, connected))

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None:
        self._post(self.server.answer_rdr(number_of(ema), number, granted, rdr_words(granted, why)))

    def negotiate(self, ema: str, message: FromCoordinator) -> None:
        if isinstance(self.server, Server):
            self._post(self.server.negotiate(number_of(ema), written(number_of(ema), message)))

    def answer_ask(self, ema: str, accepted: bool, margin_w: int) -> None:
        if isinstance(self.server, Server):
            self._post(self.server.negotiate(number_of(ema), LabAnswer(accepted, margin_w)))

    def tell_prices(self, ema: str, budgets: tuple[Budget, ...]) -> None:
        if isinstance(self.server, Server):
            self._post(self.server.tell_prices(number_of(ema), budgets))
            return
        from headend.ems.emap1b import signals_of

        for signal in signals_of(budgets):
            self._post(self.server.budget(number_of(ema), signal))

    def control(self, ema: str, number: int, on: bool) -> None:
        self._post(self.server.control(number_of(ema), number, on))

    def dim(self, ema: str, number: int, up: bool) -> None:
        self._post(self.server.dim(number_of(ema), number, up))


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
