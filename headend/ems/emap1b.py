"""The server half of profile ``emap1b`` as the EMS uses it, over MQTT and over CoAP."""

from __future__ import annotations

import random

from gateway.clock import Clock
from gateway.links.emap1b.coap_server import CoapServer
from gateway.links.emap1b.server import Server
from gateway.links.mir2017 import messages as wire
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings


def emap1b_server(service: EmsService, settings: EmsSettings, clock: Clock, rng: random.Random) -> Server:
    """Its own requestIDs are made of a random number a start, so that none comes twice."""
    return Server(
        duration_ms=settings.duration_ms,
        ems_name=settings.ems_name,
        admit=lambda number: service.admits(wire.ema_name(number)),
        opts_at_once=False,
        wall=lambda: clock.now().wall,
        run=rng.getrandbits(52),
    )


def emap1b_coap_server(service: EmsService, settings: EmsSettings, clock: Clock, rng: random.Random) -> CoapServer:
    """The same over CoAP."""
    return CoapServer(emap1b_server(service, settings, clock, rng))
