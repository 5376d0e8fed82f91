"""An EMS's session over its MQTT broker: topics, last will and QoS as the profile's client says them."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Protocol

from gateway.transport.mqtt import MqttLink, MqttSettings
from gateway.upstream.carrier import Hooks, UpperClient

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.links.mir2017 import messages as wire
    from gateway.links.mir2017.client import ClientOutput

GOODBYE_S = 0.9


class MqttClient(UpperClient, Protocol):
    """What a client over MQTT hears beside."""

    @property
    def will(self) -> wire.Send:
        """The last will."""

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What it listens to."""

    def received(self, topic: str, body: bytes) -> list[ClientOutput]:
        """One message. Never raises."""


class MqttCarrier:
    """One broker."""

    answers = True

    def __init__(
        self,
        settings: MqttSettings,
        client: MqttClient,
        clock: Clock,
        rng: random.Random,
        hooks: Hooks,
        logger: logging.Logger,
    ) -> None:
        self._client = client
        self._hooks = hooks
        self._link = MqttLink(settings, clock, rng, self._received, on_up=hooks.up, on_down=hooks.down, logger=logger)

    @property
    def address(self) -> str:
        return self._link.settings.address

    @property
    def up(self) -> bool:
        return self._link.up

    @property
    def state(self) -> str:
        return self._link.state.value

    @property
    def reconnects(self) -> int:
        return self._link.reconnects

    @property
    def oversized(self) -> int:
        return self._link.oversized

    async def run(self) -> None:
        """Connect, serve, reconnect until cancelled."""
        await self._link.run()

    def post(self, send: wire.Send) -> None:
        self._link.post(send.topic, send.body, send.qos)

    async def publish(self, send: wire.Send) -> None:
        """Return when the broker has it. Raise ``TransientError``, ``TimeoutError``."""
        async with asyncio.timeout(GOODBYE_S):
            await self._link.publish(send.topic, send.body, send.qos)

    def _received(self, topic: str, body: bytes) -> None:
        self._hooks.take(self._client.received(topic, body))
