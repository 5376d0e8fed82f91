"""The client and the carrier that a configuration names; a protocol's library is imported only then."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from gateway.errors import OperatorError
from gateway.links.mir2017 import messages as wire
from gateway.record import slim
from gateway.upstream.carrier import Carrier, Hooks, UpperClient

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config.model import EmaConfig, UpstreamConfig
    from gateway.links.emap1b.client import Client as Emap1bClient
    from gateway.transport.coap_shared import CoapHub
    from gateway.transport.oscore import Keys
    from gateway.upstream.carrier_coap import CoapClient, Served
    from gateway.upstream.carrier_mqtt import MqttClient

E = TypeVar("E", bound="Emap1bClient")


@slim(frozen=True, slots=True)
class Ways:
    """What carriers are made with. ``hub``: the process's CoAP servers; ``coap``: where we serve without other word;
    ``opted``: the modification of an event of this upstream that was answered already (None: never)."""

    clock: Clock
    rng: random.Random
    logger: logging.Logger
    password: str | None = None
    hub: CoapHub | None = None
    coap: tuple[str, int] = ("127.0.0.1", 5683)
    opted: Callable[[int], int | None] = lambda event_id: None


def carrier_of(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> Made:
    """Raise ``OperatorError`` for what cannot be had."""
    maker = _MAKERS.get((config.protocol, config.profile))
    if maker is None:
        raise OperatorError(f"upstream {config.name}: profile {config.profile} is not spoken over {config.protocol}")
    return maker(config, ema, ways)


Made = tuple[UpperClient, Callable[[Hooks], Carrier]]


def _mqtt(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> Made:
    from gateway.links.mir2017.client import Client

    return _over_mqtt(Client(ema.number, ema.ven, wire.zone_named(config.timezone)), config, ema, ways)


def _mqtt_emap1b(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> Made:
    from gateway.links.emap1b.client import Client

    return _over_mqtt(_emap1b(Client, config, ema, ways), config, ema, ways)


def _over_mqtt(client: MqttClient, config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> Made:
    from gateway.upstream.carrier_mqtt import MqttCarrier
    from gateway.upstream.ems_translate import settings_of

    settings = settings_of(config, ema, ways.password, client.will, client.subscriptions)
    return client, lambda hooks: MqttCarrier(settings, client, ways.clock, ways.rng, hooks, ways.logger)


def _coap(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> Made:
    from gateway.links.mir2017.coap.client import Client
    from gateway.links.mir2017.coap.messages import Down
    from gateway.upstream.carrier_coap import NONE, Served

    client = Client(ema.number, ema.ven_id, wire.zone_named(config.timezone))
    events = () if config.mode == NONE else (str(Down.PUSHED_EVENT),)
    paths = (*events, str(Down.THRESHOLD), str(Down.BUDGET))
    return _over_coap(client, Served(paths, f"gw/{ema.number}", long=(str(Down.NEGOTIATED),)), config, ways)


def _coap_emap1b(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> Made:
    from gateway.links.emap1b.coap import CoapClient
    from gateway.links.emap1b.messages import CONTENT_FORMAT
    from gateway.upstream.carrier_coap import NONE, Served

    client = _emap1b(CoapClient, config, ema, ways)
    events = () if config.mode == NONE else client.serves
    return _over_coap(client, Served(events, "", CONTENT_FORMAT), config, ways)


def _over_coap(client: CoapClient, served: Served, config: UpstreamConfig, ways: Ways) -> Made:
    from gateway.transport.coap_shared import CoapHub
    from gateway.upstream.carrier_coap import CoapCarrier

    keys = None
    if config.oscore_dir:
        keys = _keys(config, client.ema)
    hub = ways.hub or CoapHub()
    where = (config.bind or ways.coap[0], config.local_port or ways.coap[1])
    return client, lambda hooks: CoapCarrier(config, client, served, hub, where, ways.clock, hooks, ways.logger, keys)


def _keys(config: UpstreamConfig, ema: int) -> Keys:
    from pathlib import Path

    from gateway.transport.oscore_files import ema_of

    try:
        from gateway.transport.oscore import Keys
    except ImportError as err:
        text = f"oscore_dir: needs {err.name}: pip install 'smartema[oscore]'"
        raise OperatorError(f"upstream {config.name}: {text}") from err
    folder = Path(config.oscore_dir)
    whose = ema_of(folder)
    if whose != ema:
        raise OperatorError(f"upstream {config.name}: oscore_dir: {folder} is of EMA {whose}, not {ema}")
    return Keys([folder])


def _udp(config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> Made:
    from gateway.links.mir2017.udp.client import UdpClient
    from gateway.upstream.carrier_udp import UdpCarrier

    client = UdpClient(ema.number, wire.zone_named(config.timezone), ways.opted)
    return client, lambda hooks: UdpCarrier(config, client, ways.clock, hooks, ways.logger)


def _emap1b(kind: type[E], config: UpstreamConfig, ema: EmaConfig, ways: Ways) -> E:
    """The requestIDs are made of a random number a start, so that none comes twice."""
    return kind(
        ema.number,
        ema.ven,
        wire.zone_named(config.timezone),
        wall=lambda: ways.clock.now().wall,
        run=ways.rng.getrandbits(52),
        ems_name=config.ems_name,
        pull=config.pulls,
    )


_MAKERS: dict[tuple[str, str], Callable[[UpstreamConfig, EmaConfig, Ways], Made]] = {
    ("mqtt", "mir2017"): _mqtt,
    ("mqtt", "emap1b"): _mqtt_emap1b,
    ("coap", "mir2017"): _coap,
    ("coap", "emap1b"): _coap_emap1b,
    ("udp", "mir2017"): _udp,
}
