"""Makes the parts that a configuration names; a part's library is imported only then (docs/architecture.md, rule 9)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.record import slim

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config.model import Config, EmaBelowConfig, UpstreamConfig
    from gateway.engine import Engine
    from gateway.field.base import FieldAdapter
    from gateway.field.broker import SiteBroker
    from gateway.journal import Journal
    from gateway.transport.coap_shared import CoapHub
    from gateway.transport.mqtt import MqttSettings
    from gateway.upstream.base import Upstream
    from hardware.gpio import Pins

LINKS = ("mqtt", "coap", "gpio", "emas")


@slim(slots=True)
class Parts:
    """What every part is made with; ``broker`` is our own mosquitto, where we run one."""

    engine: Engine
    clock: Clock
    rng: random.Random
    journal: Journal
    state_dir: Path
    plants: Mapping[int, object]
    pins: Pins | None
    broker: SiteBroker | None = field(default=None)
    coap: CoapHub | None = field(default=None)

    def coap_hub(self) -> CoapHub:
        """The CoAP servers of this daemon; the library is imported by the first part that serves."""
        if self.coap is None:
            from gateway.transport.coap_shared import CoapHub

            self.coap = CoapHub()
        return self.coap

    def status(self) -> dict[str, object] | None:
        """Our own broker's, where we run one."""
        return {"name": "site broker", **self.broker.status()} if self.broker is not None else None


def secret(path: str) -> str | None:
    """What a ``password_file`` holds; None where none is named. Raise ``OperatorError``."""
    if not path:
        return None
    from gateway.field.broker_files import read_secret

    return read_secret(Path(path))


def site_broker(config: Config, parts: Parts) -> SiteBroker | None:
    """Our own mosquitto, checked; None where nobody needs one or a broker is named. Raise ``OperatorError``."""
    if config.site_broker.host or not config.needs_broker:
        return None
    from gateway.field.broker import SiteBroker

    broker = SiteBroker(
        config.site_broker, config.device, parts.state_dir, parts.clock, parts.rng, emas=emas_on_broker(config)
    )
    broker.check()
    return broker


def emas_on_broker(config: Config) -> tuple[EmaBelowConfig, ...]:
    """EMAs below that have an account on our own broker."""
    return config.ema_below if config.emas_below.mqtt else ()


def links_of(config: Config) -> set[str]:
    """The links that need an adapter."""
    return {link for link in LINKS if config.reached_over(link)}


def field_adapters(config: Config, parts: Parts, only: Sequence[str] = LINKS) -> list[FieldAdapter]:
    """The adapters that some ``[[device]]`` needs. Raise ``OperatorError`` for what is missing on this machine."""
    makers: dict[str, Callable[[Config, Parts], FieldAdapter]] = {
        "mqtt": _mqtt,
        "coap": _coap,
        "gpio": _gpio,
        "emas": _emas,
    }
    wanted = links_of(config)
    return [makers[link](config, parts) for link in LINKS if link in only and link in wanted]


def _site_session(config: Config, parts: Parts) -> MqttSettings:
    """How we log in at the site's broker."""
    from gateway.transport.mqtt import MqttSettings, Tls

    if parts.broker is not None:
        return parts.broker.settings()
    table = config.site_broker
    tls = None
    if table.ca_file or table.cert_file:
        tls = Tls(_path(table.ca_file), _path(table.cert_file), _path(table.key_file))
    return MqttSettings(
        table.host, table.port, username=table.username or None, password=secret(table.password_file), tls=tls
    )


def _mqtt(config: Config, parts: Parts) -> FieldAdapter:
    from gateway.field.devices_mqtt import MqttDevices

    return MqttDevices(
        config.ema.name,
        parts.journal.boot,
        _site_session(config, parts),
        config.device,
        config.control,
        parts.engine,
        parts.clock,
        parts.rng,
        config.site_broker.open,
        most_strangers=config.site_broker.most_guests,
    )


def _coap(config: Config, parts: Parts) -> FieldAdapter:
    from gateway.field.devices_coap import CoapDevices

    return CoapDevices(
        config.site_coap,
        config.device,
        config.control,
        parts.engine,
        parts.clock,
        contacts=parts.journal,
        hub=parts.coap_hub(),
    )


def _gpio(config: Config, parts: Parts) -> FieldAdapter:
    from gateway.field.gpio import GpioDevices

    return GpioDevices(config.device, config.control, parts.engine, parts.clock, parts.plants, pins=parts.pins)


def _emas(config: Config, parts: Parts) -> FieldAdapter:
    from gateway.field.emas_below import EmasBelow

    table, name = config.emas_below, config.ema.name
    emas = EmasBelow(table, config.ema_below, config.control, parts.engine, parts.journal, parts.clock)
    if table.mqtt:
        from gateway.field.emas_below_mqtt import MqttHead

        ready = parts.broker.ready if parts.broker is not None else None
        session = _site_session(config, parts)
        emas.add(MqttHead(name, table, session, emas.admits, emas.happened, parts.clock, parts.rng, ready))
    if table.coap:
        from gateway.field.emas_below_coap import CoapHead

        address = (table.bind or config.site_coap.bind, table.port or config.site_coap.port)
        head = CoapHead(name, table, address, parts.coap_hub(), emas.admits, emas.happened)
        emas.add(head)
        emas.opened = head.opened
    parts.engine.reporter.below = emas.roll.sums
    return emas


def upstream_part(table: UpstreamConfig, config: Config, parts: Parts) -> Upstream:
    """One upper side with its reader of the outbox. Raise ``OperatorError`` for a secret that cannot be read."""
    from gateway.upstream.carriers import Ways
    from gateway.upstream.ems import EmsUpstream

    ways = Ways(
        parts.clock,
        parts.rng,
        logging.getLogger("gateway.upstream.ems"),
        password=secret(table.password_file),
        hub=parts.coap_hub() if table.protocol == "coap" else None,
        coap=(config.site_coap.bind, config.site_coap.port),
    )
    return EmsUpstream(
        table,
        config.ema,
        config.reports,
        parts.engine,
        parts.journal.reader(table.name),
        parts.clock,
        parts.rng,
        notes=parts.journal,
        ways=ways,
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None
