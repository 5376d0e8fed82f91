"""Devices that reach us over MQTT (wire reference, 5 and 5a). Cannot do: retained states, more than one broker.

Ours speak JSON. A device of the lab that came with a text gets the lab's bytes; it says no state, so what it was
last told counts as its state (``LabState``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from device_agents import protocol as wire
from gateway.errors import TransientError
from gateway.field.device_wire import LabState, rdr_answer_of, setpoint_of
from gateway.field.leases import Leases, turns_of
from gateway.field.presence import MOST_STRANGERS, Entry, Presence
from gateway.transport.mqtt import MqttLink, MqttSettings

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config.model import ControlConfig, DeviceConfig
    from gateway.field.base import SiteInputs
    from gateway.site.command import Command
    from gateway.site.event import RdrAnswer

SUBSCRIPTIONS = (
    (wire.TOPIC_CONNECTED, 1),
    (wire.TOPIC_DISCONNECTED, 1),
    (wire.PREFIX_STATUS + "+", 1),
    (wire.PREFIX_RDR + "+", 1),
)
# A device that is not announced is asked to by `hello`, which all of them answer: not more often than this in all,
# and for one device.
HELLO_EVERY_S = 2.0
HELLO_FOR_ONE_S = 20.0
MOST_ASKED = 1000


class MqttDevices:
    """All devices behind one broker. ``boot`` counts the starts of this EMA, ``ema`` is its "gw/<n>".

    ``pulse``: a number that changes while control lives, else the engine's own count of its turns.
    """

    name = "mqtt"

    def __init__(
        self,
        ema: str,
        boot: int,
        settings: MqttSettings,
        devices: Sequence[DeviceConfig],
        control: ControlConfig,
        inputs: SiteInputs,
        clock: Clock,
        rng: random.Random,
        strangers_welcome: bool = False,
        logger: logging.Logger | None = None,
        pulse: Callable[[], int] | None = None,
        most_strangers: int = MOST_STRANGERS,
    ) -> None:
        log = logger or logging.getLogger(__name__)
        self._hello = wire.Hello(ema, boot).encode()
        self._clock = clock
        self._said_hello = float("-inf")
        self._asked: dict[int, float] = {}
        settings = replace(
            settings,
            client_id=settings.client_id or f"ema-{ema.replace('/', '-')}",
            subscriptions=SUBSCRIPTIONS,
        )
        self._link = MqttLink(settings, clock, rng, self._take, on_up=self._greet, logger=log)
        self._presence = Presence(self, devices, control, inputs, clock, strangers_welcome, log, most_strangers)
        self._leases = Leases(self._presence, clock, self._acknowledge, pulse or turns_of(inputs), log)

    # --- the daemon's side -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled; the link comes back by itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.run())
            group.create_task(self._leases.keep())

    def send(self, command: Command) -> Awaitable[None]:
        """One command to its device: on the socket when this returns, awaited until the broker's PUBACK."""
        entry = self._entry(command.number)
        topic = f"{wire.PREFIX_DEVICE}{command.number}"
        self._presence.counters.commands += 1
        if entry.lab is None:
            return self._link.publish(topic, setpoint_of(command))
        if not self._link.up:
            raise TransientError(f"MQTT {self._link.settings.address} is down")
        return self._send_lab(entry, entry.lab, topic, command)

    async def _send_lab(self, entry: Entry, lab: LabState, topic: str, command: Command) -> None:
        for frame in lab.begin(command):
            await self._link.publish(topic, frame)
        lab.told(command)
        self._presence.told(entry, lab.reading(self._clock.monotonic(), entry.resource.rated_w, command.id))

    async def answer_rdr(self, number: int, answer: RdrAnswer) -> None:
        """What became of a pending RDR."""
        self._presence.answered(number, answer)
        await self._link.publish(f"{wire.PREFIX_DEVICE}{number}", rdr_answer_of(answer))

    def configure(self, devices: Sequence[DeviceConfig], control: ControlConfig) -> None:
        """Other ``[[device]]`` tables; the session with the broker and all other devices stay."""
        if self._presence.configure(devices, control) and self._link.up:
            # Who was refused so far waits for up to a minute before it tries again.
            self._said_hello = self._clock.monotonic()
            self._link.post(wire.TOPIC_HELLO, self._hello)

    async def close(self) -> None:
        """Nothing to say: the devices keep their leases, and a restarted EMA takes up what runs."""

    def status(self) -> dict[str, object]:
        """For `smartema status`."""
        link = self._link
        return {
            "link": link.state.value,
            "broker": link.settings.address,
            "reconnects": link.reconnects,
            "oversized": link.oversized,
            **self._presence.status(),
        }

    # --- the wire's side -------------------------------------------------------------------------------------

    async def _greet(self) -> None:
        self._said_hello = self._clock.monotonic()
        await self._link.publish(wire.TOPIC_HELLO, self._hello)

    def _ask_who(self, number: int) -> None:
        """Somebody speaks whom we do not know: all are asked to announce themselves."""
        now = self._clock.monotonic()
        long_ago = now - self._asked.get(number, float("-inf")) >= HELLO_FOR_ONE_S
        if long_ago and now - self._said_hello >= HELLO_EVERY_S:
            if len(self._asked) > MOST_ASKED:
                self._asked.clear()
            self._said_hello = self._asked[number] = now
            self._link.post(wire.TOPIC_HELLO, self._hello)

    def _acknowledge(self, entry: Entry) -> None:
        if not self._link.up:
            return
        self._link.post(f"{wire.PREFIX_DEVICE}{entry.number}", wire.ACK)
        if entry.lab is not None:
            now = self._clock.monotonic()
            self._presence.heard(entry)
            self._presence.told(entry, entry.lab.reading(now, entry.resource.rated_w))

    def _take(self, topic: str, body: bytes) -> None:
        try:
            if topic.startswith(wire.PREFIX_STATUS):
                self._state(wire.topic_number(topic, wire.PREFIX_STATUS), body)
            elif topic == wire.TOPIC_CONNECTED:
                self._came(body)
            elif topic.startswith(wire.PREFIX_RDR):
                self._wants(wire.topic_number(topic, wire.PREFIX_RDR), body)
            elif topic == wire.TOPIC_DISCONNECTED:
                self._went(body)
            else:
                self._presence.malformed(topic, "a topic that nobody subscribed")
        except wire.WireError as err:
            self._presence.malformed(topic, str(err))

    def _state(self, number: int, body: bytes) -> None:
        message = wire.decode_status(body)
        if isinstance(message, wire.LabHello):
            self._came(body)
            return
        _same("status.dev", message.dev, number)
        if not self._presence.state(number, message):
            self._ask_who(number)

    def _came(self, body: bytes) -> None:
        message = wire.decode_connected(body)
        if message.dev is None:
            raise wire.WireError("connected: a text over MQTT has to name its device: dev/<d>/<priority>/")
        if self._presence.came(message, message.dev) is not None and self._leases.alive:
            # Without an answer it announces itself again, so that control hears of it when it goes on.
            self._link.post(f"{wire.PREFIX_DEVICE}{message.dev}", wire.ACK)

    def _wants(self, number: int, body: bytes) -> None:
        message = wire.Rdr.decode(body)
        _same("rdr.dev", message.dev, number)
        answer = self._presence.asked(number, message)
        if answer is None:
            self._ask_who(number)
        else:
            self._link.post(f"{wire.PREFIX_DEVICE}{number}", rdr_answer_of(answer))

    def _went(self, body: bytes) -> None:
        if wire.is_json(body):
            self._presence.went(wire.Gone.decode(body))
            return
        message = wire.LabHello.decode(body)
        if message.dev is not None:
            self._presence.went(wire.Gone(message.dev, wire.MAX_COUNTER))

    def _entry(self, number: int) -> Entry:
        entry = self._presence.entries.get(number)
        if entry is None or not entry.here:
            raise TransientError(f"device {number} is not there")
        return entry


def _same(field: str, said: int, number: int) -> None:
    """The topic's number is the one that the broker's access list vouches for."""
    if said != number:
        raise wire.WireError(f"{field}: {said} on the topic of {number}")
