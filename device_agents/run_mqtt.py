"""A device on MQTT: section 5a of the wire over the EMA's broker. Cannot do: a meter hung on it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace

from device_agents.agent import Agent
from device_agents.protocol import (
    PREFIX_DEVICE,
    PREFIX_RDR,
    PREFIX_STATUS,
    TOPIC_CONNECTED,
    TOPIC_DISCONNECTED,
    TOPIC_HELLO,
    WireError,
)
from device_agents.runner import AGAIN_MOST_S, AGAIN_S, GOODBYE_S, TICK_S, Runner
from gateway.clock import Clock
from gateway.errors import TransientError
from gateway.transport.mqtt import MqttLink, MqttSettings, Will


class MqttDevice(Runner):
    """One device below an EMA. Of ``settings`` the broker, account and TLS are taken; the rest is the wire's."""

    def __init__(
        self,
        agent: Agent,
        settings: MqttSettings,
        clock: Clock,
        rng: random.Random,
        period_s: float = 5.0,
        tick_s: float = TICK_S,
    ) -> None:
        super().__init__(agent, clock, period_s, tick_s)
        self._inbox = f"{PREFIX_DEVICE}{agent.dev}"
        self._status_topic = f"{PREFIX_STATUS}{agent.dev}"
        self._rdr_topic = f"{PREFIX_RDR}{agent.dev}"
        ours = replace(
            settings,
            client_id=settings.client_id or f"dev-{agent.dev}",
            will=Will(TOPIC_DISCONNECTED, agent.last_will()),
            subscriptions=((self._inbox, 1), (TOPIC_HELLO, 1)),
        )
        self.link = MqttLink(ours, clock, rng, self._on_message, self._on_up, self._on_down, self._log)
        self._announced = False
        self._answered = False
        self._again_s = AGAIN_S
        self._again_at = 0.0

    @property
    def reachable(self) -> bool:
        return self.link.up

    async def run(self) -> None:
        """Serve until cancelled, or until the device's user ends it; then say good-bye."""
        link = asyncio.create_task(self.link.run())
        try:
            ticker = asyncio.create_task(self._tick())
            try:
                # The link ends by an error of the operator only.
                await asyncio.wait((link, ticker), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ticker.cancel()
            if link.done():
                link.result()
            await ticker
        finally:
            await self._goodbye()
            link.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await link

    async def _goodbye(self) -> None:
        with contextlib.suppress(TransientError, TimeoutError):
            await asyncio.wait_for(self.link.publish(TOPIC_DISCONNECTED, self.agent.gone()), GOODBYE_S)

    async def _on_up(self) -> None:
        self._advance()
        self._again_s = AGAIN_S
        self._announce()

    def _on_down(self) -> None:
        self._announced = False

    def _announce(self) -> None:
        self._announced = True
        self._answered = False
        self._again_at = self._last + self._again_s
        self.link.post(TOPIC_CONNECTED, self.agent.connected())
        self.link.post(self._status_topic, self._status())

    def _on_message(self, topic: str, payload: bytes) -> None:
        self._advance()
        try:
            if topic == TOPIC_HELLO:
                self.agent.received_hello(payload)
                self._again_s = AGAIN_S
                self._announce()
            elif topic == self._inbox:
                self._told(self.agent.received(payload))
                self._answered = True
        except WireError as err:
            self._refused(topic, err)
        self._wake()

    def _wake(self) -> None:
        if not self._announced:
            return
        if not self._answered and self._last >= self._again_at:
            # The EMA was away when we came, and its hello may have been lost with a broker.
            self._again_s = min(self._again_s * 2, AGAIN_MOST_S)
            self._announce()
        rdr = self.agent.take_rdr()
        if rdr is not None:
            self.link.post(self._rdr_topic, rdr)
        if self._status_wanted():
            self.link.post(self._status_topic, self._status())
