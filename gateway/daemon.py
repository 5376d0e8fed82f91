"""The EMA as one process: parts made from the configuration, started, renewed on SIGHUP, stopped within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from gateway.assembly import LINKS, Parts, field_adapters, links_of, site_broker, upstream_part
from gateway.clock import Clock
from gateway.config.model import Config, ControlConfig, DeviceConfig, UpstreamConfig
from gateway.engine import Engine
from gateway.errors import OperatorError, SmartemaError
from gateway.field.base import FieldAdapter
from gateway.journal import Journal
from gateway.notify import Notifier
from gateway.socket_server import SocketServer
from gateway.supervisor import Supervisor
from gateway.upstream.base import Upstream
from gateway.verbs import Verbs

if TYPE_CHECKING:
    from gateway.field.devices_coap import CoapDevices
    from gateway.field.devices_mqtt import MqttDevices
    from hardware.gpio import Pins

log = logging.getLogger("smartema")

# SIGTERM to the end of the process is 2 s at most; each part has half of it to say good-bye.
GOODBYE_S = 1.0
# So long may parts take to open (a socket, lines, our broker) before the daemon goes on without them.
OPEN_S = 5.0


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
        self._serve_socket = serve_socket
        state_dir = Path(config.ema.state_dir)
        outbox_dir = Path(config.ema.outbox_dir) if config.ema.outbox_dir else state_dir
        self.journal = Journal.open(state_dir, outbox_dir, config.journal, clock)
        self.engine = Engine(config, self.journal, clock, rng)
        self.parts = Parts(self.engine, clock, rng, self.journal, state_dir, plants or {}, pins)
        self.field: list[FieldAdapter] = []
        self._opening: dict[str, asyncio.Event] = {}
        self._upstream_configs: list[UpstreamConfig] = []
        self._supervisor: Supervisor | None = None

    # --- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until ``stop``. Raise ``OperatorError`` for what keeps a part from starting at all."""
        try:
            async with asyncio.TaskGroup() as group:
                self._supervisor = Supervisor(group, self.clock, self._rng)
                await self._start(self._supervisor)
                await self._opened()
                self._supervisor.starting = False
                self._notifier.ready(f"{self.config.ema.name} runs")
                self.ready.set()
                log.info("%s runs, start %d", self.config.ema.name, self.journal.boot)
                await self._until_stopped(self._supervisor)
                self._notifier.stopping()
                self.engine.end()
                await self._goodbye()
                await self._supervisor.stop_all()
        except* SmartemaError as errors:
            raise errors.exceptions[0] from None
        finally:
            with contextlib.suppress(SmartemaError):
                await self.journal.close()

    def stop(self) -> None:
        """Ask for a clean end."""
        self._stop.set()

    def hangup(self) -> None:
        """Ask for the configuration to be read again."""
        self._hup.set()

    async def _start(self, supervisor: Supervisor) -> None:
        if self._serve_socket:
            server = SocketServer(self._socket_path(), Verbs(self).handle)
            supervisor.start("control socket", server.run)
        self._start_broker(supervisor)
        for adapter in field_adapters(self.config, self.parts):
            self._start_field(supervisor, adapter)
        for name in set(self.journal.readers()) - {upstream.name for upstream in self.config.upstream}:
            self.journal.drop_reader(name)
        for upstream in self.config.upstream:
            self._start_upstream(supervisor, upstream, upstream_part(upstream, self.config, self.parts))
        supervisor.start("control", self.engine.run)
        if self._notifier.watchdog_s is not None:
            supervisor.start("watchdog", self._feed_watchdog)

    async def _opened(self) -> None:
        """Until every part serves that says so; what takes too long is named, and goes on by itself."""
        await asyncio.sleep(0)
        stop = asyncio.ensure_future(self._stop.wait())
        opening = asyncio.ensure_future(_all_set(self._opening.values()))
        try:
            await asyncio.wait((stop, opening), timeout=OPEN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            opening.cancel()
        if not self._stop.is_set():
            for name, event in self._opening.items():
                if not event.is_set():
                    log.warning("%s: not open after %g s; going on", name, OPEN_S)
        self._opening.clear()

    def _socket_path(self) -> Path:
        ema = self.config.ema
        return Path(ema.socket) if ema.socket else Path(ema.state_dir) / "smartema.sock"

    def _start_broker(self, supervisor: Supervisor) -> None:
        self.parts.broker = site_broker(self.config, self.parts)
        if self.parts.broker is not None:
            self._start_part(supervisor, "site broker", self.parts.broker.run, self.parts.broker.ready)

    def _start_field(self, supervisor: Supervisor, adapter: FieldAdapter) -> None:
        self.field.append(adapter)
        broker = self.parts.broker if adapter.name == "mqtt" else None

        async def run() -> None:
            if broker is not None:
                await broker.ready.wait()
            await adapter.run()

        opened = getattr(adapter, "opened", None)
        self._start_part(supervisor, f"field {adapter.name}", run, opened)

    def _start_part(
        self, supervisor: Supervisor, name: str, run: Callable[[], Awaitable[None]], opened: asyncio.Event | None
    ) -> None:
        """``opened`` is set while it serves; the start waits for it."""
        if supervisor.starting and opened is not None:
            self._opening[name] = opened
        supervisor.start(name, run)

    def _start_upstream(self, supervisor: Supervisor, config: UpstreamConfig, upstream: Upstream) -> None:
        self._upstream_configs.append(config)
        self.engine.upstreams.append(upstream)
        self._tell_reporter()
        supervisor.start(f"upstream {config.name}", upstream.run)

    def _tell_reporter(self) -> None:
        self.engine.reporter.has_readers = bool(self.engine.upstreams)
        self.engine.reporter.at_once = any(c.mode == 4 for c in self._upstream_configs)

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

    async def _until_stopped(self, supervisor: Supervisor) -> None:
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            while not self._stop.is_set():
                hup = asyncio.ensure_future(self._hup.wait())
                await asyncio.wait((stop, hup), return_when=asyncio.FIRST_COMPLETED)
                hup.cancel()
                if self._hup.is_set() and not self._stop.is_set():
                    self._hup.clear()
                    await self._unless_stopped(stop, self._renew(supervisor))
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

    async def _goodbye(self) -> None:
        """Outputs to their exit state and `disconnected` upwards, side by side, each within its time."""
        goodbyes: list[Awaitable[None]] = [adapter.close() for adapter in self.field]
        goodbyes += [upstream.close() for upstream in self.engine.upstreams]
        closing = [asyncio.wait_for(goodbye, GOODBYE_S) for goodbye in goodbyes]
        for outcome in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.warning("at the end: %s", outcome or type(outcome).__name__)

    # --- SIGHUP ----------------------------------------------------------------------------------------------

    async def _renew(self, supervisor: Supervisor) -> None:
        """Valid: applied, and no link that did not change is dropped. Invalid: the old one runs on."""
        if self._reload is None:
            return
        self._notifier.reloading(self.clock.monotonic())
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
        supervisor = self._supervisor
        assert supervisor is not None
        old = self.config
        if new.ema != old.ema and replace(new.ema, log_level=old.ema.log_level) != old.ema:
            raise OperatorError("[ema]: number, names and directories change only by a restart")
        if new.journal != old.journal:
            raise OperatorError("[journal]: changes only by a restart")
        # What cannot be made (a secret that cannot be read) is found before anything of the old is stopped.
        made = {c.name: upstream_part(c, new, self.parts) for c in new.upstream if c not in self._upstream_configs}
        self.config = new
        await self._renew_field(supervisor, old, new)
        self.engine.reconfigure(new)
        await self._renew_upstreams(supervisor, new, made)
        logging.getLogger("smartema").setLevel(new.ema.log_level.upper())

    async def _renew_field(self, supervisor: Supervisor, old: Config, new: Config) -> None:
        """Tell an adapter of its other devices. Restarted is one whose own table changed, and GPIO, which takes its
        pins as a whole: its outputs go through their exit state."""

        def devices(config: Config, link: str) -> object:
            return tuple(d for d in config.device if d.link == link), _of_devices(config.control)

        gone = {d.number for d in old.device} - {d.number for d in new.device}
        tables = {"mqtt": old.site_broker != new.site_broker, "coap": old.site_coap != new.site_coap}
        wanted = links_of(new)
        told: list[MqttDevices | CoapDevices] = []
        changed = []
        for link in LINKS:
            if not tables.get(link, False) and devices(old, link) == devices(new, link):
                continue
            adapter = next((a for a in self.field if a.name == link), None)
            if adapter is None or tables.get(link, True) or link not in wanted:
                changed.append(link)
            else:
                told.append(cast("MqttDevices | CoapDevices", adapter))
        broker = self.parts.broker
        if broker is not None and old.site_broker == new.site_broker and devices(old, "mqtt") != devices(new, "mqtt"):
            broker.reload(new.device)
        for ended in [a for a in self.field if a.name in changed]:
            self.field.remove(ended)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.close(), GOODBYE_S)
            await supervisor.stop(f"field {ended.name}")
        if old.site_broker != new.site_broker or (broker is None and "mqtt" in changed):
            await supervisor.stop("site broker")
            self._start_broker(supervisor)
        for number in gone:
            self.engine.forget(number, "taken out of the configuration")
        for adapter in told:
            adapter.configure(new.device, new.control)
        for made in field_adapters(new, self.parts, only=changed):
            self._start_field(supervisor, made)

    async def _renew_upstreams(self, supervisor: Supervisor, new: Config, made: dict[str, Upstream]) -> None:
        for config, upstream in list(zip(self._upstream_configs, self.engine.upstreams, strict=True)):
            if config not in new.upstream:
                await self._end_upstream(supervisor, config, upstream)
                if config.name not in {u.name for u in new.upstream}:
                    self.journal.drop_reader(config.name)
        for config in new.upstream:
            if config not in self._upstream_configs:
                self._start_upstream(supervisor, config, made[config.name])
        self._tell_reporter()

    async def _end_upstream(self, supervisor: Supervisor, config: UpstreamConfig, upstream: Upstream) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(upstream.close(), GOODBYE_S)
        await supervisor.stop(f"upstream {config.name}")
        self._upstream_configs.remove(config)
        self.engine.upstreams.remove(upstream)

    # --- what the menu asks ----------------------------------------------------------------------------------

    async def set_mode(self, name: str | None, mode: int) -> str:
        """Another DR mode for one upstream, until the next start (menu 0)."""
        chosen = [c for c in self.config.upstream if name is None or c.name == name]
        if not chosen:
            raise OperatorError(f"upstream: no upstream {name or 'is configured'}")
        upstreams = tuple(replace(c, mode=mode) if c in chosen else c for c in self.config.upstream)
        await self.apply(replace(self.config, upstream=upstreams))
        return f"DR mode {mode} for {', '.join(c.name for c in chosen)}"

    async def connect_device(self, request: dict[str, Any]) -> str:
        """Take in a device that does not announce itself (menu 7), until the next start."""
        device = device_of(request)
        if any(d.number == device.number for d in self.config.device):
            raise OperatorError(f"number: {device.number} is configured already")
        await self.apply(replace(self.config, device=(*self.config.device, device)))
        return f"device {device.number} ({device.type}, {device.link}) is taken in"

    def protocol_of(self, name: str) -> str | None:
        """How an upstream is reached."""
        return next((c.protocol for c in self._upstream_configs if c.name == name), None)

    def outbox_status(self) -> dict[str, int]:
        """Records not acknowledged, and lost, over all upstreams (the worst of them)."""
        readers = [self.journal.reader(c.name) for c in self._upstream_configs]
        return {
            "waiting": max((r.waiting() for r in readers), default=0),
            "lost": sum(r.lost() for r in readers),
        }

    def restarts(self) -> dict[str, int]:
        """How often each part failed and was started again."""
        return self._supervisor.restarts if self._supervisor is not None else {}


