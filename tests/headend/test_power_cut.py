"""The EMS's power goes at any moment: whatever somebody was told is there at the next start."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sql

pytest.importorskip("apsw")
from headend.ems import store as store_module
from headend.ems.models import RdrRow, ReportRow
from headend.ems.state import Device
from headend.ems.store import Store
from tests.gateway.journal.disk import Disk, File
from tests.headend.disk import WatchedDisk, connect
from tests.headend.support import LOG, Bench, FakeHead
from tests.support.wait import until

ROUNDS = 60
MOST_CUTS = 60

Fact = tuple[Any, ...]


class Told(FakeHead):
    """What EMAs and operators were told: each a fact that must hold from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: list[Fact] = []

    def acknowledge_report(self, ema: str, request_id: str) -> None:
        self.facts.append(("report", ema, request_id))

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None:
        self.facts.append(("device", ema, number))

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None:
        if granted:
            self.facts.append(("granted", ema, number))


async def _live(bench: Bench, told: Told, rng: random.Random) -> None:
    """Everything that is acknowledged, many at once."""
    service = bench.service
    bench.register("gw/1", "gw/2")
    await service.rdr.set_policy("grant")
    event = await service.events.create(800, bench.now, bench.now + 3600, ["gw/1"])
    told.facts.append(("event", event.id, 0))
    for number in range(1, ROUNDS + 1):
        for name in ("gw/1", "gw/2"):
            for part in range(rng.randrange(4)):
                bench.report(name, f"{number}{part}", float(number), at=bench.now)
        device = Device("gw/1", f"dev/{number}", number=number, on=True, dimming=5, watt=60.0, priority=1)
        service.intake.device(device, "mqtt", acknowledge=True)
        service.asked("gw/1", "mqtt", number, 60.0)
        await bench.clock.advance(1)
        if number % 5 == 0:
            await service.events.change(event.id, value_w=800.0 + number)
            told.facts.append(("event", event.id, event.modification))
            opts = len(told.opts)
            modification = event.modification
            service.answered("gw/1", "mqtt", event.id, modification, True)
            await until(lambda opts=opts: len(told.opts) > opts)  # type: ignore[misc]
            told.facts.append(("opt", event.id, modification))
            await service.set_limit("total", float(number))
            told.facts.append(("limit", number))
        if rng.random() < 0.3:
            await asyncio.sleep(0.005)
    await until(lambda: not len(bench.store.writer), what="all is written")


async def _missing(files: dict[str, File], facts: list[Fact]) -> list[Fact]:
    """Which facts do not hold on what is left."""
    disk = Disk()
    disk.files = dict(files)
    store = Store("sqlite://", LOG, connect(disk))
    await store.open()
    try:
        loaded = await store.load(0.0)
        reports = {
            ("report", *row)
            for row in await store.read(lambda c: c.execute(sql.select(ReportRow.ema, ReportRow.request_id)).all())
        }
        granted = await store.read(
            lambda c: c.execute(sql.select(RdrRow.ema, RdrRow.number).where(RdrRow.state == "granted")).all()
        )
        counts = await store.counts()
        assert sum(count.stored for count in counts.values()) == len(reports)
        assert await store.read(lambda c: c.execute(sql.text("PRAGMA integrity_check")).scalar()) == "ok"
    finally:
        await store.close()
    holds: dict[str, Callable[..., bool]] = {
        "report": lambda *key: ("report", *key) in reports,
        "device": lambda ema, number: (ema, f"dev/{number}") in loaded.devices,
        "granted": lambda *key: key in {tuple(row) for row in granted},
        "event": lambda id, modification: id in loaded.events and loaded.events[id].modification >= modification,
        "opt": lambda id, modification: (loaded.events[id].deliveries["gw/1"].answered or 0) >= modification,
        "limit": lambda watts: loaded.limits.get("total", 0.0) >= watts,
    }
    return [fact for fact in facts if not holds[fact[0]](*fact[1:])]


async def _cuts(seed: int) -> list[tuple[list[Fact], dict[str, File]]]:
    """A life, and what a power cut would have left at many of its moments beside what had been told by then."""
    rng, chance = random.Random(seed), random.Random(seed + 1000)
    disk, told = WatchedDisk(), Told()
    cuts: list[tuple[list[Fact], dict[str, File]]] = []

    def watch() -> None:
        if chance.random() < 0.3 and len(cuts) < MOST_CUTS:
            # First the facts: what is told after this moment need not be there.
            facts = list(told.facts)
            cuts.append((facts, disk.left(chance)))

    bench = Bench(Store("sqlite://", LOG, connect(disk)))
    bench.head = bench.service.book.heads["mqtt"] = told
    await bench.start()
    disk.watch = watch
    try:
        await _live(bench, told, rng)
    finally:
        await bench.stop()
    disk.watch = None
    cuts.append((list(told.facts), disk.left(chance)))
    return cuts


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_that_was_told_is_missing(seed: int) -> None:
    cuts = await _cuts(seed)
    assert len(cuts) > 20
    assert {fact[0] for fact in cuts[-1][0]} == {"report", "device", "granted", "event", "opt", "limit"}
    for facts, files in cuts:
        assert await _missing(files, facts) == []


async def test_this_test_sees_a_database_that_does_not_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = store_module._sqlite_settings

    def careless(connection: Any, record: object) -> None:
        ours(connection, record)
        connection.cursor().execute("PRAGMA synchronous=NORMAL")

    monkeypatch.setattr(store_module, "_sqlite_settings", careless)
    assert any([await _missing(files, facts) for facts, files in await _cuts(1)])
