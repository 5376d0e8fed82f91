"""The other end of the CoAP figures, a process of its own: the EMS itself, and a bare aiocoap server beside it.

Asked by lines on its standard input, it answers in lines. ``push`` tells EMA 1 of an event, without the EMS's book;
``registered`` waits for that EMA, ``event`` makes one that it is to hold, ``cancel`` ends it; ``notify`` lets the bare
server notify its observers. Each answer says when that began and when the message left, by the monotonic clock that
all processes share. ``counts``: what EMAs said, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

# First: it sets what aiocoap reads when it is imported.
from gateway.transport.coap import has_ipv6  # isort: skip
import aiocoap
import aiocoap.resource

from gateway.clock import SystemClock
from gateway.settled import settle
from headend.ems.app import Ems
from headend.ems.head import EventBody
from headend.ems.settings import EmsSettings

EMA = "gw/1"
EVENT_W = 5.0
HOUR_S = 3600
AGAIN_S = 0.02


class BareEcho(aiocoap.resource.Resource):
    """PUT: an answer of so many bytes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self._answer = answer

    async def render_put(self, request: Any) -> Any:
        return aiocoap.Message(code=aiocoap.CONTENT, payload=self._answer, content_format=0)


class BareObserved(aiocoap.resource.ObservableResource):
    """Each ``notify`` is one notification of so many bytes."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self._payload = payload

    async def render_get(self, request: Any) -> Any:
        return aiocoap.Message(code=aiocoap.CONTENT, payload=self._payload, content_format=0)

    def notify(self) -> None:
        self.updated_state(aiocoap.Message(code=aiocoap.CONTENT, payload=self._payload, content_format=0))


async def bare_server(port: int, payload: bytes) -> tuple[aiocoap.Context, BareObserved]:
    """``/bare`` and ``/obs`` on 127.0.0.1, as aiocoap's own guide has it."""
    site = aiocoap.resource.Site()
    observed = BareObserved(payload)
    site.add_resource(["bare"], BareEcho(payload))
    site.add_resource(["obs"], observed)
    bind = "::ffff:127.0.0.1" if has_ipv6() else "127.0.0.1"
    transport = "udp6" if has_ipv6() else "simplesocketserver"
    context = await aiocoap.Context.create_server_context(site, bind=(bind, port), transports=[transport])
    return context, observed


class Peer:
    """The EMS with the bare server beside it, and what can be asked of them."""

    def __init__(self, state: Path, ems_port: int, bare_port: int) -> None:
        settings = EmsSettings(broker="none", coap=f"127.0.0.1:{ems_port}", state_dir=str(state), zone="UTC")
        self._ems = Ems(settings, SystemClock(), random.Random(1), http=False)
        self._head = next(head for head in self._ems.heads if head.name == "coap")
        self._push = self._head.push
        self._head.push = self._pushed  # type: ignore[method-assign]
        self._polled = self._ems.service.polled
        self._ems.service.polled = self._counted  # type: ignore[method-assign]
        self._polls = 0
        self._left = 0.0
        self._pushes = 0
        self._event = 0
        self._bare_port = bare_port

    def _pushed(self, ema: str, event: EventBody) -> None:
        self._left = time.perf_counter()
        self._push(ema, event)

    def _counted(self, name: str, protocol: str) -> None:
        self._polls += 1
        self._polled(name, protocol)

    async def do(self, verb: bytes) -> None:
        now = time.time()
        if verb == b"push":
            self._pushes += 1
            start = now // 60 * 60
            self._pushed(EMA, EventBody(self._pushes, 0, start, start + HOUR_S, EVENT_W))
        elif verb == b"event":
            self._event = (await self._ems.create_event(EVENT_W, now, now + HOUR_S, [EMA])).id
        elif verb == b"cancel":
            await self._ems.cancel_event(self._event)
        elif verb == b"registered":
            while not ((ema := self._ems.service.book.emas.get(EMA)) and ema.connected):
                await asyncio.sleep(AGAIN_S)
        elif verb == b"notify":
            self._left = time.perf_counter()
            self._observed.notify()

    def _counts(self) -> dict[str, int]:
        emas = self._ems.service.book.emas.values()
        return {
            "polls": self._polls,
            "reports": sum(ema.reports for ema in emas),
            "duplicates": sum(ema.duplicates for ema in emas),
            "connected": sum(ema.connected for ema in emas),
        }

    async def run(self, size: int) -> None:
        """Until the standard input ends."""
        serving = asyncio.ensure_future(self._ems.run())
        await self._ems.ready()
        context, self._observed = await bare_server(self._bare_port, b"x" * size)
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while not self._head.up:
            await asyncio.sleep(AGAIN_S)
        settle()  # as the command line does
        print("up", flush=True)
        while line := (await lines.readline()).strip():
            if line == b"counts":
                print(json.dumps(self._counts()), flush=True)
                continue
            began = time.perf_counter()
            await self.do(line)
            # What was begun leaves before the answer is written.
            await asyncio.sleep(0)
            print(f"{began!r} {self._left!r}", flush=True)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await context.shutdown()


def main() -> None:
    """State folder, the EMS's port, the bare server's, bytes of its answers and notifications."""
    logging.basicConfig(level=logging.ERROR)
    state, ems_port, bare_port, size = sys.argv[1:]
    asyncio.run(Peer(Path(state), int(ems_port), int(bare_port)).run(int(size)))


if __name__ == "__main__":
    main()
