"""The server half of profile ``emap1b`` as the EMS uses it, over MQTT and over CoAP."""

from __future__ import annotations

import random
from collections.abc import Iterable

from gateway.clock import Clock
from gateway.links.emap1b.coap_server import CoapServer
from gateway.links.emap1b.messages import Signal
from gateway.links.emap1b.messages.events import PRICE_TYPE
from gateway.links.emap1b.server import Server
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.messages.budget import Budget
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


def signals_of(budgets: Iterable[Budget]) -> list[Signal]:
    """Prices as signals of the profile, where a price of 0 is none."""
    return [
        Signal(
            budget.signal,
            PRICE_TYPE,
            current=budget.current_w or 0,
            threshold=budget.threshold_w,
            capacity=budget.capacity_w or 0,
            price=budget.price or 0,
            unit=budget.unit,
        )
        for budget in budgets
    ]


def emap1b_coap_server(service: EmsService, settings: EmsSettings, clock: Clock, rng: random.Random) -> CoapServer:
    """The same over CoAP."""
    return CoapServer(emap1b_server(service, settings, clock, rng))
