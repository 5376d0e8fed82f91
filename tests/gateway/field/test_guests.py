"""Devices that no [[device]] names, over MQTT: let in by `[site_broker] open`, with the account of guests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from device_agents.run_mqtt import MqttDevice
from device_agents.simulated import simulated_lamp
from gateway.clock import SystemClock
from gateway.config.model import Config, DeviceConfig, EmaConfig, SiteBrokerConfig
from gateway.daemon import Daemon
from gateway.field import broker_files as files
from gateway.field.broker import SiteBroker
from gateway.transport.mqtt import MqttSettings
from tests.gateway.field.test_broker import client, device, ema, heard, make, needs_mosquitto, running
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.wait import until


def guest(broker: SiteBroker, state_dir: Path) -> aiomqtt.Client:
    return client(broker, files.GUEST_ACCOUNT, files.guest_password(state_dir))


@needs_mosquitto
async def test_a_guest_has_the_topics_that_are_nobody_elses(tmp_path: Path) -> None:
    config = SiteBrokerConfig(port=free_port(), open=True)
    async with (
        running(make(tmp_path, config)) as broker,
        ema(broker) as ours,
        device(broker, tmp_path, 4) as four,
        guest(broker, tmp_path) as stranger,
    ):
        await ours.subscribe("#", 1)
        written = ("status/77", "rdr/77", "connected", "disconnected", "status/4", "rdr/4", "dev/77", "dev/4", "hello")

        async def write() -> None:
            for topic in written:
                await stranger.publish(topic, b"x", 1)

        got = await heard(ours, write, ours)
        assert [topic for topic, _ in got] == ["status/77", "rdr/77", "connected", "disconnected"]

        await four.subscribe("dev/4", 1)
        for topic in ("#", "dev/#", "dev/+", "dev/4", "dev/77", "hello", "status/+"):
            await stranger.subscribe(topic, 1)
        for topic in ("dev/4", "status/77", "dev/5", "hello", "dev/77"):
            await ours.publish(topic, topic.encode(), 1)
        got = []
        async for message in stranger.messages:
            got.append(str(message.topic))
            if got[-1] == "dev/77":
                break
        assert set(got) == {"hello", "dev/77"}


@needs_mosquitto
@pytest.mark.parametrize(
    ("open", "password", "enters"), [(True, "", False), (True, "wrong", False), (False, "x", False), (True, None, True)]
)
async def test_a_guest_needs_its_password(tmp_path: Path, open: bool, password: str | None, enters: bool) -> None:
    async with running(make(tmp_path, SiteBrokerConfig(port=free_port(), open=open))) as broker:
        secret = files.guest_password(tmp_path) if password is None else password
        try:
            async with client(broker, files.GUEST_ACCOUNT, secret):
                entered = True
        except aiomqtt.MqttError:
            entered = False
        assert entered is enters


@asynccontextmanager
async def daemon_of(config: Config) -> AsyncIterator[Daemon]:
    daemon = Daemon(config, SystemClock(), random.Random(1), serve_socket=False)
    task = asyncio.create_task(daemon.run())
    try:
        await asyncio.wait_for(daemon.ready.wait(), 10)
        yield daemon
    finally:
        daemon.stop()
        await asyncio.wait_for(task, 10)


@asynccontextmanager
async def lamp_at(settings: MqttSettings) -> AsyncIterator[MqttDevice]:
    clock = SystemClock()
    lamp = MqttDevice(simulated_lamp(77, 2, 1, clock, 60.0), settings, clock, random.Random(3), 1.0)
    task = asyncio.create_task(lamp.run())
    try:
        yield lamp
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@needs_mosquitto
async def test_one_comes_to_an_ema_without_devices_and_is_known_after_its_restart(tmp_path: Path) -> None:
    config = Config(ema=EmaConfig(state_dir=str(tmp_path)), site_broker=SiteBrokerConfig(port=free_port(), open=True))
    async with daemon_of(config) as first:
        account = MqttSettings(
            "127.0.0.1",
            config.site_broker.port,
            username=files.GUEST_ACCOUNT,
            password=files.guest_password(tmp_path),
        )
        async with lamp_at(account):
            await until(lambda: 77 in first.engine.states, what="it came")
            assert first.engine.states[77].resource.name == "led-77"
            await first.journal.durable()
            # It does not say good-bye to this EMA: the EMA goes first.
            first.stop()
            await until(lambda: first.engine.ending)
    async with daemon_of(config) as second:
        assert 77 in second.engine.states


async def test_at_a_broker_that_is_there(tmp_path: Path, mosquitto: Mosquitto) -> None:
    for open in (False, True):
        broker = SiteBrokerConfig(host="127.0.0.1", port=mosquitto.port, open=open)
        config = Config(
            ema=EmaConfig(state_dir=str(tmp_path / str(open))), site_broker=broker, device=(DeviceConfig(number=1),)
        )
        async with daemon_of(config) as daemon, lamp_at(MqttSettings("127.0.0.1", mosquitto.port)):
            adapter = daemon.field[0]
            refused = lambda status=adapter.status: status()["strangers"]  # type: ignore[attr-defined]  # noqa: E731
            await until(lambda engine=daemon.engine, no=refused: 77 in engine.states or no(), what="it was heard")  # type: ignore[misc]
            assert (77 in daemon.engine.states) is open
