"""The client and the carrier that a configuration names; a protocol's library is imported only then."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.clock import Clock
from gateway.config.model import EmaConfig, UpstreamConfig
from gateway.errors import OperatorError
from gateway.links.mir2017 import messages as wire
from gateway.upstream.carrier import Carrier, Hooks, UpperClient

if TYPE_CHECKING:
    from gateway.transport.coap_shared import CoapHub


@dataclass(frozen=True, slots=True)
class Ways:
    """What carriers are made with. ``hub``: the process's CoAP servers; ``coap``: where we serve without other word."""

    clock: Clock
    rng: random.Random
    logger: logging.Logger
    password: str | None = None
    hub: CoapHub | None = None
    coap: tuple[str, int] = ("127.0.0.1", 5683)


def carrier_of(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> tuple[UpperClient, Callable[[Hooks], Carrier]]:
    """Raise ``OperatorError`` for what cannot be had."""
    maker = _MAKERS.get((config.protocol, config.profile))
    if maker is None:
        raise OperatorError(f"upstream {config.name}: profile {config.profile} is not spoken over {config.protocol}")
    return maker(config, ema, ways)


def _mqtt(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> tuple[UpperClient, Callable[[Hooks], Carrier]]:
    from gateway.links.mir2017.client import Client
    from gateway.upstream.carrier_mqtt import MqttCarrier
    from gateway.upstream.ems_translate import settings_of

    client = Client(ema.number, ema.ven, wire.zone_named(config.timezone))
    settings = settings_of(config, ema, ways.password)
    return client, lambda hooks: MqttCarrier(settings, client, ways.clock, ways.rng, hooks, ways.logger)


def _coap(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> tuple[UpperClient, Callable[[Hooks], Carrier]]:
    from gateway.links.mir2017.coap.client import Client
    from gateway.transport.coap_shared import CoapHub
    from gateway.upstream.carrier_coap import CoapCarrier

    client = Client(ema.number, ema.ven_id, wire.zone_named(config.timezone))
    hub = ways.hub or CoapHub()
    serve = (config.bind or ways.coap[0], config.local_port or ways.coap[1])
    return client, lambda hooks: CoapCarrier(config, client, hub, serve, ways.clock, hooks, ways.logger)


_MAKERS: dict[
    tuple[str, str], Callable[[UpstreamConfig, EmaConfig, Ways], tuple[UpperClient, Callable[[Hooks], Carrier]]]
] = {("mqtt", "mir2017"): _mqtt, ("coap", "mir2017"): _coap}
