"""EMS publishes an event → command at the device, against a bare report-and-echo over the same number of hops."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_site import Bench, configuration
from benchmarks.latency import DEVICES, Taken, figure_of, floor_of, in_turn, rows_of

SAMPLES = 100


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


def _distribute(bench: Bench, body: bytes) -> None:
    bench.link.post("gw/1/oadr/DistributeEvent", body)


async def _floor(directory: Path, port: int) -> Taken:
    return await floor_of(
        port, DEVICES, "gw/#", SAMPLES, lambda bench, number: _distribute(bench, _event(number, 0, 30, cancelled=False))
    )


async def _figure(directory: Path, port: int) -> Taken:
    config = configuration(directory, port, DEVICES, threshold_w=10_000.0, extra="pass_s = 0.05\n")
    return await figure_of(config, port, DEVICES, 1, _samples)


async def _samples(bench: Bench) -> Taken:
    """Lamp 1 is on; an event below its draw switches it off; the event is cancelled and the lamp comes back."""
    taken = []
    for number in range(1, SAMPLES + 1):
        event = _event(number, 0, 5, cancelled=False)
        took, command = await bench.command_for(1, lambda body=event: _distribute(bench, body))
        taken.append(took)
        bench.status(1, on=False, done=int(str(command["id"])))
        cancel = _event(number, 1, 5, cancelled=True)
        _, back = await bench.command_for(1, lambda body=cancel: _distribute(bench, body))
        bench.status(1, on=True, done=int(str(back["id"])))
        bench.status(number % (DEVICES - 1) + 2, on=False)
        await asyncio.sleep(0.01)
    return taken


def run() -> list[dict[str, Any]]:
    floors, figures = asyncio.run(in_turn(_floor, _figure))
    return rows_of("event", figures, floors)
