"""What the database is asked for pages and scripts: series, energy, logs. Runs in the store's read threads."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy import Connection

from headend.ems import models as rows
from headend.ems.records import load_events
from headend.ems.state import Event
from headend.ems.store import Store

# A longer gap between two samples is an outage: the power in it is not known, and is not filled in.
GAP_S = 120.0
MOST_ROWS = 2_000_000


async def series(store: Store, ema: str, start: float, end: float, points: int) -> list[dict[str, float | None]]:
    """Power of an EMA in at most ``points`` steps: mean, least and most W, and the limit that was in force."""
    step = max((end - start) / points, 1e-3)
    table = rows.SampleRow
    bucket = sql.cast((table.at - start) / step, sql.Integer).label("bucket")
    query = (
        sql.select(
            sql.func.min(table.at),
            sql.func.avg(table.power_w),
            sql.func.min(table.power_w),
            sql.func.max(table.power_w),
            sql.func.min(table.threshold_w),
            sql.func.avg(table.margin_w),
            sql.func.avg(table.generate_w),
            sql.func.avg(table.storage_w),
        )
        .where(table.ema == ema, table.at >= start, table.at < end)
        .group_by(bucket)
        .order_by(bucket)
    )
    found = await store.read(lambda connection: connection.execute(query).all())
    names = ("at", "power_w", "least_w", "most_w", "limit_w", "margin_w", "generate_w", "storage_w")
    return [dict(zip(names, row, strict=True)) for row in found]


async def energy(store: Store, ema: str, start: float, end: float, step: float) -> list[dict[str, float]]:
    """Energy of an EMA a step: imported and exported Wh (both positive), and the seconds that are known of it."""

    def work(connection: Connection) -> list[tuple[float, float]]:
        table = rows.SampleRow
        query = sql.select(table.at, table.power_w).where(table.ema == ema, table.at >= start, table.at < end)
        return [(at, power) for at, power in connection.execute(query.order_by(table.at).limit(MOST_ROWS))]

    steps = [
        {"at": start + i * step, "import_wh": 0.0, "export_wh": 0.0, "known_s": 0.0}
        for i in range(max(1, -int(-(end - start) // step)))
    ]
    samples = await store.read(work)
    ends = [at for at, _ in samples[1:]] + [end]
    for (at, power), following in zip(samples, ends, strict=False):
        until = min(following, at + GAP_S)
        while at < until:
            index = min(int((at - start) // step), len(steps) - 1)
            edge = min(until, start + (index + 1) * step) if index < len(steps) - 1 else until
            if edge <= at:
                break
            wh = power * (edge - at) / 3600
            steps[index]["import_wh" if wh >= 0 else "export_wh"] += abs(wh)
            steps[index]["known_s"] += edge - at
            at = edge
    return steps


async def events(store: Store, before: int | None, most: int) -> list[Event]:
    """Newest first, older than event ``before``."""
    where = [rows.EventRow.id < before] if before is not None else []
    return await store.read(lambda connection: load_events(connection, *where, most=most))


async def rdr(store: Store, ema: str | None, before: int | None, most: int) -> list[dict[str, Any]]:
    """The log of RDRs, newest first."""
    return await _log(store, rows.RdrRow, ema, before, most, by="answered_by")


async def commands(store: Store, ema: str | None, before: int | None, most: int) -> list[dict[str, Any]]:
    """Commands to devices, newest first."""
    return await _log(store, rows.CommandRow, ema, before, most, by="account")


async def audit(store: Store, before: int | None, most: int) -> list[dict[str, Any]]:
    """Who did what, newest first."""
    return await _log(store, rows.AuditRow, None, before, most)


async def _log(
    store: Store, table: Any, ema: str | None, before: int | None, most: int, by: str = ""
) -> list[dict[str, Any]]:
    query = sql.select(table.__table__).order_by(table.id.desc()).limit(most)
    if ema is not None:
        query = query.where(table.ema == ema)
    if before is not None:
        query = query.where(table.id < before)
    found = await store.read(lambda connection: connection.execute(query).mappings().all())
    return [{("by" if name == by else name): value for name, value in row.items()} for row in found]
