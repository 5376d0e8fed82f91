"""A whole EMS and the upper side of EMAs, each in tasks of its own: what the tests of all their wires share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.clock import SystemClock
from gateway.config.model import EmaConfig, ReportsConfig, UpstreamConfig
from gateway.transport.coap_shared import CoapHub
from gateway.upstream.carriers import Ways
from gateway.upstream.ems import EmsUpstream
from headend.ems.app import Ems
from headend.ems.settings import EmsSettings
from headend.ems.state import Delivery
from tests.gateway.upstream.peers import MemoryOutbox, SiteBelow
from tests.support.mosquitto import free_port
from tests.support.wait import until


class Below(SiteBelow):
    """A site that takes thresholds and prices."""

    def __init__(self) -> None:
        super().__init__()
        self.thresholds: list[float] = []
        self.prices: dict[str, float | None] = {}

    def priced(self, upstream: str, signal: str, price: float | None, unit: str) -> None:
        self.prices[signal] = price

    def threshold(self, watts: float, upstream: str) -> None:
        self.thresholds.append(watts)


class Pair:
    """An EMS at 127.0.0.1 and EMAs at 127.0.0.2 and on. ``broker``: the port of one; else they speak CoAP, or UDP."""

    def __init__(
        self, state: Path, profile: str = "mir2017", broker: int = 0, udp: bool = False, **keys: object
    ) -> None:
        self.profile = profile
        self.protocol = "mqtt" if broker else "udp" if udp else "coap"
        self.port = broker or free_port(socket.SOCK_DGRAM)
        ways = (
            {"broker": f"127.0.0.1:{broker}"} if broker else {"broker": "none", self.protocol: f"127.0.0.1:{self.port}"}
        )
        self.settings = EmsSettings(  # type: ignore[arg-type]
            **{**ways, "state_dir": str(state), "zone": "UTC", "duration_ms": 100, "resend_s": 0.3, **keys}
        )
        self.ems = self._ems()
        self.tasks: dict[object, asyncio.Task[None]] = {}
        self.hub = CoapHub()

    @property
    def name(self) -> str:
        """The head that serves its EMAs, as their ``protocol``."""
        return self.protocol if self.profile == "mir2017" else f"{self.protocol} {self.profile}"

    @property
    def head(self) -> Any:
        return self.ems.service.book.heads[self.name]

    def _ems(self) -> Ems:
        return Ems(self.settings, SystemClock(), random.Random(1), http=False)

    async def start_ems(self) -> None:
        self.tasks["ems"] = asyncio.ensure_future(self.ems.run())
        await self.ems.ready()
        await until(lambda: self.ems.connected)

    async def restart_ems(self) -> None:
        if "ems" in self.tasks:
            await self.end("ems")
        self.ems = self._ems()
        await self.start_ems()

    def ema(
        self, mode: int, number: int = 1, ven_id: str = "", explicit: bool = True, **keys: object
    ) -> tuple[EmsUpstream, Below, MemoryOutbox]:
        table: dict[str, object] = {"port": self.port, "protocol": self.protocol, "profile": self.profile}
        if self.protocol != "mqtt":
            table |= {"bind": f"127.0.0.{number + 1}", "local_port": self.port}
        config = UpstreamConfig(**{"host": "127.0.0.1", "mode": mode, "timezone": "UTC", **table, **keys})  # type: ignore[arg-type]
        site, outbox, clock, rng = Below(), MemoryOutbox(), SystemClock(), random.Random(number)
        upstream = EmsUpstream(
            config,
            EmaConfig(number=number, ven_id=ven_id),
            ReportsConfig(explicit=explicit),
            site,
            outbox,
            clock,
            rng,
            ways=Ways(clock, rng, logging.getLogger("test"), hub=self.hub),
        )
        self.tasks[upstream] = asyncio.ensure_future(upstream.run())
        return upstream, site, outbox

    async def end(self, part: object) -> None:
        task = self.tasks.pop(part)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def event(self, value: float = 800, targets: object = "all") -> int:
        now = time.time()
        return (await self.ems.create_event(value, now, now + 600, targets)).id  # type: ignore[arg-type]

    def delivery(self, event_id: int, ema: str = "gw/1") -> Delivery:
        """How the event fares at an EMA."""
        return self.ems.service.book.events[event_id].deliveries[ema]

    async def close(self) -> None:
        for part in list(self.tasks):
            await self.end(part)


def up(upstream: EmsUpstream) -> Callable[[], bool]:
    """Is the session with the EMS set up."""
    return lambda: upstream.status()["state"] == "up"
