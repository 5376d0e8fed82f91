"""Processor time at 200 reports a second, against a bare subscriber that decodes the same JSON."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

from benchmarks.bench_site import (
    ROUNDS,
    SUBSCRIBER,
    Bench,
    bare,
    broker,
    configuration,
    cpu_s,
    median,
    process,
    scratch,
    smartema,
)

DEVICES = 200
SECONDS = 8


async def _load(bench: Bench, child: subprocess.Popen[bytes]) -> float:
    """200 lamps report once a second; processor seconds that the child used a second."""
    before = cpu_s(child.pid)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for turn in range(SECONDS * DEVICES):
        number = turn % DEVICES + 1
        bench.status(number, on=(turn // DEVICES + number) % 2 == 0)
        await asyncio.sleep(max(began + (turn + 1) / DEVICES - loop.time(), 0))
    return (cpu_s(child.pid) - before) / (loop.time() - began)


async def measure() -> list[dict[str, Any]]:
    values, floors = [], []
    for _ in range(ROUNDS):
        with scratch() as directory:
            async with broker(directory) as mosquitto:
                bench = Bench(mosquitto.port, DEVICES)
                async with bench.running():
                    with process(*bare(SUBSCRIBER, str(mosquitto.port))) as child:
                        await asyncio.wait_for(bench.floor_up.wait(), 20)
                        floors.append(await _load(bench, child))
            async with broker(directory / "b") as mosquitto:
                bench = Bench(mosquitto.port, DEVICES)
                async with bench.running():
                    config = configuration(directory, mosquitto.port, DEVICES, threshold_w=100_000.0)
                    with process(*smartema(config)) as child:
                        await asyncio.wait_for(bench.registered.wait(), 20)
                        async with asyncio.timeout(20):
                            while len(bench.connected) < DEVICES:
                                bench.announce()
                                await asyncio.sleep(0.5)
                        values.append(await _load(bench, child))
    value, floor = median(values) * 100, median(floors) * 100
    return [{"name": "cpu_200", "value": value, "unit": "% of a core", "floor": floor, "ratio": value / floor}]


def run() -> list[dict[str, Any]]:
    return asyncio.run(measure())
