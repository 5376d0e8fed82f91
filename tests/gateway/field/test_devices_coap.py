"""Devices over CoAP: aiocoap and libcoap as peers, with and without IPv6, and hostile datagrams."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.transport.coap import open_server  # isort: skip
import aiocoap
import aiocoap.resource

from gateway.clock import ManualClock, SystemClock
from gateway.config.model import ControlConfig, DeviceConfig, SiteCoapConfig
from gateway.errors import OperatorError, TransientError
from gateway.field.devices_coap import CoapDevices
from gateway.site.event import RdrAnswer, RdrResult
from gateway.site.resource import Setting
from gateway.transport.coap import MOST_REMEMBERED
from tests.gateway.field.site import Lines, RememberingSite, command, listening_logger
from tests.support.mosquitto import free_port
from tests.support.wait import until

COAP_CLIENT = shutil.which("coap-client-notls")
CONFIG = (
    DeviceConfig(number=1, name="desk lamp", link="coap", rated_w=60.0),
    DeviceConfig(number=2, type="ess", link="coap", address="127.0.0.2"),
    DeviceConfig(number=3, type="led", link="coap", address="127.0.0.3", rated_w=90.0),
)


def udp_port() -> int:
    return free_port(socket.SOCK_DGRAM)


class Device:
    """A device's own end: it keeps what it was told, and answers ``code``."""

    def __init__(self, host: str, paths: tuple[str, ...] = ("setpoint", "ack", "rdr", "light")) -> None:
        self.host, self.port = host, udp_port()
        self.told: list[tuple[str, bytes]] = []
        self.code = aiocoap.CHANGED
        self._paths = paths
        self._context: Any = None

    async def __aenter__(self) -> Device:
        site = aiocoap.resource.Site()
        for path in self._paths:
            site.add_resource([path], Told(self, path))
        self._context = await open_server(site, self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._context is not None:
            await self._context.shutdown()
            self._context = None

    async def put(self, port: int, path: str, body: bytes | dict[str, Any]) -> tuple[str, bytes]:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = aiocoap.Message(code=aiocoap.PUT, uri=f"coap://127.0.0.1:{port}/{path}", payload=payload)
        answer = await self._context.request(message).response
        return str(answer.code), bytes(answer.payload)

    def bodies(self, path: str) -> list[bytes]:
        return [body for where, body in self.told if where == path]


class Told(aiocoap.resource.Resource):
    def __init__(self, device: Device, path: str) -> None:
        super().__init__()
        self._device, self._path = device, path

    async def render_put(self, request: Any) -> Any:
        self._device.told.append((self._path, bytes(request.payload)))
        return aiocoap.Message(code=self._device.code)


class Bench:
    def __init__(self, adapter: CoapDevices, site: RememberingSite, lines: Lines, port: int) -> None:
        self.adapter, self.site, self.lines, self.port = adapter, site, lines, port

    def count(self, name: str) -> int:
        value = self.adapter.status()[name]
        assert isinstance(value, int)
        return value


@asynccontextmanager
async def bench(ipv6: bool | None = None, clock: Any = None, lab_port: int = 5683, **site: Any) -> AsyncIterator[Bench]:
    logger, lines = listening_logger("coap")
    port = udp_port()
    inputs = RememberingSite()
    site.setdefault("sources", ("127.0.0.0/8",))
    adapter = CoapDevices(
        SiteCoapConfig(port=port, **site),
        CONFIG,
        ControlConfig(latency_s=0.5),
        inputs,
        clock or SystemClock(),
        logger,
        ipv6,
        lab_port,
    )
    task = asyncio.create_task(adapter.run())
    try:
        await until(lambda: adapter.status()["running"] or task.done(), what="it serves")
        if task.done():
            task.result()
        yield Bench(adapter, inputs, lines, port)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hello(dev: int, boot: int = 1, type: str = "led", **more: Any) -> dict[str, Any]:
    body = {"dev": dev, "type": type, "priority": 3, "boot": boot, "addr": "127.0.0.1", "caps": ["switch", "level"]}
    return {**body, **more}


both = pytest.mark.parametrize("ipv6", [True, False], ids=["udp6", "without IPv6"])


@both
async def test_the_dialogue(ipv6: bool) -> None:
    async with bench(ipv6) as b, Device("127.0.0.1") as lamp:
        assert await lamp.put(b.port, "connected", hello(1, port=lamp.port)) == ("2.04 Changed", b"")
        assert (b.site.came[0].name, b.site.came[0].priority) == ("desk lamp", 3)
        state = {"dev": 1, "boot": 1, "seq": 1, "on": True, "dimming": 9, "mw": 60000}
        assert await lamp.put(b.port, "status", state) == ("2.04 Changed", b"")
        assert b.site.last(1).power_w == 60.0
        await b.adapter.send(command(5, 1, Setting(on=False), lease_s=20))
        assert [json.loads(x) for x in lamp.bodies("setpoint")] == [{"id": 5, "lease_s": 20, "on": False}]
        b.site.answer = RdrAnswer(RdrResult.PENDING, "asked upwards")
        code, body = await lamp.put(b.port, "rdr", {"dev": 1, "boot": 1, "seq": 1, "mw": 60000, "for_s": 60})
        assert (code, json.loads(body)) == ("2.05 Content", {"rdr": "pending", "why": "asked upwards"})
        await b.adapter.answer_rdr(1, RdrAnswer(RdrResult.DENIED, "silence"))
        assert json.loads(lamp.bodies("rdr")[0]) == {"rdr": "denied", "why": "silence"}
        assert await lamp.put(b.port, "disconnected", {"dev": 1, "boot": 1}) == ("2.04 Changed", b"")
        assert b.site.went
        assert not b.lines.at(logging.WARNING)


@both
async def test_a_device_on_another_port_than_it_sends_from(ipv6: bool) -> None:
    async with bench(ipv6) as b, Device("127.0.0.1") as sender, Device("127.0.0.1") as server:
        await sender.put(b.port, "connected", hello(1, port=server.port))
        for number in (1, 2):
            await b.adapter.send(command(number, 1, Setting(on=False)))
        assert len(server.bodies("setpoint")) == 2
        assert not sender.told


@both
async def test_a_device_that_does_not_answer_costs_its_latency_and_no_more(ipv6: bool) -> None:
    async with bench(ipv6) as b, Device("127.0.0.1") as lamp:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            await lamp.put(b.port, "connected", hello(1, port=deaf.getsockname()[1]))
            with pytest.raises(TransientError, match=r"no answer within 0\.5 s"):
                await b.adapter.send(command(1, 1, Setting(on=False)))
            await lamp.put(b.port, "connected", hello(1, port=lamp.port))
            await b.adapter.send(command(2, 1, Setting(on=False)))
            assert len(lamp.bodies("setpoint")) == 1
            await until(lambda: not b.adapter._context.request_interfaces[0].token_interface._active_exchanges)
            assert not b.adapter._context.request_interfaces[0].token_interface._backlogs
        assert b.count("unanswered") == 1


async def test_a_closed_port_is_known_at_once() -> None:
    async with bench(True) as b, Device("127.0.0.1") as lamp:
        await lamp.put(b.port, "connected", hello(1, port=udp_port()))
        with pytest.raises(TransientError):
            await b.adapter.send(command(1, 1, Setting(on=False)))
        assert b.count("unanswered") == 1


async def test_a_device_that_refuses() -> None:
    async with bench() as b, Device("127.0.0.1") as lamp:
        await lamp.put(b.port, "connected", hello(1, port=lamp.port))
        lamp.code = aiocoap.BAD_REQUEST
        for _ in range(2):
            with pytest.raises(TransientError, match=r"desk lamp: PUT /setpoint: 4\.00"):
                await b.adapter.send(command(1, 1, Setting(on=False)))
        assert len(b.lines.at(logging.WARNING)) == 1


async def test_doubles_old_starts_and_who_has_to_announce_itself() -> None:
    async with bench() as b, Device("127.0.0.1") as lamp:
        state = {"dev": 1, "boot": 4, "seq": 1, "mw": 1}
        assert await lamp.put(b.port, "status", state) == ("4.12 Precondition Failed", b"connected first")
        await lamp.put(b.port, "connected", hello(1, boot=4))
        for seq, boot in ((1, 4), (1, 4), (3, 4), (2, 4), (9, 3)):
            assert (await lamp.put(b.port, "status", {**state, "seq": seq, "boot": boot}))[0] == "2.04 Changed"
        assert len(b.site.readings) == 2
        assert (b.count("doubled"), b.count("old")) == (2, 1)
        assert (await lamp.put(b.port, "status", {**state, "boot": 5}))[0] == "4.12 Precondition Failed"
        await lamp.put(b.port, "connected", hello(1, boot=5))
        assert b.site.went == [(1, "it restarted")]


async def test_an_rdr_asked_twice_is_decided_once() -> None:
    async with bench() as b, Device("127.0.0.1") as lamp:
        await lamp.put(b.port, "connected", hello(1))
        rdr = {"dev": 1, "boot": 1, "seq": 1, "mw": 60000, "for_s": 60}
        assert await lamp.put(b.port, "rdr", rdr) == await lamp.put(b.port, "rdr", rdr)
        assert b.site.asked == [(1, 60.0, 60.0)]


async def test_only_from_its_own_address() -> None:
    async with bench() as b, Device("127.0.0.1") as thief, Device("127.0.0.2") as ess:
        assert (await thief.put(b.port, "connected", hello(2, type="ess")))[0] == "4.03 Forbidden"
        assert (await ess.put(b.port, "connected", hello(2, type="ess", port=ess.port)))[0] == "2.04 Changed"
        state = {"dev": 2, "boot": 1, "seq": 1, "mw": 1}
        assert (await thief.put(b.port, "status", state))[0] == "4.03 Forbidden"
        assert (await thief.put(b.port, "disconnected", {"dev": 2, "boot": 1}))[0] == "4.03 Forbidden"
        await thief.put(b.port, "connected", hello(1))
        assert (await ess.put(b.port, "status", {**state, "dev": 1}))[0] == "4.12 Precondition Failed"
        assert not b.site.went
        assert not b.site.readings
        await b.adapter.send(command(1, 2, Setting(setpoint_w=-500.0)))
        assert json.loads(ess.bodies("setpoint")[0])["mw"] == -500000


@both
async def test_sources_and_strangers(ipv6: bool) -> None:
    async with bench(ipv6, sources=("127.0.0.1",)) as b, Device("127.0.0.9") as stranger, Device("127.0.0.1") as lamp:
        assert (await stranger.put(b.port, "connected", hello(1)))[0] == "4.03 Forbidden"
        assert (await lamp.put(b.port, "connected", hello(8)))[0] == "4.03 Forbidden"
        assert (await lamp.put(b.port, "status", {"dev": 8, "boot": 1, "seq": 1}))[0] == "4.03 Forbidden"
        assert not b.site.came
        assert b.count("refused") == 1
        assert b.lines.at(logging.WARNING) == ["coap: device 8 is refused: no [[device]] with link coap names it"]
        manager = b.adapter._context.request_interfaces[0].token_interface
        assert {r.hostinfo.split(":")[0] for r, _ in manager._recent_messages} == {"127.0.0.1"}


async def test_open_for_devices_that_are_not_configured() -> None:
    async with bench(open=True) as b, Device("127.0.0.1") as lamp:
        assert (await lamp.put(b.port, "connected", hello(8, port=lamp.port)))[0] == "2.04 Changed"
        assert b.site.came[0].name == "led-8"


@both
async def test_a_device_of_the_lab(ipv6: bool) -> None:
    async with Device("127.0.0.3", ("light",)) as lamp, bench(ipv6, lab_port=lamp.port) as b:
        assert await lamp.put(b.port, "connected", b"127.0.0.3/10/") == ("2.04 Changed", b"")
        assert (b.site.came[0].number, b.site.came[0].priority) == (3, 10)
        assert b.site.last(3).power_w == 90.0
        await b.adapter.send(command(1, 3, Setting(on=False)))
        await b.adapter.send(command(2, 3, Setting(on=True, level=7)))
        assert lamp.bodies("light") == [b"\x11\x10", b"\x11\x1f", b"\x31\x1a\x00", b"\x31\x1a\x00"]
        assert (b.site.last(3).done, b.site.last(3).level) == (2, 7)
        assert (await lamp.put(b.port, "status", b"127.0.0.3/10/"))[0] == "2.04 Changed"
        assert (b.site.last(3).on, b.site.last(3).level) == (True, 7)
        lamp.code = aiocoap.INTERNAL_SERVER_ERROR
        with pytest.raises(TransientError):
            await b.adapter.send(command(3, 3, Setting(level=8)))
        lamp.code = aiocoap.CHANGED
        for id in (3, 4):
            with pytest.raises(TransientError, match=r"again|has to be read"):
                await b.adapter.send(command(id, 3, Setting(level=8)))
        assert lamp.bodies("light")[4:] == [b"\x31\x1a\x01"]


async def test_a_device_of_the_lab_at_an_address_that_nobody_configured() -> None:
    async with bench() as b, Device("127.0.0.9") as lamp:
        assert (await lamp.put(b.port, "connected", b"127.0.0.9/10/"))[0] == "4.03 Forbidden"
        assert not b.site.came


async def test_leases_acks_and_silence() -> None:
    clock = ManualClock()
    lab = Device("127.0.0.3", ("light",))
    async with Device("127.0.0.1") as lamp, lab, bench(clock=clock, lab_port=lab.port) as b:
        await lamp.put(b.port, "connected", hello(1, port=lamp.port))
        await lab.put(b.port, "connected", b"127.0.0.3/10/")
        readings = len(b.site.readings)
        await clock.advance(20.0)
        await until(lambda: lamp.bodies("ack") == [b"ack"], what="the lamp's ack")
        await until(lambda: len(b.site.readings) > readings, what="the lab's lamp is alive by its 4.04")
        await lamp.__aexit__()
        for _ in range(70):
            await clock.advance(1.0)
        await until(lambda: b.site.went == [(1, "not heard for its lease of 60 s")], what="the lease ends")
        assert (3, "not heard for its lease of 60 s") not in b.site.went


@pytest.mark.skipif(COAP_CLIENT is None, reason="coap-client-notls is not installed: apt install libcoap3-bin")
@both
async def test_libcoap_as_a_device(ipv6: bool) -> None:
    async def client(port: int, *arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            COAP_CLIENT or "", "-B", "3", *arguments[:-1], f"coap://127.0.0.1:{port}/{arguments[-1]}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return out + err

    async with bench(ipv6) as b:
        core = await client(b.port, "-m", "get", ".well-known/core")
        assert all(f"</{path}>".encode() in core for path in ("connected", "status", "rdr", "disconnected"))
        body = '{"dev":1,"type":"led","priority":2,"boot":1,"addr":"127.0.0.1","port":5683,"caps":["switch"]}'
        assert await client(b.port, "-m", "put", "-e", body, "connected") == b""
        assert b.site.came[0].number == 1
        assert await client(b.port, "-m", "put", "-e", '{"dev":1,"boot":1,"seq":1,"mw":5}', "status") == b""
        assert b.site.last(1).power_w == 0.005
        rdr = '{"dev":1,"boot":1,"seq":1,"mw":60000,"for_s":60}'
        assert b'{"rdr":"granted"' in await client(b.port, "-m", "put", "-e", rdr, "rdr")
        assert b"4.00" in await client(b.port, "-m", "put", "-e", "rubbish", "status")
        assert b"4.04" in await client(b.port, "-m", "put", "-e", "x", "nowhere")
        assert b"4.05" in await client(b.port, "-m", "get", "status")
        assert b"4.13" in await client(b.port, "-m", "put", "-b", "64", "-e", "x" * 300, "status")


def datagrams(rng: random.Random, most: int) -> list[bytes]:
    """Random bytes, and such that look more and more like CoAP."""
    made = []
    for n in range(most):
        body = rng.randbytes(rng.randrange(60))
        head = bytes([0x40 | rng.randrange(64), rng.choice((1, 2, 3, 4, 0, 69, 132, rng.randrange(256)))])
        mid = rng.randrange(65536).to_bytes(2, "big")
        path = b"\xb6status" if n % 2 else b"\xb9connected"
        token = rng.randbytes(head[0] & 15)
        made.append(
            (
                body,
                head + body,
                head + mid + token + body,
                b"\x40\x03" + mid + path + b"\xff" + body,
                b"\x40\x03" + mid + path + rng.randbytes(rng.randrange(6)) + b"\xff{" + body,
                b"\x40\x03" + mid + b"\xb2\xff\xfe" + b"\xff" + body,
            )[n % 6]
        )
    return made


@both
async def test_hostile_datagrams(ipv6: bool) -> None:
    async with bench(ipv6) as b, Device("127.0.0.1") as lamp:
        await lamp.put(b.port, "connected", hello(1, port=lamp.port))
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            attacker.bind(("127.0.0.1", 0))
            attacker.setblocking(False)
            for n, datagram in enumerate(datagrams(random.Random(7), 6000)):
                await loop.sock_sendto(attacker, datagram, ("127.0.0.1", b.port))
                if n % 50 == 0:
                    await asyncio.sleep(0)
        state = {"dev": 1, "boot": 1, "seq": 1, "mw": 1000}
        assert (await lamp.put(b.port, "status", state))[0] == "2.04 Changed"
        assert b.site.last(1).power_w == 1.0
        assert len(b.site.came) == 1
        assert not [r for r in b.lines.records if r.exc_info]
        assert len(b.lines.at(logging.WARNING)) <= 4
        tokens = b.adapter._context.request_interfaces[0]
        assert len(tokens.token_interface._recent_messages) <= MOST_REMEMBERED
        await until(lambda: not tokens.incoming_requests, what="no request is left over")


async def test_a_stranger_leaves_nothing_in_memory() -> None:
    async with bench(sources=("127.0.0.1",)) as b:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            attacker.bind(("127.0.0.9", 0))
            attacker.setblocking(False)
            for mid in range(500):
                frame = b"\x40\x03" + mid.to_bytes(2, "big") + b"\xb6status\xff{}"
                await loop.sock_sendto(attacker, frame, ("127.0.0.1", b.port))
                assert len(await loop.sock_recv(attacker, 100)) == 4  # 4.03, smaller than what was asked
        manager = b.adapter._context.request_interfaces[0].token_interface
        assert not manager._recent_messages
        assert b.count("refused") == 500


async def test_a_taken_port_is_said() -> None:
    async with bench() as b:
        other = CoapDevices(SiteCoapConfig(port=b.port), CONFIG, ControlConfig(), RememberingSite(), SystemClock())
        with pytest.raises(OperatorError, match=f"127.0.0.1:{b.port}"):
            await other.run()


async def test_a_fault_of_ours_is_answered_and_said_once() -> None:
    def fails(number: int, reading: Any) -> None:
        raise ZeroDivisionError("no watts")

    async with bench() as b, Device("127.0.0.1") as lamp:
        await lamp.put(b.port, "connected", hello(1, port=lamp.port))
        b.site.on_reading = fails
        for seq in (1, 2, 3):
            state = {"dev": 1, "boot": 1, "seq": seq, "mw": 0, "on": True}
            assert (await lamp.put(b.port, "status", state))[0].startswith("5.00")
        said = [line for line in b.lines.at(logging.WARNING) if "no watts" in line]
        assert said == ["CoAP 127.0.0.1: PUT /status: ZeroDivisionError: no watts"]
        assert [r.levelno for r in b.lines.records if r.exc_info] == [logging.DEBUG] * 3
