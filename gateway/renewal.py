"""Another configuration for a running daemon: no link is dropped that did not change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from gateway.assembly import LINKS, links_of, upstream_part
from gateway.config.model import Config, ControlConfig
from gateway.errors import OperatorError
from gateway.running import Running

if TYPE_CHECKING:
    from gateway.field.devices_coap import CoapDevices
    from gateway.field.devices_mqtt import MqttDevices


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
        # What cannot be made (a secret that cannot be read) is found before anything of the old is stopped.
        self._made = {
            c.name: upstream_part(c, new, running.parts) for c in new.upstream if c not in running.upstream_configs
        }

    async def field(self) -> None:
        """Tell an adapter of its other devices. Restarted is one whose own table changed, and GPIO, which takes its
        pins as a whole: its outputs go through their exit state."""
        running, old, new = self._running, self._old, self._new
        gone = {d.number for d in old.device} - {d.number for d in new.device}
        tables = {"mqtt": old.site_broker != new.site_broker, "coap": old.site_coap != new.site_coap}
        wanted = links_of(new)
        told: list[MqttDevices | CoapDevices] = []
        changed = []
        for link in LINKS:
            if not tables.get(link, False) and _devices(old, link) == _devices(new, link):
                continue
            adapter = next((a for a in running.field if a.name == link), None)
            if adapter is None or tables.get(link, True) or link not in wanted:
                changed.append(link)
            else:
                told.append(cast("MqttDevices | CoapDevices", adapter))
        broker = running.parts.broker
        same_broker = old.site_broker == new.site_broker
        if broker is not None and same_broker and _devices(old, "mqtt") != _devices(new, "mqtt"):
            broker.reload(new.device)
        for ended in [a for a in running.field if a.name in changed]:
            await running.end_field(ended)
        if not same_broker or (broker is None and "mqtt" in changed):
            await running.supervisor.stop("site broker")
            running.start_broker(new)
        for number in gone:
            running.parts.engine.forget(number, "taken out of the configuration")
        for adapter in told:
            adapter.configure(new.device, new.control)
        running.start_field(new, only=changed)

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


def _devices(config: Config, link: str) -> object:
    """What an adapter's devices are made of."""
    return tuple(d for d in config.device if d.link == link), _of_devices(config.control)


def _of_devices(control: ControlConfig) -> tuple[float, ...]:
    """What of ``[control]`` stands in a device's description."""
    return (control.lease_s, control.latency_s, control.min_on_led_s, control.min_on_ev_s, control.min_on_relay_s)
