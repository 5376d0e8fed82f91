"""Another configuration for a running daemon: no link is dropped that did not change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from gateway.assembly import LINKS, emas_on_broker, field_adapters, links_of, site_broker, upstream_part
from gateway.config.model import Config, ControlConfig
from gateway.errors import OperatorError
from gateway.reporting import nobody_below
from gateway.running import Running

if TYPE_CHECKING:
    from gateway.field.devices_coap import CoapDevices
    from gateway.field.devices_mqtt import MqttDevices
    from gateway.field.emas_below import EmasBelow
    from gateway.field.gpio import GpioDevices

    Renewable = MqttDevices | CoapDevices | GpioDevices
    Told = Renewable | EmasBelow


class Renewal:
    """From ``old`` to ``new``. Raise ``OperatorError`` for what needs a restart, before anything is stopped."""

    def __init__(self, running: Running, old: Config, new: Config) -> None:
        if new.ema != old.ema and replace(new.ema, log_level=old.ema.log_level) != old.ema:
            raise OperatorError("[ema]: number, names and directories change only by a restart")
        if new.journal != old.journal:
            raise OperatorError("[journal]: changes only by a restart")
        self._running = running
        self._old = old
        self._new = new
        changed = [
            link
            for link in LINKS
            if _table(old, link) != _table(new, link) or _devices(old, link) != _devices(new, link)
        ]
        runs = {adapter.name: adapter for adapter in running.field}
        wanted = links_of(new)
        # Told is an adapter that goes on; all others of these are ended, and made anew where they are wanted.
        self._told = [
            cast("Told", runs[link])
            for link in changed
            if link in runs and link in wanted and _table(old, link) == _table(new, link)
        ]
        self._ended = [runs[link] for link in changed if link in runs and runs[link] not in self._told]
        # What cannot be made (a secret that cannot be read) is found before anything of the old is stopped.
        self._made = {
            c.name: upstream_part(c, new, running.parts) for c in new.upstream if c not in running.upstream_configs
        }
        self._broker = running.parts.broker
        if "mqtt" in changed or "emas" in changed:
            fresh = site_broker(new, running.parts)
            if fresh is None or self._broker is None or old.site_broker != new.site_broker:
                if fresh is not None and (self._broker is None or old.site_broker.port != new.site_broker.port):
                    fresh.check_port()
                self._broker = fresh
        told = {adapter.name for adapter in self._told}
        self._adapters = field_adapters(
            new, replace(running.parts, broker=self._broker), [link for link in changed if link not in told]
        )

    async def field(self) -> None:
        """Tell an adapter of its other devices; restarted is one whose own table changed."""
        running, old, new = self._running, self._old, self._new
        # Pins come first: only there something may still be missing, and then all stays as it was.
        self._tell("gpio")
        broker = running.parts.broker
        if broker is not None and broker is self._broker and _accounts(old) != _accounts(new):
            broker.reload(new.device, emas_on_broker(new))
        for ended in self._ended:
            await running.end_field(ended)
        if broker is not self._broker:
            await running.supervisor.stop("site broker")
            running.start_broker(self._broker)
        for number in set(old.named) - set(new.named):
            running.parts.engine.forget(number, "taken out of the configuration")
        if "emas" not in links_of(new):
            running.parts.engine.reporter.below = nobody_below
        self._tell("mqtt", "coap", "emas")
        running.start_field(self._adapters)

    def _tell(self, *links: str) -> None:
        for adapter in self._told:
            if adapter.name in links:
                self._configure(adapter)

    def _configure(self, adapter: Told) -> None:
        new = self._new
        if adapter.name == "emas":
            cast("EmasBelow", adapter).configure(new.emas_below, new.ema_below, new.control)
        else:
            cast("Renewable", adapter).configure(new.device, new.control)

    async def upstreams(self) -> None:
        """End what is no longer so, start what is new."""
        running, new = self._running, self._new
        for config, upstream in list(zip(running.upstream_configs, running.parts.engine.upstreams, strict=True)):
            if config not in new.upstream:
                await running.end_upstream(config, upstream)
                if config.name not in {u.name for u in new.upstream}:
                    running.parts.journal.drop_reader(config.name)
        for config in new.upstream:
            if config not in running.upstream_configs:
                running.start_upstream(config, self._made[config.name])
        running.tell_reporter()


def _table(config: Config, link: str) -> object:
    """An adapter's own table."""
    if link == "emas":
        table = config.emas_below
        here = config.site_broker if table.mqtt else None, config.site_coap if table.coap else None
        return table.mqtt, table.coap, table.bind, table.port, table.sources, table.timezone, table.poll_s, here
    return {"mqtt": config.site_broker, "coap": config.site_coap}.get(link)


def _devices(config: Config, link: str) -> object:
    """What an adapter's devices are made of."""
    if link == "emas":
        control = config.control
        return config.ema_below, config.emas_below, control.lease_s, control.stale_after_s
    return tuple(d for d in config.device if d.link == link), _of_devices(config.control)


def _accounts(config: Config) -> object:
    """What our own broker's accounts are made of."""
    return _devices(config, "mqtt"), emas_on_broker(config)


def _of_devices(control: ControlConfig) -> tuple[float, ...]:
    """What of ``[control]`` stands in a device's description."""
    return (control.lease_s, control.latency_s, control.min_on_led_s, control.min_on_ev_s, control.min_on_relay_s)
