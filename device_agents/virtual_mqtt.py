"""Virtual LEDs on MQTT: one session for all of them.

A session has one last will, and the wire's names one device: where the process dies, its first device is lost at
once and the others when their lease has run out (docs/devices.md). Its end by a signal says good-bye for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import replace

from device_agents.agent import Agent
from device_agents.protocol import (
    PREFIX_DEVICE,
    PREFIX_STATUS,
    TOPIC_CONNECTED,
    TOPIC_DISCONNECTED,
    TOPIC_HELLO,
    Setpoint,
    WireError,
    topic_number,
)
from device_agents.runner import AGAIN_MOST_S, AGAIN_S, GOODBYE_S, TICK_S
from device_agents.virtual import Member, VirtualFleet
from gateway.clock import Clock
from gateway.errors import TransientError
from gateway.transport.mqtt import MqttLink, MqttSettings, Will


class VirtualMqtt(VirtualFleet):
    """Of ``settings`` the broker, account and TLS are taken; the rest is the wire's."""

    def __init__(
        self,
        agents: Sequence[Agent],
        settings: MqttSettings,
        clock: Clock,
        rng: random.Random,
        period_s: float | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        super().__init__(agents, clock, rng, period_s, tick_s)
        first, last = self._ends()
        ours = replace(
            settings,
            client_id=settings.client_id or f"virtual-{first}-{last}",
            will=Will(TOPIC_DISCONNECTED, agents[0].last_will()),
            subscriptions=((f"{PREFIX_DEVICE}+", 1), (TOPIC_HELLO, 1)),
        )
        self.link = MqttLink(ours, clock, rng, self._on_message, self._on_up, self._on_down)

    async def run(self) -> None:
        link = asyncio.create_task(self.link.run())
        turning = asyncio.create_task(self._turn())
        try:
            # The link ends by an error of the operator only.
            await asyncio.wait((link, turning), return_when=asyncio.FIRST_COMPLETED)
            for task in (link, turning):
                if task.done():
                    task.result()
        finally:
            turning.cancel()
            await self._goodbye()
            link.cancel()
            await asyncio.gather(link, turning, return_exceptions=True)

    async def _goodbye(self) -> None:
        said = [member for member in self._order if member.announced]
        if not said:
            return
        for member in said[:-1]:
            self.link.post(TOPIC_DISCONNECTED, member.agent.gone())
        with contextlib.suppress(TransientError, TimeoutError):
            await asyncio.wait_for(self.link.publish(TOPIC_DISCONNECTED, said[-1].agent.gone()), GOODBYE_S)

    async def _on_up(self) -> None:
        self._all_again()

    def _on_down(self) -> None:
        self._waiting.clear()
        for member in self._order:
            member.announced = member.answered = False

    def _all_again(self) -> None:
        for member in self._order:
            member.again_s = AGAIN_S
            self._queue(member)

    def _announce(self, member: Member) -> None:
        if not self.link.up:
            return
        member.announced = True
        member.answered = False
        member.again_at = member.last + member.again_s
        self.link.post(TOPIC_CONNECTED, member.agent.connected())
        self._say(member)

    def _say(self, member: Member) -> None:
        self.link.post(f"{PREFIX_STATUS}{member.agent.dev}", self._status(member))

    def _look(self, member: Member) -> None:
        if not member.announced:
            return
        if not member.answered and member.last >= member.again_at:
            # The EMA was away when we came, and its hello may have been lost with a broker.
            member.again_s = min(member.again_s * 2, AGAIN_MOST_S)
            member.again_at = member.last + member.again_s
            self._queue(member)
        elif self._wanted(member):
            self._say(member)

    def _on_message(self, topic: str, payload: bytes) -> None:
        try:
            if topic == TOPIC_HELLO:
                for member in self._order:
                    self._advance(member)
                    member.agent.received_hello(payload)
                self._all_again()
                return
            # With a device's own topics come those of others that the account may read.
            member_or_none = self.members.get(topic_number(topic, PREFIX_DEVICE))
            if member_or_none is not None:
                self._told(member_or_none, payload)
        except WireError as err:
            self._refused(topic, err)

    def _told(self, member: Member, payload: bytes) -> None:
        self._advance(member)
        self.commands += isinstance(member.agent.received(payload), Setpoint)
        if member.announced:
            member.answered = True
        self._look(member)
