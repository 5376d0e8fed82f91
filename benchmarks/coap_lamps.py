"""Lamps over CoAP, played by the bench: one is lit and can be commanded alone, the others are off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap import GuardedSite, Sources, open_server, put  # isort: skip
import aiocoap
import aiocoap.resource

from device_agents import protocol
from gateway.errors import TransientError
from tests.support.mosquitto import free_port

RATED_MW = 60_000
ANSWER_S = 5.0
AGAIN_S = 0.1


class Lamps:
    """``count`` of them below the EMA at 127.0.0.1:``ema``; number 1 is the one that is lit."""

    def __init__(self, contexts: list[aiocoap.Context], ports: list[int], ema: int, count: int) -> None:
        self._contexts = contexts
        self._ports = ports
        self._ema = f"127.0.0.1:{ema}"
        self._count = count
        self._seq = 0
        self.commands: asyncio.Queue[tuple[float, protocol.Setpoint]] = asyncio.Queue()

    @classmethod
    @contextlib.asynccontextmanager
    async def below(cls, ema: int, count: int) -> AsyncIterator[Lamps]:
        """The lit one has a socket of its own, so that no ``ack`` to another stands before its commands."""
        ports = [free_port(socket.SOCK_DGRAM) for _ in range(2)]
        lamps = cls([], ports, ema, count)
        try:
            for port in ports:
                lamps._contexts.append(await open_server(lamps._site(), "127.0.0.1", port))
            yield lamps
        finally:
            for context in lamps._contexts:
                await context.shutdown()

    def _site(self) -> GuardedSite:
        site = GuardedSite(Sources(()))
        site.add_resource([protocol.PATH_SETPOINT], _Path(self._commanded))
        site.add_resource([protocol.PATH_ACK], _Path(lambda _: None))
        return site

    def _commanded(self, body: bytes) -> None:
        self.commands.put_nowait((time.perf_counter(), protocol.Setpoint.decode(body)))

    async def come(self) -> None:
        """All announce themselves, again until the EMA serves, and say their state."""
        for number in range(1, self._count + 1):
            hello = protocol.Connected(
                number, "led", number, 1, "127.0.0.1", self._ports[number > 1], ("switch", "level")
            )
            await self._tell(number, protocol.PATH_CONNECTED, hello.encode())
            await self.status(number, on=number == 1)

    async def status(self, number: int, on: bool, done: int = 0) -> None:
        """One state report."""
        self._seq += 1
        mw = RATED_MW if on else 0
        state = protocol.Status(number, 1, self._seq, on=on, dimming=9, mw=mw, mwh=0, done=done)
        await self._tell(number, protocol.PATH_STATUS, state.encode())

    async def _tell(self, number: int, path: str, body: bytes) -> None:
        async with asyncio.timeout(ANSWER_S):
            while True:
                with contextlib.suppress(TransientError):
                    answer = await put(self._contexts[number > 1], self._ema, path, body, ANSWER_S)
                    if answer.code.is_successful():
                        return
                await asyncio.sleep(AGAIN_S)


class _Path(aiocoap.resource.Resource):
    def __init__(self, take: Any) -> None:
        super().__init__()
        self._take = take

    async def render_put(self, request: Any) -> Any:
        self._take(request.payload)
        return aiocoap.Message(code=aiocoap.CHANGED)