async def _all_set(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _of_devices(control: ControlConfig) -> tuple[float, ...]:
    """What of ``[control]`` stands in a device's description."""
    return (control.lease_s, control.latency_s, control.min_on_led_s, control.min_on_ev_s, control.min_on_relay_s)


def device_of(request: dict[str, Any]) -> DeviceConfig:
    """A ``[[device]]`` made of a menu's answers; raise ``OperatorError`` that names what is wrong."""
    choices = {"type": ("led", "pv", "ess", "ev"), "link": ("mqtt", "coap")}
    for name, allowed in choices.items():
        if request.get(name) not in allowed:
            raise OperatorError(f"{name}: {request.get(name)!r} is not one of {', '.join(allowed)}")
    number, priority = (_whole(request, name, default) for name, default in (("number", None), ("priority", 0)))
    address = request.get("address") or ""
    if not isinstance(address, str):
        raise OperatorError(f"address: {address!r} is not an address")
    return DeviceConfig(
        number=number,
        type=request["type"],
        link=request["link"],
        priority=priority,
        address=address,
        port=_port(request) if address else 0,
    )


def _port(request: dict[str, Any]) -> int:
    port = _whole(request, "port", 0)
    if port > 65535:
        raise OperatorError(f"port: {port} is not a port, 1 to 65535")
    return port


def _whole(request: dict[str, Any], name: str, default: int | None) -> int:
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 99999:
        raise OperatorError(f"{name}: {value!r} is not a whole number from 0 to 99999")
    return value
