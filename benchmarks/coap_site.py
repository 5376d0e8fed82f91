"""What the CoAP figures are measured on: the EMS and a bare server in a process of their own, an EMA's end here.

Ours and bare are taken in turn, one sample of each, so that whoever else uses the machine disturbs both alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap import has_ipv6  # isort: skip
import aiocoap

from benchmarks.bench_site import median, quantile, scratch
from gateway.clock import SystemClock
from gateway.config.model import EmaConfig, UpstreamConfig
from gateway.links.mir2017 import client_happenings as link
from gateway.links.mir2017 import messages as wire
from gateway.upstream.carrier import Hooks
from gateway.upstream.carriers import Ways, carrier_of
from tests.support.mosquitto import free_port

PUSH, PULL, OBSERVE = 0, 1, 2
WAIT_S = 10.0
WARM_UP = 20

Taken = list[float]


async def in_turn(
    samples: int,
    ours: Callable[[], Awaitable[float]],
    floor: Callable[[], Awaitable[float]],
    warm_up: int = WARM_UP,
) -> tuple[Taken, Taken]:
    """So many of each, one of each at a time, after ``warm_up`` that are not counted."""
    taken: tuple[Taken, Taken] = [], []
    for number in range(-warm_up, samples):
        for take, results in zip((ours, floor), taken, strict=True):
            seconds = await take()
            if number >= 0:
                results.append(seconds)
    return taken


def rows_of(name: str, rounds: list[tuple[Taken, Taken]], share: float) -> dict[str, Any]:
    """The median over the rounds of value, floor and their ratio, each of its own; the ratio's spread as a note."""
    pairs = [(quantile(ours, share) * 1e3, quantile(floor, share) * 1e3) for ours, floor in rounds]
    ratios = [ours / floor for ours, floor in pairs]
    return {
        "name": name,
        "value": median([ours for ours, _ in pairs]),
        "unit": "ms",
        "floor": median([floor for _, floor in pairs]),
        "ratio": median(ratios),
        "note": f"{min(ratios):.2f} to {max(ratios):.2f}",
    }


class Peer:
    """The child process (``coap_peer``)."""

    def __init__(self, child: asyncio.subprocess.Process, ems: int, bare: int) -> None:
        self.ems = ems
        self.bare = bare
        self.pid = child.pid
        self._child = child

    async def ask(self, verb: str) -> tuple[float, float]:
        """When the peer began, and when the message left."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{verb}\n".encode())
        began, left = (await asyncio.wait_for(self._child.stdout.readline(), 20)).split()
        return float(began), float(left)

    async def counts(self) -> dict[str, int]:
        """What EMAs said so far."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(b"counts\n")
        counts: dict[str, int] = json.loads(await asyncio.wait_for(self._child.stdout.readline(), WAIT_S))
        return counts

    async def up(self) -> None:
        assert self._child.stdout is not None
        line = await asyncio.wait_for(self._child.stdout.readline(), 20)
        if line != b"up\n":
            raise RuntimeError("the peer did not start")


@contextlib.asynccontextmanager
async def peer(size: int) -> AsyncIterator[Peer]:
    """``size``: bytes of bare answers and notifications."""
    with scratch() as directory:
        ports = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        words = [str(directory / "ems"), *map(str, ports), str(size)]
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.coap_peer",
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        try:
            ends = Peer(child, *ports)
            await ends.up()
            yield ends
        finally:
            assert child.stdin is not None
            child.stdin.close()
            try:
                await asyncio.wait_for(child.wait(), 5)
            except TimeoutError:
                child.kill()
                await child.wait()


class EmaEnd:
    """EMA 1's end of the link: the carrier with its client, without the daemon around them."""

    def __init__(self, ems: int, mode: int) -> None:
        config = UpstreamConfig(host="127.0.0.1", port=ems, protocol="coap", mode=mode, timezone="UTC")
        self.events: asyncio.Queue[float] = asyncio.Queue()
        self._up = asyncio.Event()
        self._polled: asyncio.Future[float] | None = None
        serve = ("127.0.0.2", free_port(socket.SOCK_DGRAM))
        ways = Ways(SystemClock(), random.Random(1), logging.getLogger(), coap=serve)
        self.client, carrier = carrier_of(config, EmaConfig(number=1), ways)
        self.carrier = carrier(Hooks(self._take, self._link_up, lambda: None))

    async def _link_up(self) -> None:
        self._take(self.client.connected())

    def _take(self, outputs: list[link.ClientOutput]) -> None:
        for output in outputs:
            if isinstance(output, wire.Send):
                self.carrier.post(output)
            elif isinstance(output, link.PollAnswered) and self._polled is not None:
                self._polled.set_result(time.perf_counter())
            elif isinstance(output, link.EventReceived):
                self.events.put_nowait(time.perf_counter())
            elif isinstance(output, link.SessionUp):
                self._up.set()
            elif isinstance(output, link.Refused):
                raise AssertionError(output)

    async def poll(self) -> float:
        """Seconds from the question to what the client made of the answer."""
        self._polled = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        for send in self.client.poll():
            self.carrier.post(send)
        return await self._polled - began

    async def observing(self, event: Callable[[], Awaitable[float]]) -> None:
        """Until events come as notifications; before that they are written."""
        async with asyncio.timeout(WAIT_S):
            while not self.carrier.observed:
                await event()

    @contextlib.asynccontextmanager
    async def registered(self) -> AsyncIterator[EmaEnd]:
        """Its set-up is through."""
        running = asyncio.create_task(self.carrier.run())
        await asyncio.wait_for(self._up.wait(), 10)
        try:
            yield self
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


class Bare:
    """The floor's client, as aiocoap's own guide has it."""

    def __init__(self, context: aiocoap.Context, port: int) -> None:
        self._context = context
        self._base = f"coap://127.0.0.1:{port}"
        self.notified: asyncio.Queue[float] = asyncio.Queue()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Bare]:
        transport = "udp6" if has_ipv6() else "simple6"
        context = await aiocoap.Context.create_client_context(transports=[transport])
        try:
            yield cls(context, port)
        finally:
            await context.shutdown()

    async def round_trip(self, payload: bytes) -> float:
        """Seconds of one PUT and its answer."""
        began = time.perf_counter()
        message = aiocoap.Message(code=aiocoap.PUT, uri=f"{self._base}/bare", payload=payload, content_format=0)
        await self._context.request(message).response
        return time.perf_counter() - began

    @contextlib.asynccontextmanager
    async def observing(self) -> AsyncIterator[None]:
        """Each notification's moment goes to ``notified``."""
        request = self._context.request(aiocoap.Message(code=aiocoap.GET, uri=f"{self._base}/obs", observe=0))
        await request.response
        request.observation.register_callback(
            lambda _: self.notified.put_nowait(time.perf_counter()), _suppress_deprecation=True
        )
        yield
        request.observation.cancel()
