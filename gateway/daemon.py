"""The EMA as one process: parts made from the configuration, started, renewed on SIGHUP, stopped within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gateway.assembly import Parts
from gateway.clock import Clock, systemd_monotonic
from gateway.engine import Engine
from gateway.errors import OperatorError, SmartemaError
from gateway.journal import Journal
from gateway.journal.journal import CLOSE_S
from gateway.notify import Notifier
from gateway.running import Running
from gateway.socket_server import SocketServer
from gateway.supervisor import Supervisor

if TYPE_CHECKING:
    from gateway.config.model import Config, UpstreamConfig
    from gateway.field.base import FieldAdapter
    from gateway.verbs import Verbs
    from hardware.gpio import Pins

log = logging.getLogger("smartema")

# SIGTERM to the end of the process is 2 s at most; what the good-byes leave of it is the journal's.
END_S = 1.7


class Daemon:
    """One EMA. ``reload`` gives the new configuration when asked.

    ``plants`` are twins behind GPIO in a demo, ``pins`` its mock pins.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        rng: random.Random,
        notifier: Notifier | None = None,
        reload: Callable[[], Config] | None = None,
        plants: Mapping[int, object] | None = None,
        pins: Pins | None = None,
        serve_socket: bool = True,
    ) -> None:
        self.config = config
        self.clock = clock
        self.started = clock.monotonic()
        self.ready = asyncio.Event()
        self._rng = rng
        self._notifier = notifier or Notifier({})
        self._reload = reload
        self._stop = asyncio.Event()
        self._hup = asyncio.Event()
        # SIGHUP and menus may come while another configuration is being taken.
        self._renewing = asyncio.Lock()
        self._serve_socket = serve_socket
        state_dir = Path(config.ema.state_dir)
        outbox_dir = Path(config.ema.outbox_dir) if config.ema.outbox_dir else state_dir
        self.journal = Journal.open(state_dir, outbox_dir, config.journal, clock)
        self.engine = Engine(config, self.journal, clock, rng)
        self.parts = Parts(self.engine, clock, rng, self.journal, state_dir, plants or {}, pins)
        self._running: Running | None = None
        self._verbs: Verbs | None = None

    # --- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until ``stop``. Raise ``OperatorError`` for what keeps a part from starting at all."""
        loop = asyncio.get_running_loop()
        end_by = 0.0
        try:
            async with asyncio.TaskGroup() as group:
                supervisor = Supervisor(group, self.clock, self._rng)
                self._running = running = Running(self.parts, supervisor)
                self._start(running)
                await running.opened(self._stop)
                supervisor.starting = False
                self._notifier.ready(f"{self.config.ema.name} runs")
                self.ready.set()
                log.info("%s runs, start %d", self.config.ema.name, self.journal.boot)
                await self._until_stopped()
                self._notifier.stopping()
                end_by = loop.time() + END_S
                self.engine.end()
                await running.goodbye()
                await supervisor.stop_all()
        except* SmartemaError as errors:
            raise errors.exceptions[0] from None
        finally:
            with contextlib.suppress(SmartemaError):
                await self.journal.close(max(end_by - loop.time(), CLOSE_S))

    def stop(self) -> None:
        """Ask for a clean end."""
        self._stop.set()

    def hangup(self) -> None:
        """Ask for the configuration to be read again."""
        self._hup.set()

    def _start(self, running: Running) -> None:
        supervisor = running.supervisor
        if self._serve_socket:
            server = SocketServer(self._socket_path(), self._verb)
            supervisor.start("control socket", server.run)
        running.start(self.config)
        supervisor.start("control", self.engine.run)
        if self._notifier.watchdog_s is not None:
            supervisor.start("watchdog", self._feed_watchdog)

    async def _verb(self, request: dict[str, Any]) -> Any:
        """What is asked over the socket; most of a daemon's life nobody asks, so the verbs are imported then."""
        if self._verbs is None:
            from gateway.verbs import Verbs

            self._verbs = Verbs(self)
        return await self._verbs.handle(request)

    def _socket_path(self) -> Path:
        ema = self.config.ema
        return Path(ema.socket) if ema.socket else Path(ema.state_dir) / "smartema.sock"

    async def _feed_watchdog(self) -> None:
        """Alive means that the loop turns and that control answers when it is woken; idle it may sleep for long."""
        every = self._notifier.watchdog_s
        assert every is not None
        while True:
            before = self.engine.turns
            self.engine.wake()
            await self.clock.sleep(every)
            if self.engine.turns != before:
                self._notifier.alive()

    async def _until_stopped(self) -> None:
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            while not self._stop.is_set():
                hup = asyncio.ensure_future(self._hup.wait())
                await asyncio.wait((stop, hup), return_when=asyncio.FIRST_COMPLETED)
                hup.cancel()
                if self._hup.is_set() and not self._stop.is_set():
                    self._hup.clear()
                    await self._unless_stopped(stop, self._renew())
        finally:
            stop.cancel()

    async def _unless_stopped(self, stop: asyncio.Future[Literal[True]], work: Coroutine[Any, Any, None]) -> None:
        """A stop does not wait for parts that are being changed."""
        task = asyncio.ensure_future(work)
        await asyncio.wait((stop, task), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    # --- SIGHUP ----------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Valid: applied, and no link that did not change is dropped. Invalid: the old one runs on."""
        if self._reload is None:
            return
        self._notifier.reloading(systemd_monotonic())
        try:
            new = self._reload()
            await self.apply(new)
            log.info("configuration read again")
        except OperatorError as err:
            for line in str(err).splitlines():
                log.error("configuration not taken, the old one runs on: %s", line)
        self._notifier.ready(f"{self.config.ema.name} runs")

    async def apply(self, new: Config) -> None:
        """Take a new configuration into the running daemon. Raise ``OperatorError`` for what needs a restart."""
        async with self._renewing:
            await self._apply(new)

    async def _apply(self, new: Config) -> None:
        from gateway.renewal import Renewal

        assert self._running is not None
        renewal = Renewal(self._running, self.config, new)
        await renewal.field()
        self.config = new
        self.engine.reconfigure(new)
        await renewal.upstreams()
        logging.getLogger("smartema").setLevel(new.ema.log_level.upper())

    # --- what the menu asks ----------------------------------------------------------------------------------

    async def set_mode(self, name: str | None, mode: int) -> str:
        """Another DR mode for one upstream, until the next start (menu 0)."""
        async with self._renewing:
            chosen = [c for c in self.config.upstream if name is None or c.name == name]
            if not chosen:
                raise OperatorError(f"upstream: no upstream {name or 'is configured'}")
            for wrong in (c for c in chosen if mode not in c.modes):
                known = ", ".join(map(str, wrong.modes))
                raise OperatorError(
                    f"mode: {mode} is no mode of {wrong.name} ({wrong.protocol}); choose one of {known}"
                )
            upstreams = tuple(replace(c, mode=mode) if c in chosen else c for c in self.config.upstream)
            await self._apply(replace(self.config, upstream=upstreams))
        return f"DR mode {mode} for {', '.join(c.name for c in chosen)}"

    async def connect_device(self, request: dict[str, Any]) -> str:
        """Take in a device that does not announce itself (menu 7), until the next start."""
        from gateway.menu_device import device_of

        device = device_of(request)
        async with self._renewing:
            if any(d.number == device.number for d in self.config.device):
                raise OperatorError(f"number: {device.number} is configured already")
            await self._apply(replace(self.config, device=(*self.config.device, device)))
        return f"device {device.number} ({device.type}, {device.link}) is taken in"

    def start_part(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """A part beside those of the configuration, until ``stop_part`` or the end."""
        assert self._running is not None
        self._running.supervisor.start(name, run)

    async def stop_part(self, name: str) -> None:
        """Cancel it, and wait until it has ended."""
        assert self._running is not None
        await self._running.supervisor.stop(name)

    @property
    def field(self) -> list[FieldAdapter]:
        """The adapters that run."""
        return self._running.field if self._running is not None else []

    @property
    def _upstreams(self) -> list[UpstreamConfig]:
        return self._running.upstream_configs if self._running is not None else []

    def protocol_of(self, name: str) -> str | None:
        """How an upstream is reached."""
        return next((c.protocol for c in self._upstreams if c.name == name), None)

    def outbox_status(self) -> dict[str, int]:
        """Records not acknowledged, and lost, over all upstreams (the worst of them)."""
        readers = [self.journal.reader(c.name) for c in self._upstreams]
        return {
            "waiting": max((r.waiting() for r in readers), default=0),
            "lost": sum(r.lost() for r in readers),
        }

    def restarts(self) -> dict[str, int]:
        """How often each part failed and was started again."""
        return self._running.supervisor.restarts if self._running is not None else {}
