"""From something that an EMA hears to its command at a device, against a bare report-and-echo over as many hops.

Floor and figure are taken in turn, each with a mosquitto of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.bench_site import ECHO, ROUNDS, Bench, bare, broker, median, process, quantile, scratch, smartema

DEVICES = 20
PAUSE_S = 0.005

Taken = list[float]


async def floor_of(port: int, devices: int, topic: str, samples: int, act: Callable[[Bench, int], None]) -> Taken:
    """Seconds from ``act`` to the command of whoever echoes what comes on ``topic``."""
    bench = Bench(port, devices)
    async with bench.running():
        with process(*bare(ECHO, str(port), topic)):
            await asyncio.wait_for(bench.floor_up.wait(), 20)
            taken = []
            for number in range(samples):
                took, _ = await bench.command_for(1, lambda number=number: act(bench, number))
                taken.append(took)
                await asyncio.sleep(PAUSE_S)
            return taken


async def figure_of(
    config: Path, port: int, devices: int, on: int, measured: Callable[[Bench], Awaitable[Taken]]
) -> Taken:
    """What ``measured`` takes of a daemon to which all lamps have come; ``on`` is lit (0: none)."""
    bench = Bench(port, devices)
    async with bench.running():
        with process(*smartema(config)):
            await asyncio.wait_for(bench.registered.wait(), 20)
            async with asyncio.timeout(20):
                while len(bench.connected) < devices:
                    bench.announce()
                    await asyncio.sleep(0.2)
            for number in range(1, devices + 1):
                bench.status(number, on=number == on)
            await asyncio.sleep(0.5)
            return await measured(bench)


async def in_turn(*takers: Callable[[Path, int], Awaitable[Taken]]) -> list[list[Taken]]:
    """``ROUNDS`` of each, one after another, with a directory and a broker's port of its own."""
    taken: list[list[Taken]] = [[] for _ in takers]
    for _ in range(ROUNDS):
        for taker, results in zip(takers, taken, strict=True):
            with scratch() as directory:
                async with broker(directory) as mosquitto:
                    results.append(await taker(directory, mosquitto.port))
    return taken


def quantile_ms(rounds: list[Taken], share: float) -> float:
    """The median over all rounds."""
    return median([quantile(taken, share) for taken in rounds]) * 1e3


def rows_of(name: str, figures: list[Taken], floors: list[Taken]) -> list[dict[str, Any]]:
    """``<name>_p50`` and ``<name>_p99``."""
    rows = []
    for which, share in (("p50", 0.5), ("p99", 0.99)):
        value, floor = quantile_ms(figures, share), quantile_ms(floors, share)
        rows.append({"name": f"{name}_{which}", "value": value, "unit": "ms", "floor": floor, "ratio": value / floor})
    return rows
