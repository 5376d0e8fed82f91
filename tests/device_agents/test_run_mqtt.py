"""A device on a real mosquitto: comes, obeys, asks back, is lost, returns, goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from device_agents.agent import Agent
from device_agents.protocol import RdrAnswer, Setpoint
from device_agents.run_mqtt import MqttDevice
from gateway.clock import Clock, ScaledClock, SystemClock
from gateway.transport.mqtt import MqttSettings
from tests.device_agents.ema import MqttEma
from tests.device_agents.twins import Time, battery, car, lamp, panel
from tests.support.mosquitto import Mosquitto
from tests.support.wait import until


@contextlib.asynccontextmanager
async def running(coroutine: object) -> AsyncIterator[asyncio.Task[None]]:
    task: asyncio.Task[None] = asyncio.create_task(coroutine)  # type: ignore[arg-type]
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def ema(broker: Mosquitto, ack: bool = True) -> AsyncIterator[MqttEma]:
    one = MqttEma(broker.port, ack)
    async with running(one.run()):
        await one.up.wait()
        yield one


def device(agent: Agent, broker: Mosquitto, clock: Clock | None = None, **more: float) -> MqttDevice:
    settings = MqttSettings("127.0.0.1", broker.port)
    return MqttDevice(agent, settings, clock or SystemClock(), random.Random(1), **{"tick_s": 0.05, **more})


async def test_comes_obeys_and_goes(mosquitto: Mosquitto) -> None:
    agent = lamp(Time())
    async with ema(mosquitto) as site:
        async with running(device(agent, mosquitto).run()):
            await until(lambda: site.status)
            assert site.order[:2] == ["connected", "status"]
            assert site.connected[0].caps == ("switch", "level")
            assert (site.last().on, site.last().mw) == (True, 60_000)
            await site.command(4, Setpoint(11, 60, dimming=4))
            await until(lambda: site.last().done == 11)
            assert (site.last().dimming, site.last().mw) == (4, 30_000)
        await until(lambda: site.gone)
        assert (site.gone[0].dev, site.gone[0].boot) == (4, 7)
        assert len(site.gone) == 1, "an orderly good-bye is no last will"


@pytest.mark.parametrize("make", [lamp, panel, battery, car])
async def test_every_kind_reports_on_its_period_with_growing_seq(
    mosquitto: Mosquitto, make: Callable[[Time], Agent]
) -> None:
    async with ema(mosquitto) as site, running(device(make(Time()), mosquitto, period_s=0.1).run()):
        await until(lambda: len(site.status) >= 4)
        seqs = [status.seq for status in site.status]
        assert seqs == sorted(set(seqs))


async def test_hello_is_answered_with_connected(mosquitto: Mosquitto) -> None:
    async with ema(mosquitto) as site, running(device(lamp(Time()), mosquitto).run()):
        await until(lambda: site.connected)
        await site.hello()
        await until(lambda: len(site.connected) >= 2)


async def test_an_ema_that_comes_late_and_loses_its_hello_is_told_again(mosquitto: Mosquitto) -> None:
    clock = ScaledClock(50)
    async with ema(mosquitto, ack=False) as site, running(device(lamp(Time()), mosquitto, clock).run()):
        await until(lambda: len(site.connected) >= 3, what="connected again without an answer")


async def test_the_button_sends_an_rdr_and_the_answer_arrives(mosquitto: Mosquitto) -> None:
    agent = lamp(Time())
    runner = device(agent, mosquitto)
    async with ema(mosquitto) as site, running(runner.run()):
        await until(lambda: site.status)
        assert not runner.press_button(), "a lamp that is fully lit has nothing to ask back"
        await site.command(4, Setpoint(1, 60, on=False))
        await until(lambda: site.last().done == 1)
        assert runner.press_button()
        assert not runner.press_button(), "an answer is awaited"
        await until(lambda: site.rdr)
        assert (site.rdr[0].dev, site.rdr[0].mw, site.rdr[0].for_s) == (4, 60_000, 600)
        await site.say("dev/4", RdrAnswer("denied", "margin 12 W, asked 60 W").encode())
        await until(lambda: agent.rdr == RdrAnswer("denied", "margin 12 W, asked 60 W"))


async def test_a_lease_ends_in_the_safe_state_and_says_so(mosquitto: Mosquitto) -> None:
    clock = ScaledClock(100)
    agent = battery(clock.monotonic)
    async with ema(mosquitto) as site, running(device(agent, mosquitto, clock, tick_s=1.0).run()):
        await until(lambda: site.status)
        await site.command(6, Setpoint(3, 20, mw=-1_000_000))
        await until(lambda: site.last().mw == -1_000_000)
        await until(lambda: site.last().safe)
        assert site.last().mw == 0
        await site.command(6, Setpoint(4, 20, mw=500_000))
        await until(lambda: site.last().done == 4)
        assert (site.last().safe, site.last().mw) == (None, 500_000)


async def test_a_killed_device_leaves_its_last_will(mosquitto: Mosquitto) -> None:
    async with ema(mosquitto) as site:
        runner = device(lamp(Time()), mosquitto)
        async with running(runner.run()):
            await until(lambda: site.status)
            client = runner.link._client
            assert client is not None
            client._client.socket().shutdown(socket.SHUT_RDWR)  # the wire is cut; no DISCONNECT goes out
            await until(lambda: site.gone)
            assert site.gone[0].boot == 7
            await until(lambda: len(site.connected) >= 2, what="connected again after the cut")


async def test_a_broker_that_returns_finds_the_device_again(mosquitto: Mosquitto) -> None:
    agent = lamp(Time())
    async with running(device(agent, mosquitto).run()):
        async with ema(mosquitto) as site:
            await until(lambda: site.status)
        mosquitto.kill()
        await mosquitto.start()
        async with ema(mosquitto) as site:
            await site.hello()
            await until(lambda: site.connected and site.status)
            assert site.last().seq > 1


async def test_malformed_bodies_are_counted_said_once_and_refused(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    runner = device(lamp(Time()), mosquitto)
    caplog.set_level(logging.WARNING)
    async with ema(mosquitto) as site, running(runner.run()):
        await until(lambda: site.status)
        for body in (b"", b"\xff\x00", b'{"id":1}', b'{"id":true,"lease_s":60}', b"x" * 5000):
            await site.say("dev/4", body)
        await until(lambda: runner.malformed == 5)
        await site.command(4, Setpoint(1, 60, on=False))
        await until(lambda: site.last().done == 1)
    assert sum("refused" in record.message for record in caplog.records) == 1


async def test_the_labs_bytes_and_console_work_on_the_topic(mosquitto: Mosquitto) -> None:
    async with ema(mosquitto) as site, running(device(lamp(Time()), mosquitto).run()):
        await until(lambda: site.status)
        await site.say("dev/4", b"\x31\x1a\x00")
        await until(lambda: site.last().dimming == 8)
        await site.say("dev/4", b"\x11\x10")
        await until(lambda: site.last().on is False)
        await site.say("dev/4", b"4 11")
        await until(lambda: site.last().on is True)


async def test_the_console_ends_the_device(mosquitto: Mosquitto) -> None:
    runner = device(battery(Time()), mosquitto)
    async with ema(mosquitto) as site:
        task = asyncio.create_task(runner.run())
        await until(lambda: site.status)
        assert runner.key(3) == "quit"
        await asyncio.wait_for(task, 5)
        await until(lambda: site.gone)
