"""CoAP endpoints: sources, addresses, deadlines, and what aiocoap must not keep."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import OperatorError, TransientError
from gateway.transport import coap
from gateway.transport.coap import Deadline, GuardedSite, Sources, host_port, open_server, peer_host, peer_port, put
from tests.support.mosquitto import free_port
from tests.support.wait import until

import aiocoap  # isort: skip
import aiocoap.resource

both = pytest.mark.parametrize("ipv6", [True, False], ids=["udp6", "without IPv6"])


@pytest.mark.parametrize(
    ("allowed", "host", "may"),
    [
        ((), "127.0.0.1", True),
        ((), "::1", True),
        ((), "192.168.1.2", False),
        (("192.168.1.0/24",), "192.168.1.2", True),
        (("192.168.1.0/24",), "::ffff:192.168.1.2", True),
        (("192.168.1.0/24",), "192.168.2.2", False),
        (("192.168.1.0/24",), "127.0.0.1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("192.168.1.7",), "192.168.1.7", True),
        (("0.0.0.0/0",), "no address", False),
    ],
)
def test_sources(allowed: tuple[str, ...], host: str, may: bool) -> None:
    sources = Sources(allowed)
    assert sources.allows(host) is may
    assert sources.refused == (not may)


def test_a_source_that_is_none_is_named() -> None:
    with pytest.raises(OperatorError, match=r"sources: '192\.168\.1\.0/99'"):
        Sources(["192.168.1.0/99"])


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.168.1.2", "192.168.1.2", 5683),
        ("192.168.1.2:61616", "192.168.1.2", 61616),
        ("[::ffff:192.168.1.2]:5684", "192.168.1.2", 5684),
        ("[fe80::1%eth0]", "fe80::1%eth0", 5683),
        ("[::1]:1", "::1", 1),
    ],
)
def test_a_peers_address(text: str, host: str, port: int) -> None:
    remote: Any = SimpleNamespace(hostinfo=text)
    assert (peer_host(remote), peer_port(remote)) == (host, port)


def test_host_and_port() -> None:
    assert (host_port("::1", 5), host_port("127.0.0.1", 5)) == ("[::1]:5", "127.0.0.1:5")


def test_a_deadline_is_kept_whatever_chance_says() -> None:
    longest = Deadline(2.0).MAX_TRANSMIT_WAIT
    assert longest == pytest.approx(2.0)


class Echo(aiocoap.resource.Resource):
    async def render_put(self, request: Any) -> Any:
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload)


class Broken(aiocoap.resource.Resource):
    async def render_put(self, request: Any) -> Any:
        raise RuntimeError("a bug")


@asynccontextmanager
async def server(ipv6: bool | None = None, sources: tuple[str, ...] = ()) -> AsyncIterator[tuple[Any, int]]:
    site = GuardedSite(Sources(sources))
    site.add_resource(["echo"], Echo())
    site.add_resource(["broken"], Broken())
    port = free_port(socket.SOCK_DGRAM)
    context = await open_server(site, "127.0.0.1", port, ipv6)
    try:
        yield context, port
    finally:
        await context.shutdown()


@both
async def test_one_context_serves_and_asks(ipv6: bool) -> None:
    async with server(ipv6) as (one, _), server(ipv6) as (_, port):
        answer = await put(one, f"127.0.0.1:{port}", "echo", b"first", 2.0)
        assert bytes(answer.payload) == b"first"
        answer = await put(one, answer.remote, "echo", b"by its address", 2.0)
        assert (bytes(answer.payload), str(answer.code)) == (b"by its address", "2.04 Changed")
        assert str((await put(one, answer.remote, "broken", b"", 2.0)).code).startswith("5.00")


@both
async def test_no_answer_costs_the_deadline_and_leaves_nothing(ipv6: bool) -> None:
    async with server(ipv6) as (context, _):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            with pytest.raises(TransientError, match=r"no answer within 0\.3 s"):
                await put(context, f"127.0.0.1:{deaf.getsockname()[1]}", "echo", b"", 0.3)
        tokens = context.request_interfaces[0]
        await until(lambda: not tokens.token_interface._active_exchanges)
        assert not tokens.outgoing_requests
        assert not tokens.token_interface._backlogs


async def test_a_closed_port_is_said_by_the_kernel() -> None:
    async with server(True) as (context, _):
        with pytest.raises(TransientError, match="refused"):
            await put(context, f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}", "echo", b"", 5.0)


@both
async def test_a_queue_that_nothing_empties_stops_no_request(ipv6: bool) -> None:
    async with server(ipv6) as (one, _), server(ipv6) as (_, port):
        answer = await put(one, f"127.0.0.1:{port}", "echo", b"first", 2.0)
        manager = one.request_interfaces[0].token_interface
        manager._backlogs[answer.remote] = []  # as a sending leaves it that fails in the middle
        answer = await put(one, answer.remote, "echo", b"second", 2.0)
        assert bytes(answer.payload) == b"second"
        await until(lambda: not manager._backlogs)


@both
async def test_a_flood_of_requests_is_dropped_not_kept(ipv6: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coap, "MOST_REMEMBERED", 50)
    async with server(ipv6) as (context, port):
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            flood.bind(("127.0.0.1", 0))
            flood.setblocking(False)
            for mid in range(200):
                await loop.sock_sendto(flood, b"\x50\x03" + mid.to_bytes(2, "big") + b"\xb4echo", ("127.0.0.1", port))
                await asyncio.sleep(0)
        [guard] = context.guards
        await until(lambda: guard.dropped == 150)
        assert len(context.request_interfaces[0].token_interface._recent_messages) == 50


async def test_what_breaks_the_library_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server() as (context, port), server() as (other, _):
        [guard] = context.guards

        def fail(message: Any) -> None:
            raise AssertionError("inside aiocoap")

        monkeypatch.setattr(guard, "_take", fail)
        with pytest.raises(TransientError):
            await put(other, f"127.0.0.1:{port}", "echo", b"", 0.3)
        assert guard.broken == 1 + 2


async def test_addresses_that_are_not_to_be_had() -> None:
    async with server() as (_, port):
        for ipv6 in (True, False):
            with pytest.raises(OperatorError, match=f"127.0.0.1:{port}"):
                await open_server(GuardedSite(Sources(())), "127.0.0.1", port, ipv6)
    with pytest.raises(OperatorError, match=r"192\.0\.2\.1"):
        await open_server(GuardedSite(Sources(())), "192.0.2.1", free_port(socket.SOCK_DGRAM))
    with pytest.raises(OperatorError, match="one address has to be named"):
        await open_server(GuardedSite(Sources(())), "0.0.0.0", free_port(socket.SOCK_DGRAM), ipv6=False)
