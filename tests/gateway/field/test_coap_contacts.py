"""CoAP devices that were there before the EMA's restart are found where they were, and only they."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from device_agents import protocol as wire
from device_agents.agent import Agent
from device_agents.run_coap import CoapDevice
from device_agents.simulated import simulated_lamp
from gateway.clock import SystemClock
from gateway.config.model import ControlConfig, DeviceConfig, SiteCoapConfig
from gateway.errors import PeerError
from gateway.field.coap_contacts import Contact
from gateway.field.devices_coap import CoapDevices
from gateway.site.resource import Setting
from tests.gateway.field.site import RememberingSite, command, listening_logger
from tests.gateway.field.test_devices_coap import udp_port
from tests.support.wait import until

CLOCK = SystemClock()
CONFIG = tuple(DeviceConfig(number=number, link="coap", rated_w=60.0) for number in (1, 2))


class Kept:
    """A journal's contacts."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.saved = 0

    def contacts(self, link: str) -> dict[int, str]:
        return dict(self.texts)

    def save_contact(self, link: str, number: int, text: str) -> None:
        if self.texts.get(number) != text:
            self.saved += 1
            self.texts[number] = text

    def at(self, number: int) -> dict[str, Any]:
        return dict(json.loads(self.texts[number]))


@asynccontextmanager
async def ema(port: int, kept: Kept, config: Any = CONFIG, **site: Any) -> AsyncIterator[tuple[CoapDevices, Any]]:
    """One start of an EMA."""
    inputs = RememberingSite()
    adapter = CoapDevices(
        SiteCoapConfig(port=port, **site),
        config,
        ControlConfig(latency_s=0.5),
        inputs,
        CLOCK,
        listening_logger("contacts")[0],
        contacts=kept,
    )
    task = asyncio.create_task(adapter.run())
    try:
        await until(lambda: adapter.status()["running"] or task.done(), what="it serves")
        yield adapter, inputs
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def lamp(ema_port: int, port: int, dev: int = 1, boot: int = 7, period_s: float = 600.0) -> AsyncIterator[Agent]:
    """A device that says nothing for ten minutes unless something happens."""
    agent = simulated_lamp(dev, 3, boot, CLOCK)
    runner = CoapDevice(agent, "127.0.0.1", ema_port, "127.0.0.1", port, CLOCK, period_s)
    task = asyncio.create_task(runner.run())
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_found_at_once_with_its_state_and_commandable() -> None:
    port, kept = udp_port(), Kept()
    own = udp_port()
    async with lamp(port, own) as device:
        async with ema(port, kept) as (_, site):
            await until(lambda: site.readings, what="it came by itself")
        assert kept.at(1)["port"] == own
        async with ema(port, kept) as (adapter, site):
            await until(lambda: site.readings, 3, "it is found")
            assert [r.name for r in site.came] == ["led-1"]
            assert (site.last(1).on, site.last(1).power_w, site.came[0].rated_w) == (True, 60.0, 60.0)
            await adapter.send(command(5, 1, Setting(on=False)))
            assert device.done == 5
            await until(lambda: site.last(1).done == 5, what="and says so")
            assert len(site.came) == 1
        assert kept.saved == 1, "only what changed is written"


async def test_nothing_is_kept_of_questions_that_ended() -> None:
    """Whoever may come, comes under one number after another."""
    port, kept, own = udp_port(), Kept(), udp_port()
    async with lamp(port, own):
        async with ema(port, kept) as (_, site):
            await until(lambda: site.readings)
        async with ema(port, kept) as (adapter, site):
            await until(lambda: site.readings, what="it is found")
            await until(lambda: not adapter._tasks, what="the question is forgotten")


async def test_another_device_at_its_address_is_not_taken_for_it() -> None:
    """Addresses are lent anew, and a command names no device."""
    port, kept, own = udp_port(), Kept(), udp_port()
    async with lamp(port, own, dev=1), ema(port, kept) as (_, site):
        await until(lambda: site.readings)
    async with lamp(port, own, dev=2) as other, ema(port, kept) as (adapter, site):
        await until(lambda: site.readings, what="the other one announces itself")
        await until(lambda: not adapter._tasks, 5)
        assert [r.number for r in site.came] == [2]
        assert {number for number, _ in site.readings} == {2}
        with pytest.raises(Exception, match="device 1 is not there"):
            await adapter.send(command(5, 1, Setting(on=False)))
        assert other.done == 0


async def test_one_that_restarted_meanwhile_announces_itself() -> None:
    port, kept, own = udp_port(), Kept(), udp_port()
    async with lamp(port, own), ema(port, kept) as (_, site):
        await until(lambda: site.readings)
    async with lamp(port, own, boot=8), ema(port, kept) as (_, site):
        await until(lambda: site.readings)
        assert len(site.came) == 1
        assert site.went == []
    assert wire.Connected.decode(kept.at(1)["connected"].encode()).boot == 8


async def test_one_that_moved_is_found_by_its_own_word() -> None:
    port, kept = udp_port(), Kept()
    async with lamp(port, udp_port()), ema(port, kept) as (_, site):
        await until(lambda: site.readings)
    before = kept.at(1)["port"]
    moved = udp_port()
    async with lamp(port, moved) as device, ema(port, kept) as (adapter, site):
        await until(lambda: site.readings)
        await adapter.send(command(5, 1, Setting(on=False)))
        assert device.done == 5
    assert before != kept.at(1)["port"] == moved


@pytest.mark.parametrize(
    ("config", "site"),
    [
        ((DeviceConfig(number=1, link="coap", address="127.0.0.9"),), {}),
        (CONFIG, {"sources": ("10.0.0.0/8",)}),
    ],
    ids=["another address is configured", "its address is no source any more"],
)
async def test_not_asked_where_it_may_not_speak_from(config: Any, site: dict[str, Any]) -> None:
    port, kept = udp_port(), Kept()
    async with lamp(port, udp_port()):
        async with ema(port, kept) as (_, inputs):
            await until(lambda: inputs.readings)
        async with ema(port, kept, config, **site) as (adapter, inputs):
            assert not adapter._tasks
            assert not inputs.came


async def test_a_device_that_waits_to_try_again_tries_when_the_ema_speaks() -> None:
    """Its state could not be delivered while the EMA was away; it does not sit out its back-off."""
    port, kept, own = udp_port(), Kept(), udp_port()
    agent = simulated_lamp(1, 3, 7, CLOCK)
    runner = CoapDevice(agent, "127.0.0.1", port, "127.0.0.1", own, CLOCK, 600.0)
    runner._backoff._first = runner._backoff._next = 600.0
    task = asyncio.create_task(runner.run())
    try:
        await until(lambda: runner._failed, 20, "nobody serves there")
        kept.texts[1] = Contact("127.0.0.1", own, wire.Connected.decode(agent.connected())).encode()
        async with ema(port, kept) as (_, site):
            await until(lambda: runner.reachable, 5, "it came by itself")
            await until(lambda: not agent.changed, 5, "and said its state")
            assert {resource.number for resource in site.came} == {1}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"host":"h","port":"x","connected":"{}"}', '{"host":1,"port":1}'])
def test_what_cannot_be_read_says_so(text: str) -> None:
    with pytest.raises(PeerError, match="a contact in the journal"):
        Contact.decode(text)
