"""State report that lifts the site over its limit → command at the device, against a bare report-and-echo."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from benchmarks.bench_site import Bench, configuration
from benchmarks.latency import DEVICES, PAUSE_S, Taken, figure_of, floor_of, in_turn, quantile_ms, rows_of

SAMPLES = 300
MANY = 200


async def _background(bench: Bench, skip: int) -> None:
    """Every other lamp reports once a second, spread evenly."""
    while True:
        for number in range(1, bench.devices + 1):
            if number != skip:
                bench.status(number, on=False)
            await asyncio.sleep(1 / bench.devices)


async def _samples(bench: Bench, load: bool) -> Taken:
    """Each sample: a lamp says it is on, the site is over, the command comes; then the lamp says it is off."""
    taken = []
    noise = asyncio.create_task(_background(bench, skip=1)) if load else None
    try:
        for _ in range(SAMPLES):
            took, command = await bench.command_for(1, lambda: bench.status(1, on=True))
            taken.append(took)
            bench.status(1, on=False, done=int(str(command["id"])))
            await asyncio.sleep(PAUSE_S)
    finally:
        if noise is not None:
            noise.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await noise
    return taken


async def _floor(directory: Path, port: int) -> Taken:
    return await floor_of(port, DEVICES, "status/+", SAMPLES, lambda bench, number: bench.status(1, on=True))


async def _twenty(directory: Path, port: int) -> Taken:
    config = configuration(directory, port, DEVICES, threshold_w=30.0)
    return await figure_of(config, port, DEVICES, 0, lambda bench: _samples(bench, load=False))


async def _many(directory: Path, port: int) -> Taken:
    config = configuration(directory, port, MANY, threshold_w=30.0)
    return await figure_of(config, port, MANY, 0, lambda bench: _samples(bench, load=True))


def run() -> list[dict[str, Any]]:
    floors, twenty, many = asyncio.run(in_turn(_floor, _twenty, _many))
    rows = rows_of("reaction", twenty, floors)
    loaded, base = quantile_ms(many, 0.99), rows[1]["value"]
    return [
        *rows,
        {"name": "reaction_200_p99", "value": loaded, "unit": "ms", "floor": base, "ratio": loaded / base},
    ]
