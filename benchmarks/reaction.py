"""State report that lifts the site over its limit → command at the device, against a bare report-and-echo."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from benchmarks.bench_site import (
    ECHO,
    ROUNDS,
    Bench,
    bare,
    broker,
    configuration,
    median,
    process,
    quantile,
    scratch,
    smartema,
)

SAMPLES = 300


async def _settle(bench: Bench) -> None:
    """All lamps known, all off."""
    await asyncio.wait_for(bench.registered.wait(), 20)
    async with asyncio.timeout(20):
        while len(bench.connected) < bench.devices:
            bench.announce()
            await asyncio.sleep(0.2)
    for number in range(1, bench.devices + 1):
        bench.status(number, on=False)
    await asyncio.sleep(0.5)


async def _background(bench: Bench, skip: int) -> None:
    """Every other lamp reports once a second, spread evenly."""
    while True:
        for number in range(1, bench.devices + 1):
            if number != skip:
                bench.status(number, on=False)
            await asyncio.sleep(1 / bench.devices)


async def _samples(bench: Bench, load: bool) -> list[float]:
    """Each sample: a lamp says it is on, the site is over, the command comes; then the lamp says it is off."""
    taken = []
    noise = asyncio.create_task(_background(bench, skip=1)) if load else None
    try:
        for _ in range(SAMPLES):
            took, command = await bench.command_for(1, lambda: bench.status(1, on=True))
            taken.append(took)
            bench.status(1, on=False, done=int(str(command["id"])))
            await asyncio.sleep(0.005)
    finally:
        if noise is not None:
            noise.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await noise
    return taken


async def _floor(port: int, devices: int) -> list[float]:
    bench = Bench(port, devices)
    async with bench.running():
        with process(*bare(ECHO, str(port), "status/+")):
            await asyncio.wait_for(bench.floor_up.wait(), 20)
            taken = []
            for _ in range(SAMPLES):
                took, _command = await bench.command_for(1, lambda: bench.status(1, on=True))
                taken.append(took)
                await asyncio.sleep(0.005)
            return taken


async def _figure(directory: Path, port: int, devices: int, load: bool) -> list[float]:
    bench = Bench(port, devices)
    async with bench.running():
        with process(*smartema(configuration(directory, port, devices, threshold_w=30.0))):
            await _settle(bench)
            return await _samples(bench, load)


async def measure() -> list[dict[str, Any]]:
    floors: list[list[float]] = []
    twenty: list[list[float]] = []
    many: list[list[float]] = []
    for turn in range(ROUNDS):
        with scratch() as directory:
            async with broker(directory) as mosquitto:
                floors.append(await _floor(mosquitto.port, 20))
            async with broker(directory / "b") as mosquitto:
                twenty.append(await _figure(directory, mosquitto.port, 20, load=False))
        with scratch() as directory:
            async with broker(directory) as mosquitto:
                many.append(await _figure(directory, mosquitto.port, 200, load=True))
        del turn
    rows = []
    for name, share in (("reaction_p50", 0.5), ("reaction_p99", 0.99)):
        value = median([quantile(s, share) for s in twenty]) * 1e3
        floor = median([quantile(s, share) for s in floors]) * 1e3
        rows.append({"name": name, "value": value, "unit": "ms", "floor": floor, "ratio": value / floor})
    loaded = median([quantile(s, 0.99) for s in many]) * 1e3
    base = rows[1]["value"]
    rows.append({"name": "reaction_200_p99", "value": loaded, "unit": "ms", "floor": base, "ratio": loaded / base})
    return rows


def run() -> list[dict[str, Any]]:
    return asyncio.run(measure())
