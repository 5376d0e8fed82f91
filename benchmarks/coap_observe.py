"""A notification: from the EMS's or the bare server's sending to what stands behind the observation."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.bench_site import ROUNDS
from benchmarks.coap_poll import VEN_ID
from benchmarks.coap_site import OBSERVE, Bare, EmaEnd, Peer, Taken, in_turn, peer, rows_of
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.coap import messages as coap

SAMPLES = 300
EVENT = wire.DistributeEvent(1, 0, 0.0, 3600.0, 5, request_id=4096, target=VEN_ID)
NOTIFICATION = len(coap.write_event(EVENT, wire.zone_named("UTC"), coap.NOTIFIED))


async def _event(ends: Peer, ema: EmaEnd) -> float:
    _, left = await ends.ask("push")
    return await asyncio.wait_for(ema.events.get(), 10) - left


async def _notification(ends: Peer, bare: Bare) -> float:
    _, left = await ends.ask("notify")
    return await asyncio.wait_for(bare.notified.get(), 10) - left


async def measure(rounds: int = ROUNDS, samples: int = SAMPLES) -> list[tuple[Taken, Taken]]:
    """Rounds of events and of bare notifications of as many bytes, seconds each."""
    async with (
        peer(NOTIFICATION) as ends,
        EmaEnd(ends.ems, OBSERVE).registered() as ema,
        Bare.to(ends.bare) as bare,
        bare.observing(),
    ):
        await ema.observing(lambda: _event(ends, ema))
        taken = [
            await in_turn(samples, lambda: _event(ends, ema), lambda: _notification(ends, bare)) for _ in range(rounds)
        ]
        if ema.carrier.observed < rounds * samples:
            raise RuntimeError("events came by another way than the observation")
        return taken


def run() -> list[dict[str, Any]]:
    rounds = asyncio.run(measure())
    return [rows_of("observe_event_p50", rounds, 0.5)]
