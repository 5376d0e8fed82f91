"""EMS publishes an event → command at the device, against a bare report-and-echo over the same number of hops."""

from __future__ import annotations

import asyncio
import json
import time
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

SAMPLES = 100
DEVICES = 20


def _event(number: int, modification: int, value: int, cancelled: bool) -> bytes:
    now = time.gmtime()
    end = now if cancelled else time.gmtime(time.time() + 3600)
    body = {
        "Service": "DistributeEvent",
        "StartYMD": time.strftime("%Y%m%d", now),
        "StartTime": time.strftime("%H%M", now),
        "EndYMD": time.strftime("%Y%m%d", end),
        "EndTime": time.strftime("%H%M", end),
        "Value": value,
        "Response": 200,
        "RequestID": number,
        "EventID": number,
        "ModificationNumber": modification,
        "TargetVEN": "MIR_VEN1",
        "Responsedescription": "OK",
        "OptType": "optIn",
    }
    return json.dumps(body).encode()


async def _floor(port: int) -> list[float]:
    bench = Bench(port, DEVICES)
    async with bench.running():
        with process(*bare(ECHO, str(port), "gw/#")):
            await asyncio.wait_for(bench.floor_up.wait(), 20)
            taken = []
            for number in range(SAMPLES):
                body = _event(number, 0, 30, cancelled=False)
                send = lambda body=body: bench.link.post("gw/1/oadr/DistributeEvent", body)  # noqa: E731
                took, _ = await bench.command_for(1, send)
                taken.append(took)
                await asyncio.sleep(0.005)
            return taken


async def _figure(directory: Path, port: int) -> list[float]:
    """Lamp 1 is on; an event below its draw switches it off; the event is cancelled and the lamp comes back."""
    bench = Bench(port, DEVICES)
    async with bench.running():
        with process(*smartema(configuration(directory, port, DEVICES, threshold_w=10_000.0, extra="pass_s = 0.05\n"))):
            await asyncio.wait_for(bench.registered.wait(), 20)
            async with asyncio.timeout(20):
                while len(bench.connected) < DEVICES:
                    bench.announce()
                    await asyncio.sleep(0.2)
            for number in range(1, DEVICES + 1):
                bench.status(number, on=number == 1)
            await asyncio.sleep(0.5)
            taken = []
            for number in range(1, SAMPLES + 1):
                event = _event(number, 0, 5, cancelled=False)
                took, command = await bench.command_for(
                    1, lambda body=event: bench.link.post("gw/1/oadr/DistributeEvent", body)
                )
                taken.append(took)
                bench.status(1, on=False, done=int(str(command["id"])))
                cancel = _event(number, 1, 5, cancelled=True)
                _, back = await bench.command_for(
                    1, lambda body=cancel: bench.link.post("gw/1/oadr/DistributeEvent", body)
                )
                bench.status(1, on=True, done=int(str(back["id"])))
                bench.status(number % (DEVICES - 1) + 2, on=False)
                await asyncio.sleep(0.01)
            return taken


async def measure() -> list[dict[str, Any]]:
    floors, figures = [], []
    for _ in range(ROUNDS):
        with scratch() as directory:
            async with broker(directory) as mosquitto:
                floors.append(await _floor(mosquitto.port))
            async with broker(directory / "b") as mosquitto:
                figures.append(await _figure(directory, mosquitto.port))
    rows = []
    for name, share in (("event_p50", 0.5), ("event_p99", 0.99)):
        value = median([quantile(s, share) for s in figures]) * 1e3
        floor = median([quantile(s, share) for s in floors]) * 1e3
        rows.append({"name": name, "value": value, "unit": "ms", "floor": floor, "ratio": value / floor})
    return rows


def run() -> list[dict[str, Any]]:
    return asyncio.run(measure())
