"""The parts that run: our broker, the adapters of the field, the upstreams; each started, and ended, by its name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from gateway.assembly import Parts, field_adapters, site_broker, upstream_part

if TYPE_CHECKING:
    from gateway.config.model import Config, UpstreamConfig
    from gateway.field.base import FieldAdapter
    from gateway.field.broker import SiteBroker
    from gateway.supervisor import Supervisor
    from gateway.upstream.base import Upstream

log = logging.getLogger("smartema")

# SIGTERM to the end of the process is 2 s at most; each part has half of it to say good-bye.
GOODBYE_S = 1.0
# So long may parts take to open (a socket, lines, our broker) before the daemon goes on without them.
OPEN_S = 5.0


class Running:
    """What of ``parts`` runs under one supervisor."""

    def __init__(self, parts: Parts, supervisor: Supervisor) -> None:
        self.parts = parts
        self.supervisor = supervisor
        self.field: list[FieldAdapter] = []
        self.upstream_configs: list[UpstreamConfig] = []
        self._opening: dict[str, asyncio.Event] = {}

    def start(self, config: Config) -> None:
        """All that the configuration names. Raise ``OperatorError`` for what is missing on this machine."""
        self.start_broker(site_broker(config, self.parts))
        self.start_field(field_adapters(config, self.parts))
        journal = self.parts.journal
        for name in set(journal.readers()) - {upstream.name for upstream in config.upstream}:
            journal.drop_reader(name)
        for upstream in config.upstream:
            self.start_upstream(upstream, upstream_part(upstream, config, self.parts))

    async def opened(self, stop: asyncio.Event) -> None:
        """Until every part serves that says so, or ``stop``; what takes too long is named, and goes on by itself."""
        await asyncio.sleep(0)
        stopped = asyncio.ensure_future(stop.wait())
        opening = asyncio.ensure_future(_all_set(self._opening.values()))
        try:
            await asyncio.wait((stopped, opening), timeout=OPEN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            opening.cancel()
        if not stop.is_set():
            for name, event in self._opening.items():
                if not event.is_set():
                    log.warning("%s: not open after %g s; going on", name, OPEN_S)
        self._opening.clear()

    def start_broker(self, broker: SiteBroker | None) -> None:
        """Our own broker, where there is one."""
        self.parts.broker = broker
        if broker is not None:
            self._start_part("site broker", broker.run, broker.ready)

    def start_field(self, adapters: Iterable[FieldAdapter]) -> None:
        """One over MQTT waits for our broker."""
        for adapter in adapters:
            self.field.append(adapter)
            run: Callable[[], Awaitable[None]] = adapter.run
            if adapter.name == "mqtt" and self.parts.broker is not None:
                run = _after(self.parts.broker.ready, run)
            self._start_part(f"field {adapter.name}", run, getattr(adapter, "opened", None))

    async def end_field(self, adapter: FieldAdapter) -> None:
        """Its outputs go to their exit state first."""
        self.field.remove(adapter)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(adapter.close(), GOODBYE_S)
        await self.supervisor.stop(f"field {adapter.name}")

    def _start_part(self, name: str, run: Callable[[], Awaitable[None]], opened: asyncio.Event | None) -> None:
        """``opened`` is set while it serves; the start waits for it."""
        if self.supervisor.starting and opened is not None:
            self._opening[name] = opened
        self.supervisor.start(name, run)

    def start_upstream(self, config: UpstreamConfig, upstream: Upstream) -> None:
        """One upper side."""
        self.upstream_configs.append(config)
        self.parts.engine.upstreams.append(upstream)
        self.tell_reporter()
        self._start_part(f"upstream {config.name}", upstream.run, getattr(upstream, "opened", None))

    async def end_upstream(self, config: UpstreamConfig, upstream: Upstream) -> None:
        """It says good-bye first."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(upstream.close(), GOODBYE_S)
        await self.supervisor.stop(f"upstream {config.name}")
        self.upstream_configs.remove(config)
        self.parts.engine.upstreams.remove(upstream)

    def tell_reporter(self) -> None:
        """Who reads the reports, and whether one wants each at once."""
        reporter = self.parts.engine.reporter
        reporter.has_readers = bool(self.parts.engine.upstreams)
        reporter.at_once = any(c.mode == 4 for c in self.upstream_configs)

    async def goodbye(self) -> None:
        """Outputs to their exit state and `disconnected` upwards, side by side, each within its time."""
        goodbyes: list[Awaitable[None]] = [adapter.close() for adapter in self.field]
        goodbyes += [upstream.close() for upstream in self.parts.engine.upstreams]
        closing = [asyncio.wait_for(goodbye, GOODBYE_S) for goodbye in goodbyes]
        for outcome in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.warning("at the end: %s", outcome or type(outcome).__name__)


def _after(ready: asyncio.Event, run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def later() -> None:
        await ready.wait()
        await run()

    return later


async def _all_set(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()
