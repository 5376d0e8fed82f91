"""Resident memory at rest, and process start → registered, against a process that only imports the libraries."""

from __future__ import annotations

import asyncio
import compileall
import subprocess
import time
from typing import Any

from benchmarks.bench_site import (
    IMPORTS,
    ROUNDS,
    Bench,
    bare,
    broker,
    configuration,
    median,
    process,
    rss_kb,
    scratch,
    smartema,
)

IDLE_S = 10.0


# What the daemon imports. The libraries of the floor were compiled by pip; sources in a clone may not have been.
PACKAGES = ("gateway", "device_agents", "hardware")


async def measure() -> list[dict[str, Any]]:
    for package in PACKAGES:
        compileall.compile_dir(package, quiet=2)
    memory, memory_floor, start, start_floor = [], [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(bare(IMPORTS), check=True)
        start_floor.append(time.perf_counter() - began)
        with scratch() as directory:
            async with broker(directory) as mosquitto:
                bench = Bench(mosquitto.port, 4)
                async with bench.running():
                    command = smartema(configuration(directory, mosquitto.port, 4, threshold_w=1000.0))
                    began = time.perf_counter()
                    with process(*command) as child, process(*bare(IMPORTS + ", time; time.sleep(100)")) as idle:
                        await asyncio.wait_for(bench.registered.wait(), 20)
                        start.append(time.perf_counter() - began)
                        for number in range(1, 5):
                            bench.status(number, on=True)
                        await asyncio.sleep(IDLE_S)
                        memory.append(rss_kb(child.pid) / 1024)
                        memory_floor.append(rss_kb(idle.pid) / 1024)
    rows = []
    for name, unit, values, floors in (
        ("rss_idle", "MB", memory, memory_floor),
        ("start", "ms", [s * 1e3 for s in start], [s * 1e3 for s in start_floor]),
    ):
        value, floor = median(values), median(floors)
        rows.append({"name": name, "value": value, "unit": unit, "floor": floor, "ratio": value / floor})
    return rows


def run() -> list[dict[str, Any]]:
    return asyncio.run(measure())
