"""A device on CoAP over loopback, against an EMA's side made by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import aiocoap
import pytest

from device_agents.agent import Agent
from device_agents.protocol import ACK, RdrAnswer, Setpoint
from device_agents.run_coap import CoapDevice
from gateway.clock import Clock, ScaledClock, SystemClock
from gateway.errors import OperatorError
from gateway.transport.coap import has_ipv6
from tests.device_agents.ema import CoapEma
from tests.device_agents.test_run_mqtt import running
from tests.device_agents.twins import Time, battery, car, lamp, panel
from tests.support.mosquitto import free_port
from tests.support.wait import until

TRANSPORTS = [False, pytest.param(True, marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 in this kernel"))]


@contextlib.asynccontextmanager
async def ema(ipv6: bool | None = None, port: int | None = None) -> AsyncIterator[CoapEma]:
    one = CoapEma(port or free_port(socket.SOCK_DGRAM), ipv6)
    await one.open()
    try:
        yield one
    finally:
        await one.close()


def device(agent: Agent, port: int, clock: Clock | None = None, ipv6: bool | None = None, **more: float) -> CoapDevice:
    own = free_port(socket.SOCK_DGRAM)
    settings = {"tick_s": 0.05, **more}
    return CoapDevice(
        agent, "127.0.0.1", port, "127.0.0.1", own, clock or SystemClock(), ipv6=ipv6, **settings  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("ipv6", TRANSPORTS)
async def test_comes_obeys_asks_back_and_goes(ipv6: bool) -> None:
    agent = lamp(Time())
    async with ema(ipv6) as site:
        runner = device(agent, site.port, ipv6=ipv6)
        async with running(runner.run()):
            await until(lambda: site.status)
            assert site.order[:2] == ["connected", "status"]
            assert (site.connected[0].addr, site.connected[0].port) == ("127.0.0.1", agent.port)
            answer = await site.put("setpoint", Setpoint(11, 60, on=False).encode())
            assert str(answer.code) == "2.04 Changed"
            await until(lambda: site.last().done == 11)
            assert site.last().mw == 0
            site.answer = RdrAnswer("pending")
            assert runner.press_button()
            await until(lambda: agent.rdr == RdrAnswer("pending"))
            assert site.rdr[0].mw == 60_000
            await site.put("rdr", RdrAnswer("granted").encode())
            assert agent.granted
        await until(lambda: site.gone)


@pytest.mark.parametrize("make", [lamp, panel, battery, car])
async def test_every_kind_reports_on_its_period(make: Callable[[Time], Agent]) -> None:
    async with ema() as site, running(device(make(Time()), site.port, period_s=0.1).run()):
        await until(lambda: len(site.status) >= 4)
        seqs = [status.seq for status in site.status]
        assert seqs == sorted(set(seqs))


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("ack", ACK, "2.04"),
        ("light", b"\x31\x1a\xff", "2.04"),
        ("light", b"4 15", "2.04"),
        ("light", b"hello there", "4.00"),
        ("setpoint", b'{"id":1,"lease_s":0}', "4.00"),
        ("setpoint", b"\xff\xfe", "4.00"),
        ("rdr", b'{"rdr":"perhaps"}', "4.00"),
        ("setpoint", b" " * 3000, "4.13"),  # sent in blocks
        ("nothing", b"", "4.04"),
    ],
)
async def test_what_its_own_port_answers(path: str, body: bytes, code: str) -> None:
    async with ema() as site, running(device(lamp(Time()), site.port).run()):
        await until(lambda: site.connected)
        answer = await site.put(path, body)
        assert answer.code.dotted == code


async def test_the_labs_bytes_on_light() -> None:
    async with ema() as site, running(device(lamp(Time()), site.port).run()):
        await until(lambda: site.status)
        await site.put("light", b"\x31\x1a\x00")
        await until(lambda: site.last().dimming == 8)
        await site.put("light", b"\x11\x10")
        await until(lambda: site.last().on is False)


async def test_an_ema_that_restarted_and_forgot_is_told_again() -> None:
    clock = ScaledClock(10)
    port = free_port(socket.SOCK_DGRAM)
    runner = device(lamp(Time()), port, clock, period_s=0.5, tick_s=0.5)
    async with running(runner.run()):
        async with ema(port=port) as site:
            await until(lambda: site.status)
            site.knows = False
            await until(lambda: len(site.connected) == 2, what="4.04 brings connected")
        await until(lambda: not runner.reachable, 20, "a port that nobody serves is noticed")
        async with ema(port=port) as site:
            await until(lambda: site.status, 20)
            assert site.order[:2] == ["connected", "status"]


async def test_a_lease_is_kept_by_acks_and_ends_without() -> None:
    clock = ScaledClock(100)
    agent = battery(clock.monotonic)
    async with ema() as site, running(device(agent, site.port, clock, tick_s=1.0).run()):
        await until(lambda: site.status)
        await site.put("setpoint", Setpoint(3, 30, mw=-1_000_000).encode())
        start = clock.monotonic()
        while clock.monotonic() < start + 90:
            await site.put("ack", ACK)
            assert not agent.safe
            await clock.sleep(5)
        await until(lambda: site.last().safe)
        assert site.last().mw == 0


async def test_a_stranger_is_refused() -> None:
    async with ema() as site:
        agent = lamp(Time())
        runner = CoapDevice(agent, "127.0.0.2", site.port, "127.0.0.1", free_port(socket.SOCK_DGRAM), SystemClock())
        task = asyncio.create_task(runner.run())
        await until(lambda: agent.port is not None)
        answer = await site.put("light", b"\x11\x10", agent.port)
        assert answer.code.dotted == "4.03"
        assert agent.on
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_taken_port_is_the_operators_mistake() -> None:
    port = free_port(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        runner = CoapDevice(lamp(Time()), "127.0.0.1", 5683, "127.0.0.1", port, SystemClock())
        with pytest.raises(OperatorError, match=f"--bind: CoAP 127.0.0.1:{port}: "):
            await runner.run()


async def test_an_end_that_comes_together_with_an_answer_is_an_end() -> None:
    response: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    class Context:
        def request(self, message: object) -> object:
            asked.set()
            return SimpleNamespace(response=response)

    asked = asyncio.Event()
    runner = device(lamp(Time()), 1)
    runner._context = Context()
    sending = asyncio.create_task(runner._send())
    await asked.wait()
    await asyncio.sleep(0)
    response.set_result(SimpleNamespace(code=aiocoap.CHANGED, remote=None, payload=b""))
    sending.cancel()
    await asyncio.wait({sending}, timeout=5)
    assert sending.cancelled()
