"""The adapters against the project's own devices: our broker with accounts, and CoAP."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from device_agents.run_coap import CoapDevice
from device_agents.run_mqtt import MqttDevice
from device_agents.simulated import simulated_lamp
from gateway.clock import SystemClock
from gateway.config.model import ControlConfig, DeviceConfig, SiteBrokerConfig, SiteCoapConfig
from gateway.field import broker_files as files
from gateway.field.broker import SiteBroker
from gateway.field.devices_coap import CoapDevices
from gateway.field.devices_mqtt import MqttDevices
from gateway.site.event import RdrAnswer, RdrResult
from gateway.site.resource import Setting
from gateway.transport.mqtt import MqttSettings
from tests.gateway.field.site import RememberingSite, command
from tests.support.mosquitto import MOSQUITTO, free_port
from tests.support.wait import until

CLOCK = SystemClock()


class Tasks:
    """Parts that run until the test is over."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, part: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self._tasks.append(asyncio.create_task(part))
        return self._tasks[-1]

    async def end(self, task: asyncio.Task[Any] | None = None) -> None:
        ending = [task] if task is not None else self._tasks[::-1]
        for one in ending:
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)


async def story(adapter: MqttDevices | CoapDevices, site: RememberingSite, device: Any) -> None:
    """A lamp comes, is shed, asks back, is told to burn again."""
    await until(lambda: site.readings, what="its first state")
    lamp = site.came[0]
    assert (lamp.name, lamp.priority, lamp.rated_w, lamp.levels) == ("led-1", 4, 60.0, True)
    assert (site.last(1).on, site.last(1).level, site.last(1).power_w) == (True, 9, 60.0)
    await adapter.send(command(10, 1, Setting(level=4)))
    await until(lambda: site.last(1).done == 10, what="dimmed")
    assert site.last(1).power_w == 30.0
    await adapter.send(command(11, 1, Setting(on=False)))
    await until(lambda: site.last(1).done == 11, what="off")
    assert site.last(1).power_w == 0.0
    site.answer = RdrAnswer(RdrResult.PENDING, "asked upwards")
    assert device.press_button()
    await until(lambda: site.asked, what="its RDR")
    assert site.asked[0][:2] == (1, 60.0)
    await adapter.answer_rdr(1, RdrAnswer(RdrResult.GRANTED, "the EMS says OK"))
    await adapter.send(command(12, 1, Setting(on=True, level=9)))
    await until(lambda: site.last(1).done == 12, what="on again")
    assert site.last(1).power_w == 60.0


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto")
async def test_a_lamp_on_mqtt_through_our_own_broker(tmp_path: Path) -> None:
    config = DeviceConfig(number=1)
    broker = SiteBroker(SiteBrokerConfig(port=free_port()), (config,), tmp_path, CLOCK, random.Random(1))
    broker.prepare()
    site, tasks = RememberingSite(), Tasks()
    adapter = MqttDevices("gw/1", 1, broker.settings(), (config,), ControlConfig(), site, CLOCK, random.Random(2))
    account = MqttSettings(
        "127.0.0.1",
        broker.config.port,
        username=files.device_account(1),
        password=files.device_password(config, tmp_path),
    )
    lamp = MqttDevice(simulated_lamp(1, 4, 1, CLOCK, rated_w=60.0), account, CLOCK, random.Random(3))
    try:
        tasks.start(broker.run())
        tasks.start(adapter.run())
        running = tasks.start(lamp.run())
        await story(adapter, site, lamp)
        await tasks.end(running)
        await until(lambda: site.went, what="good-bye")
        assert adapter.status()["malformed"] == 0
    finally:
        await tasks.end()


@pytest.mark.parametrize("ipv6", [True, False], ids=["udp6", "without IPv6"])
async def test_a_lamp_on_coap(ipv6: bool) -> None:
    port, own = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    site, tasks = RememberingSite(), Tasks()
    adapter = CoapDevices(
        SiteCoapConfig(port=port), (DeviceConfig(number=1, link="coap"),), ControlConfig(), site, CLOCK, ipv6=ipv6
    )
    lamp = CoapDevice(
        simulated_lamp(1, 4, 1, CLOCK, rated_w=60.0), "127.0.0.1", port, "127.0.0.1", own, CLOCK, ipv6=ipv6
    )
    try:
        serving = tasks.start(adapter.run())
        running = tasks.start(lamp.run())
        await story(adapter, site, lamp)
        # The EMA starts anew and knows nobody: the device is told so and announces itself again.
        await tasks.end(serving)
        fresh = RememberingSite()
        adapter = CoapDevices(
            SiteCoapConfig(port=port), (DeviceConfig(number=1, link="coap"),), ControlConfig(), fresh, CLOCK, ipv6=ipv6
        )
        tasks.start(adapter.run())
        await until(lambda: adapter.status()["running"])
        lamp.key(0)  # a change at the lamp itself, so that it speaks
        await until(lambda: fresh.readings, seconds=20.0, what="it is back")
        await tasks.end(running)
        await until(lambda: fresh.went, what="good-bye")
        assert adapter.status()["malformed"] == 0
    finally:
        await tasks.end()
