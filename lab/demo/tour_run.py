"""``smartema demo --tour``: the table on the terminal, or one JSON document."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.demo import tour_table as table
from lab.demo.scene import Scene, running
from lab.demo.tour import EMA, Row, Tour
from lab.demo.ways import chosen, ways_of
from lab.demo.wires import Wires
from lab.impair import Impairment

# The last reports are given so long to be acknowledged, in seconds of the machine's clock.
DRAIN_S = 20.0


async def tour(speed: float, seed: int, impairment: Impairment, only: str, as_json: bool) -> int:
    """The exit code: 0 when every way did all that it can. Raise ``OperatorError`` for an ``only`` that means none."""
    wires = Wires(impairment, seed)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="smartema-tour-") as directory:
        async with running(Path(directory), speed, seed, wires, every_way=True) as scene:
            ways = ways_of(scene.ems, scene.clock)
            ways = chosen(ways, only) if only else ways
            say = (lambda text: None) if as_json else _say
            say(table.head())
            try:
                async for row in Tour(scene).rows(ways):
                    rows.append(row)
                    say(table.line(row))
                await _drain(scene)
            except asyncio.CancelledError:  # Ctrl-C: what came until then is told
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
            scene.daemon.engine.listeners.clear()
            counts = _counts(scene)
            carried = [(one.device, one.id) for one in scene.carried]
            poll_s = scene.ems.settings.duration_ms / 1000
    document = {
        "seed": seed,
        "speed": speed,
        "impair": str(impairment) if impairment else None,
        "rows": [row.document() for row in rows],
        "links": asdict(wires.total()),
        "commands": {"carried_out": len(carried), "twice": len(carried) - len(set(carried))},
        "reports": counts,
    }
    if as_json:
        json.dump(document, sys.stdout)
        print()
    else:
        _tell(rows, wires, counts, speed, poll_s)
    return 0 if len(rows) == len(ways) and all(row.ok for row in rows) else 1


def _say(text: str) -> None:
    print(text, flush=True)


def _tell(rows: list[Row], wires: Wires, counts: dict[str, int], speed: float, poll_s: float) -> None:
    print()
    for text in table.legend(speed, poll_s):
        print(text)
    print(table.reports(counts))
    if wires.impairment:
        print(table.links(wires.total(), str(wires.impairment)))
    for row in rows:
        if row.rdr and row.rdr["result"] != "granted":
            print(f"{row.way.label}: {row.rdr['why']}")
        if row.problem:
            print(f"{row.way.label}: {row.problem}")


async def _drain(scene: Scene) -> None:
    """Until nothing waits, or the patience is at its end; new reports come all the time, so one look at 0 is enough."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DRAIN_S
    while scene.daemon.outbox_status()["waiting"] and loop.time() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.002)


def _counts(scene: Scene) -> dict[str, Any]:
    """As the EMS and the EMA's outbox have them."""
    counts = scene.ems.counts().get(EMA)
    status = scene.daemon.outbox_status()
    return {
        "stored": counts.stored if counts else 0,
        "duplicates": counts.duplicates if counts else 0,
        "waiting": status["waiting"],
        "lost": status["lost"],
    }
