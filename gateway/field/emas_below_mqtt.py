"""EMAs below over the site's broker, profile ``mir2017``: their topics are those of an EMS's broker.

Cannot do: tell one EMA from another that speaks in its name (docs/emas.md, "Secure it").
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.clock import Clock
from gateway.config.model import EmasBelowConfig
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.messages.negotiation import Negotiation
from gateway.links.mir2017.server import Server
from gateway.transport.mqtt import MqttLink, MqttSettings

LONGEST_REASON = 200


class MqttHead:
    """One broker. ``ready``: set while our own broker serves; None: it is somebody else's."""

    name = "mqtt"

    def __init__(
        self,
        ema: str,
        table: EmasBelowConfig,
        settings: MqttSettings,
        admits: Callable[[int], bool],
        happened: Callable[[str, h.ServerHappening], None],
        clock: Clock,
        rng: random.Random,
        ready: asyncio.Event | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.server = Server(
            zone=wire.zone_named(table.timezone),
            duration_ms=round(table.poll_s * 1000),
            vtn_name=ema,
            ems_name=ema,
            admit=admits,
            opts_at_once=False,
        )
        self._happened = happened
        self._ready = ready
        settings = replace(
            settings,
            client_id=f"ema-{ema.replace('/', '-')}-above",
            subscriptions=tuple((topic, 1) for topic in wire.EMS_SUBSCRIPTIONS),
        )
        self.link = MqttLink(settings, clock, rng, self._received, logger=logger or logging.getLogger(__name__))

    async def run(self) -> None:
        """Serve until cancelled; the link comes back by itself."""
        if self._ready is not None:
            await self._ready.wait()
        await self.link.run()

    @property
    def up(self) -> bool:
        return self.link.up

    def status(self) -> dict[str, object]:
        link = self.link
        return {
            "link": link.state.value,
            "serves": link.settings.address,
            "reconnects": link.reconnects,
            "oversized": link.oversized,
            "refused": self.server.refused,
        }

    def _received(self, topic: str, body: bytes) -> None:
        for output in self.server.received(topic, body):
            if isinstance(output, wire.Send):
                self._post((output,))
            else:
                self._happened(self.name, output)

    def _post(self, sends: Iterable[wire.Send]) -> None:
        for send in sends:
            self.link.post(send.topic, send.body, send.qos)

    def push(self, ema: int, event: wire.DistributeEvent) -> None:
        self._post(self.server.distribute(ema, event))

    def answer_poll(self, ema: int, event: wire.DistributeEvent | None, want_report: bool) -> None:
        self._post(self.server.answer_poll(ema, event, want_report))

    def acknowledge_report(self, ema: int, request_id: int) -> None:
        self._post(self.server.acknowledge_report(ema, request_id))

    def refuse_report(self, ema: int, request_id: int, code: int, why: str) -> None:
        self._post(self.server.refuse_report(ema, request_id, code, why))

    def acknowledge_opt(self, ema: int, code: int) -> None:
        self._post(self.server.acknowledge_opt(ema, code))

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> None:
        self._post(self.server.acknowledge_device(ema, device, connected))

    def negotiate(self, ema: int, message: Negotiation) -> None:
        self._post(self.server.negotiate(ema, message))

    def answer_rdr(self, ema: int, device: int, granted: bool, why: str) -> None:
        # A grant in the lab's own words; a refusal, which is ours, with its reason for whoever stands at the device.
        self._post(self.server.answer_rdr(ema, device, granted, "" if granted else f"Deny: {why}"[:LONGEST_REASON]))
