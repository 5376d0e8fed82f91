"""A poll without an event: from the carrier's question to what the client made of the EMS's answer, and the floor."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.bench_site import ROUNDS
from benchmarks.coap_site import PULL, Bare, EmaEnd, Taken, in_turn, peer, rows_of
from gateway.links.mir2017.coap import messages as coap

SAMPLES = 300
VEN_ID = "VEN_MIR1"
POLL = coap.hello(coap.Up.POLL, VEN_ID, 1)
ANSWER = len(coap.response(coap.Word.NO_EVENT, VEN_ID, 1))


async def measure(rounds: int = ROUNDS, samples: int = SAMPLES) -> list[tuple[Taken, Taken]]:
    """Rounds of polls and of bare round trips of as many bytes, seconds each."""
    async with peer(ANSWER) as ends, EmaEnd(ends.ems, PULL).registered() as ema, Bare.to(ends.bare) as bare:
        return [await in_turn(samples, ema.poll, lambda: bare.round_trip(POLL)) for _ in range(rounds)]


def run() -> list[dict[str, Any]]:
    rounds = asyncio.run(measure())
    return [rows_of("coap_poll_p50", rounds, 0.5), rows_of("coap_poll_p99", rounds, 0.99)]
