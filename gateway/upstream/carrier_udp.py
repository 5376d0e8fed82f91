"""An EMS that is told over UDP (wire reference, section 6): datagrams out at a pace, event lines in.

Cannot do: know that the EMS got anything. What is sent while it is away is lost, and counted as unacknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from gateway.clock import Clock
from gateway.config.model import UpstreamConfig
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import SessionUp
from gateway.links.mir2017.udp.client import Said, UdpClient
from gateway.links.mir2017.udp.messages import LARGEST_DATAGRAM
from gateway.transport.sources import Sources
from gateway.transport.udp import Address, UdpPort
from gateway.upstream.carrier import Hooks

# A receiver's socket holds some 250 small datagrams (212,992 bytes by default): so many go at once, then a breath.
BURST = 32
PACE_S = 0.02
# A network that is not there, a name that does not resolve: tried again after this.
AGAIN_S = 2.0
LARGEST_SITE = 20_000


class UdpCarrier:
    """The EMS at one address."""

    answers = False

    def __init__(
        self, config: UpstreamConfig, client: UdpClient, clock: Clock, hooks: Hooks, logger: logging.Logger
    ) -> None:
        self.reconnects = 0  # there is nothing to connect
        self._config = config
        self._client = client
        self._clock = clock
        self._hooks = hooks
        self._log = logger
        self._port: UdpPort | None = None
        self._not_taken = 0
        self._out: deque[Said] = deque(maxlen=LARGEST_SITE)
        self._due = asyncio.Event()

    @property
    def address(self) -> str:
        host = self._config.host
        return f"[{host}]:{self._config.port_used}" if ":" in host else f"{host}:{self._config.port_used}"

    @property
    def up(self) -> bool:
        return self._port is not None

    @property
    def state(self) -> str:
        return "up" if self.up else "down"

    @property
    def oversized(self) -> int:
        return self._not_taken + (_not_taken(self._port) if self._port is not None else 0)

    async def run(self) -> None:
        """Send and hear until cancelled. Raise ``OperatorError`` when our own port is taken."""
        found = await self._resolve()
        to = found[0]
        sources = Sources(self._config.sources or sorted({host for host, _ in found}))
        ours = self._config.bind or ("::" if ":" in to[0] else "0.0.0.0")
        port = UdpPort((ours, self._config.local_port), sources, self._received, self._log, LARGEST_DATAGRAM)
        await port.open()
        self._port = port
        try:
            await self._hooks.up()
            while True:
                await self._due.wait()
                self._due.clear()
                await self._drain(port, to)
        finally:
            self._port = None
            self._not_taken += _not_taken(port)
            self._out.clear()
            port.close()
            self._hooks.down()

    async def _resolve(self) -> list[Address]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                found = await loop.getaddrinfo(self._config.host, self._config.port_used, type=2)
                return [(str(entry[4][0]), self._config.port_used) for entry in found]
            except OSError as err:
                self._log.debug("%s: %s: %s", self._config.name, self._config.host, err)
                await self._clock.sleep(AGAIN_S)

    async def _drain(self, port: UdpPort, to: Address) -> None:
        sent = 0
        while self._out:
            said = self._out.popleft()
            if said.body:
                if not port.send(said.body, to):
                    self._out.appendleft(said)
                    await self._clock.sleep(self._clock.patience(AGAIN_S))
                    continue
                sent += 1
            if said.then is not None:
                self._hooks.take([said.then])
            if sent >= BURST:
                sent = 0
                await self._clock.sleep(self._clock.patience(PACE_S))

    def post(self, send: wire.Send) -> None:
        """Send it when its turn is."""
        if self._port is None or not isinstance(send, Said):
            return
        if isinstance(send.then, SessionUp):
            self._out.clear()  # begun anew: all that waits is said again
        self._out.append(send)
        self._due.set()

    async def publish(self, send: wire.Send) -> None:
        """The same: nothing tells when it is there."""
        self.post(send)

    def _received(self, body: bytes, _: Address) -> None:
        self._hooks.take(self._client.received(body))


def _not_taken(port: UdpPort) -> int:
    return port.oversized + port.sources.refused
