"""Devices over MQTT through a real mosquitto: the dialogue of wire reference 5a and the lab's forms."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiomqtt
import pytest

from gateway.clock import ManualClock, SystemClock
from gateway.config.model import ControlConfig, DeviceConfig
from gateway.errors import TransientError
from gateway.field.devices_mqtt import MqttDevices
from gateway.site.event import RdrAnswer, RdrResult
from gateway.site.resource import Kind, Setting
from gateway.transport.mqtt import MqttSettings
from tests.gateway.field.site import Lines, RememberingSite, command, listening_logger
from tests.support.mosquitto import Mosquitto
from tests.support.wait import until

CONFIG = (
    DeviceConfig(number=1, name="desk lamp", rated_w=60.0),
    DeviceConfig(number=2, type="ess"),
    DeviceConfig(number=3, type="ev", link="coap"),
)


class Bench:
    """The adapter, a site, and one client that plays all devices."""

    def __init__(self, adapter: MqttDevices, site: RememberingSite, peer: aiomqtt.Client, lines: Lines) -> None:
        self.adapter, self.site, self.peer, self.lines = adapter, site, peer, lines
        self.heard: list[tuple[str, bytes]] = []

    async def listen(self) -> None:
        async for message in self.peer.messages:
            assert isinstance(message.payload, bytes)
            self.heard.append((str(message.topic), message.payload))

    async def say(self, topic: str, **body: Any) -> None:
        await self.peer.publish(topic, json.dumps(body).encode(), 1)

    async def connect(self, dev: int, boot: int = 1, type: str = "led", **more: Any) -> None:
        before = len(self.site.came)
        body = {"dev": dev, "type": type, "priority": 3, "boot": boot, "addr": None, "port": None}
        await self.say("connected", **{**body, "caps": ["switch", "level"], **more})
        await until(lambda: len(self.site.came) > before, what="it appeared")

    def count(self, name: str) -> int:
        value = self.adapter.status()[name]
        assert isinstance(value, int)
        return value

    def to(self, number: int) -> list[bytes]:
        return [body for topic, body in self.heard if topic == f"dev/{number}"]


@asynccontextmanager
async def bench(
    mosquitto: Mosquitto, clock: Any = None, control: ControlConfig | None = None, welcome: bool = False
) -> AsyncIterator[Bench]:
    logger, lines = listening_logger("mqtt")
    site = RememberingSite()
    adapter = MqttDevices(
        "gw/7",
        12,
        MqttSettings("127.0.0.1", mosquitto.port),
        CONFIG,
        control or ControlConfig(),
        site,
        clock or SystemClock(),
        random.Random(1),
        welcome,
        logger,
    )
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as peer:
        it = Bench(adapter, site, peer, lines)
        await peer.subscribe("dev/+", 1)
        await peer.subscribe("hello", 1)
        tasks = [asyncio.create_task(it.listen()), asyncio.create_task(adapter.run())]
        try:
            await until(lambda: it.heard, what="hello")
            yield it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_hello_announcement_ack(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        assert b.heard == [("hello", b'{"ema":"gw/7","boot":12}')]
        await b.connect(1, rated_mw=75000)
        await until(lambda: b.to(1), what="ack")
        assert b.to(1) == [b"ack"]
        lamp = b.site.came[0]
        assert (lamp.name, lamp.number, lamp.kind, lamp.priority) == ("desk lamp", 1, Kind.LED, 3)
        assert (lamp.rated_w, lamp.switch, lamp.levels, lamp.setpoint) == (60.0, True, True, None)


async def test_a_state_is_read_in_si_units(mosquitto: Mosquitto) -> None:
    clock = ManualClock(mono=500.0)
    async with bench(mosquitto, clock) as b:
        await b.connect(2, type="ess")
        await b.say(
            "status/2",
            dev=2,
            boot=1,
            seq=1,
            mw=-1500250,
            mwh=7,
            mv=230100,
            mhz=49980,
            soc=555,
            done=9,
            need_mwh=1500,
            depart_s=60,
        )
        await until(lambda: b.site.readings)
        number, r = b.site.readings[0]
        assert number == 2
        assert (r.taken_at, r.power_w, r.energy_wh, r.voltage, r.hertz, r.soc, r.done) == (
            (500.0, -1500.25, 0.007, 230.1, 49.98, 55.5, 9)
        )
        assert (r.need_wh, r.depart_at, r.on, r.level, r.plugged) == (1.5, 560.0, None, None, None)


async def test_doubled_old_and_late_messages_count_once(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1, boot=5)
        for boot, seq, mw in ((5, 1, 100), (5, 1, 100), (5, 3, 300), (5, 2, 200), (4, 9, 900), (5, 4, 400)):
            await b.say("status/1", dev=1, boot=boot, seq=seq, mw=mw)
        await until(lambda: len(b.site.readings) == 3)
        assert [r.power_w for _, r in b.site.readings] == [0.1, 0.3, 0.4]
        assert (b.count("doubled"), b.count("old")) == (2, 1)


async def test_a_restarted_device_is_gone_and_back_so_that_it_is_told_again(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1, boot=5)
        await b.say("status/1", dev=1, boot=5, seq=40, mw=1)
        await b.connect(1, boot=6)
        assert b.site.went == [(1, "it restarted")]
        await b.say("status/1", dev=1, boot=6, seq=0, mw=2000)
        await until(lambda: len(b.site.readings) == 2)
        await b.say("connected", dev=1, type="led", priority=1, boot=5, addr=None, port=None, caps=[])
        await b.say("disconnected", dev=1, boot=5)
        await until(lambda: b.count("old") == 2)
        assert len(b.site.came) == 2
        assert len(b.site.went) == 1


@pytest.mark.parametrize("lost", [False, True])
async def test_a_last_will_is_no_good_bye(mosquitto: Mosquitto, lost: bool) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1)
        await b.say("disconnected", dev=1, boot=1, **({"lost": True} if lost else {}))
        await until(lambda: b.site.went)
        assert b.site.lost == ([1] if lost else [])


async def test_good_bye_and_heard_again(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1)
        await b.say("disconnected", dev=1, boot=1)
        await until(lambda: b.site.went)
        with pytest.raises(TransientError, match="device 1 is not there"):
            await b.adapter.send(command(1, 1, Setting(on=False)))
        await b.say("status/1", dev=1, boot=1, seq=7, on=True)
        await until(lambda: b.site.readings)
        assert len(b.site.came) == 2


@pytest.mark.parametrize(
    ("setting", "body"),
    [
        (Setting(on=False), {"on": False}),
        (Setting(on=True, level=4), {"on": True, "dimming": 4}),
        (Setting(setpoint_w=-1500.5), {"mw": -1500500}),
        (Setting(free=True), {"mw": None}),
        (Setting(on=True, free=True), {"on": True, "mw": None}),
    ],
)
async def test_a_command(mosquitto: Mosquitto, setting: Setting, body: dict[str, Any]) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1)
        await b.adapter.send(command(77, 1, setting, lease_s=45.0))
        await until(lambda: len(b.to(1)) == 2)
        [sent] = [x for x in b.to(1) if x != b"ack"]
        assert json.loads(sent) == {"id": 77, "lease_s": 45, **body}


async def test_rdr_and_its_doubles(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1)
        b.site.answer = RdrAnswer(RdrResult.PENDING, "asked upwards")
        for _ in range(2):
            await b.say("rdr/1", dev=1, boot=1, seq=3, mw=60500, for_s=900)
        await until(lambda: len(b.to(1)) == 3)
        assert b.site.asked == [(1, 60.5, 900.0)]
        assert [json.loads(x)["rdr"] for x in b.to(1)[1:]] == ["pending", "pending"]
        await b.adapter.answer_rdr(1, RdrAnswer(RdrResult.DENIED, "silence"))
        await b.say("rdr/1", dev=1, boot=1, seq=3, mw=60500, for_s=900)
        await until(lambda: len(b.to(1)) == 5)
        assert [json.loads(x) for x in b.to(1)[3:]] == [{"rdr": "denied", "why": "silence"}] * 2
        await b.say("rdr/1", dev=1, boot=1, seq=4, mw=1, for_s=1)
        await until(lambda: len(b.site.asked) == 2)


async def test_leases_acks_and_silence(mosquitto: Mosquitto) -> None:
    clock = ManualClock()
    async with bench(mosquitto, clock, ControlConfig(lease_s=30.0)) as b:
        await b.connect(1)
        await b.connect(2, type="ess")
        for second in range(1, 36):
            await clock.advance(1.0)
            if second % 10 == 0:
                seen = len(b.site.readings)
                await b.say("status/2", dev=2, boot=1, seq=second, mw=0)
                await until(lambda seen=seen: len(b.site.readings) > seen)  # type: ignore[misc]
        assert b.site.went == [(1, "not heard for its lease of 30 s")]
        await until(lambda: len(b.to(2)) == 5)
        assert b.to(2) == [b"ack"] * 5  # its announcement, and each third of the lease
        assert b.lines.at(logging.WARNING) == ["desk lamp: not heard for its lease of 30 s"]


async def test_who_is_not_announced_is_asked_by_hello_but_not_for_ever(mosquitto: Mosquitto) -> None:
    clock = ManualClock()
    async with bench(mosquitto, clock) as b:
        await clock.advance(3.0)
        for seq in range(5):
            await b.say("status/1", dev=1, boot=1, seq=seq, mw=1)
        await until(lambda: b.count("unannounced") == 5)
        await until(lambda: len(b.heard) == 2)
        await clock.advance(3.0)
        await b.say("status/1", dev=1, boot=1, seq=9, mw=1)
        await until(lambda: b.count("unannounced") == 6)
        await b.connect(2, type="ess")  # what comes after it shows that no further hello came before
        await until(lambda: b.to(2))
        assert [topic for topic, _ in b.heard] == ["hello", "hello", "dev/2"]
        assert not b.site.readings


async def test_strangers_are_refused_and_said_once(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        for _ in range(3):
            await b.say("connected", dev=8, type="led", priority=1, boot=1, addr=None, port=None, caps=[])
            await b.say("status/8", dev=8, boot=1, seq=1, mw=5)
            await b.say("connected", dev=3, type="ev", priority=1, boot=1, addr=None, port=None, caps=[])
        await until(lambda: b.count("strangers") == 9)
        assert not b.site.came
        assert b.lines.at(logging.WARNING) == [
            "mqtt: device 8 is refused: no [[device]] with link mqtt names it",
            "mqtt: device 3 is refused: no [[device]] with link mqtt names it",
        ]


async def test_strangers_welcome(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto, welcome=True) as b:
        await b.connect(8, type="pv", caps=["setpoint"], min_mw=-2000000)
        sun = b.site.came[0]
        assert (sun.name, sun.kind, sun.gives) == ("pv-8", Kind.PV, True)
        assert sun.setpoint is not None
        assert (sun.setpoint.min_w, sun.setpoint.max_w) == (-2000.0, 0.0)


async def test_a_device_of_the_lab(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        await b.peer.publish("connected", b"dev/1/10/", 1)
        await until(lambda: b.to(1) == [b"ack"])
        assert b.site.came[0].priority == 10
        assert b.site.last(1).power_w == 60.0  # nothing said: its rated power counts
        await b.adapter.send(command(1, 1, Setting(on=False)))
        await until(lambda: b.to(1)[1:] == [b"\x11\x10"])
        assert (b.site.last(1).on, b.site.last(1).power_w, b.site.last(1).done) == (False, 0.0, 1)
        await b.adapter.send(command(2, 1, Setting(on=True, level=7)))
        await until(lambda: b.to(1)[2:] == [b"\x11\x1f", b"\x31\x1a\x00", b"\x31\x1a\x00"])
        assert (b.site.last(1).level, b.site.last(1).power_w) == (7, 60.0 * 8 / 10)
        await b.adapter.send(command(2, 1, Setting(on=True, level=7)))  # said again: the step is not
        await until(lambda: b.to(1)[5:] == [b"\x11\x1f"])
        with pytest.raises(TransientError, match="again"):
            await b.adapter.send(command(2, 1, Setting(level=7)))
        with pytest.raises(TransientError, match="100 W"):
            await b.adapter.send(command(3, 1, Setting(setpoint_w=100.0)))
        await b.adapter.send(command(4, 1, Setting(level=8)))
        await until(lambda: b.to(1)[6:] == [b"\x31\x1a\x01"])
        await b.peer.publish("disconnected", b"dev/1/10/", 1)
        await until(lambda: b.site.went)


HOSTILE = [b"", b"{", b"{}", b"[]", b"null", b"1e999", b'{"dev":1}', b"\xff\xfe\x00", b'{"dev":true,"boot":1,"seq":1}']
HOSTILE += [b'{"dev":1,"boot":1,"seq":-1}', b'{"dev":1,"boot":1,"seq":1e3}', b'{"dev":1,"boot":1,"seq":1,"soc":2000}']
HOSTILE += [b'{"dev":2,"boot":1,"seq":1}', b"[" * 5000, b'{"a":' * 3000, b"ack", b"dev/1/", b"\x11\x1f", b"x" * 300_000]


async def test_random_bytes_at_every_topic(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1)
        rng = random.Random(20)
        topics = ["connected", "disconnected", "status/1", "status/", "status/x", "status/99999999", "rdr/1", "rdr/-1"]
        sent = 0
        for topic in topics:
            for body in (*HOSTILE, *(rng.randbytes(rng.randrange(80)) for _ in range(120))):
                await b.peer.publish(topic, body, 0)
                sent += 1
        await b.connect(2, type="ess")
        await b.say("status/2", dev=2, boot=1, seq=1, mw=5)
        await until(lambda: any(n == 2 for n, _ in b.site.readings))
        assert {n for n, _ in b.site.readings} <= {1, 2}
        assert not b.site.asked
        assert b.count("malformed") > sent * 0.8
        assert not [r for r in b.lines.records if r.exc_info]
        assert len(b.lines.at(logging.WARNING)) <= 2 * len(topics)


async def test_the_broker_killed_and_back(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1)
        mosquitto.kill()
        await until(lambda: b.adapter.status()["link"] != "up", what="the loss is seen")
        with pytest.raises(TransientError, match="down"):
            await b.adapter.send(command(1, 1, Setting(on=False)))
        await mosquitto.start()
        await until(lambda: b.adapter.status()["link"] == "up", what="back again")
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as peer:
            await peer.subscribe("dev/1", 1)
            await b.adapter.send(command(1, 1, Setting(on=False)))
            assert json.loads((await anext(aiter(peer.messages))).payload)["id"] == 1  # type: ignore[arg-type]
            await peer.publish("status/1", b'{"dev":1,"boot":1,"seq":5,"mw":0,"on":false,"done":1}', 1)
            await until(lambda: b.site.readings)
        assert b.count("reconnects") == 1


async def test_a_failing_handler_ends_no_session(mosquitto: Mosquitto) -> None:
    """A reading whose handler fails is logged and does not end the session."""
    async with bench(mosquitto) as b:
        await b.connect(1)

        def fail(number: int, reading: object) -> None:
            if len(b.site.readings) == 1:
                raise RuntimeError("a bug in control")

        b.site.on_reading = fail
        for seq in range(3):
            await b.say("status/1", dev=1, boot=1, seq=seq, mw=1)
        await until(lambda: len(b.site.readings) == 3)
        assert b.adapter.status()["link"] == "up"
        assert b.count("reconnects") == 0


async def test_other_devices_are_taken_in_without_a_new_session(mosquitto: Mosquitto) -> None:
    async with bench(mosquitto) as b:
        await b.connect(1)
        before = b.adapter.status()["reconnects"]
        new = (*(replace(d, priority=7) if d.number == 1 else d for d in CONFIG), DeviceConfig(number=77, type="led"))
        b.adapter.configure(new, ControlConfig())
        assert b.site.came[-1].priority == 7
        await b.connect(77)
        assert [r.number for r in b.site.came][-1] == 77
        assert b.adapter.status()["reconnects"] == before
        b.adapter.configure(new[1:], ControlConfig())
        assert (1, "taken out of the configuration") in b.site.went
        assert not any(number == 77 for number, _ in b.site.went)
