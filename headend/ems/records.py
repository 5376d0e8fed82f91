"""The statements of the store: objects of ``state`` to rows and back, on a connection that is handed in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Connection

from gateway.errors import OperatorError
from headend.ems import models as rows
from headend.ems.state import Delivery, Device, DeviceCommand, Ema, Event, Mode, Rdr

# Rows that one pruning commit removes, so that it holds nobody up.
PRUNE_ROWS = 2000
# Before the names of what a row is found by, and of what is set: SQLAlchemy keeps the columns' own names to itself.
KEY, SET = "key_", "set_"


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report on its way into the database. ``devices``: JSON text. ``sample`` None: it said no power.

    ``ema``, ``request_id`` and ``mark`` are what is the same in a report that comes again (``ReportRow``).
    """

    ema: str
    request_id: str
    mark: int
    at: float
    received_at: float
    devices: str
    sample: dict[str, Any] | None


@dataclass(slots=True)
class Loaded:
    """What was there at the start."""

    emas: dict[str, Ema] = field(default_factory=dict)
    devices: dict[tuple[str, str], Device] = field(default_factory=dict)
    events: dict[int, Event] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    last_event: int = 0
    last_rdr: int = 0
    last_command: int = 0


_COUNTED = (
    sql.update(rows.ReportCountRow)
    .where(rows.ReportCountRow.ema == sql.bindparam(f"{KEY}ema"))
    .values(
        stored=rows.ReportCountRow.stored + sql.bindparam("more"),
        duplicates=rows.ReportCountRow.duplicates + sql.bindparam("again"),
    )
)


def check_schema(connection: Connection, url: str) -> None:
    found = connection.scalar(sql.select(rows.MetaRow.value).where(rows.MetaRow.key == "schema"))
    if found is None:
        connection.execute(sql.insert(rows.MetaRow), {"key": "schema", "value": str(rows.SCHEMA)})
    elif int(found) > rows.SCHEMA:
        raise OperatorError(f"db: {url}: made by a later smartema (schema {found}, this one knows {rows.SCHEMA})")
    elif int(found) < rows.SCHEMA:
        upsert(connection, [(rows.MetaRow, {"key": "schema"}, {"value": str(rows.SCHEMA)})])


def add_reports(connection: Connection, reports: list[NewReport]) -> list[bool]:
    """True for each that is new."""
    table = rows.ReportRow
    keys = [(report.ema, report.request_id, report.mark) for report in reports]
    columns = (table.ema, table.request_id, table.mark)
    query = sql.select(*columns).where(sql.tuple_(*columns).in_(keys))
    known = {(ema, number, mark) for ema, number, mark in connection.execute(query)}
    fresh: list[bool] = []
    new: list[NewReport] = []
    tally: dict[str, list[int]] = {}
    for report, key in zip(reports, keys, strict=True):
        is_new = key not in known
        known.add(key)
        fresh.append(is_new)
        tally.setdefault(report.ema, [0, 0])[0 if is_new else 1] += 1
        if is_new:
            new.append(report)
    if new:
        connection.execute(
            sql.insert(table),
            [
                {
                    "ema": r.ema,
                    "request_id": r.request_id,
                    "mark": r.mark,
                    "at": r.at,
                    "received_at": r.received_at,
                    "devices": r.devices,
                }
                for r in new
            ],
        )
        add_samples(connection, [r.sample for r in new if r.sample is not None])
    for ema, (stored, doubled) in tally.items():
        counted = {f"{KEY}ema": ema, "more": stored, "again": doubled}
        if connection.execute(_COUNTED, counted).rowcount == 0:
            connection.execute(sql.insert(rows.ReportCountRow), {"ema": ema, "stored": stored, "duplicates": doubled})
    return fresh


def add_samples(connection: Connection, samples: list[dict[str, Any]]) -> list[None]:
    if samples:
        connection.execute(sql.insert(rows.SampleRow), samples)
    return [None] * len(samples)


Row = tuple[type[rows.Base], Mapping[str, Any], Mapping[str, Any]]


def as_rows(thing: object) -> list[Row]:
    """(table, key, values) of an object of ``state``."""
    match thing:
        case Ema():
            names = (
                "ven_id protocol registered_at connected last_seen power_w threshold_w margin_w generate_w storage_w "
                "measured_at"
            )
            return [(rows.EmaRow, {"name": thing.name}, {**_picked(thing, names), "mode": str(thing.mode)})]
        case Device():
            names = "kind number connected on dimming watt priority updated_at"
            values = {**_picked(thing, names), "details": dict(thing.details)}
            return [(rows.DeviceRow, {"ema": thing.ema, "id": thing.id}, values)]
        case Event():
            names = "modification start end value_w everyone cancelled created_at created_by changed_at planned_end"
            deliveries = [_delivery_row(thing.id, delivery) for delivery in thing.deliveries.values()]
            return [(rows.EventRow, {"id": thing.id}, _picked(thing, names)), *deliveries]
        case (int() as event_id, Delivery() as delivery):
            return [_delivery_row(event_id, delivery)]
        case Rdr():
            names = "ema number watts asked_at state why by answered_at"
            return [(rows.RdrRow, {"id": thing.id}, _picked(thing, names))]
        case DeviceCommand():
            names = "ema number action by at state why state_at"
            return [(rows.CommandRow, {"id": thing.id}, _picked(thing, names))]
    raise TypeError(f"{thing!r} has no table")


def _delivery_row(event_id: int, delivery: Delivery) -> Row:
    values = _picked(delivery, "removed sent attempts sent_at answered opt answered_at")
    return rows.DeliveryRow, {"event_id": event_id, "ema": delivery.ema}, values


def _picked(thing: object, names: str) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names.split()}


def upsert(connection: Connection, ready: list[Row]) -> None:
    """Update, else insert: the same words for every database, and this process is the only writer.

    One statement for all rows of one shape: to put words together for each takes longer than to run them, in a thread
    that keeps the loop from answering meanwhile.
    """
    shapes: dict[tuple[type[rows.Base], tuple[str, ...], tuple[str, ...]], list[dict[str, Any]]] = {}
    for table, key, values in ready:
        row = {f"{KEY}{name}": value for name, value in key.items()}
        row |= {f"{SET}{name}": value for name, value in values.items()}
        shapes.setdefault((table, tuple(key), tuple(values)), []).append(row)
    for (table, keys, names), many in shapes.items():
        update, insert = _update(table, keys, names), _insert(table, keys, names)
        if len(many) > 1 and connection.execute(update, many).rowcount == len(many):
            continue
        for row in many:
            if connection.execute(update, row).rowcount == 0:
                connection.execute(insert, row)


@functools.cache
def _update(table: type[rows.Base], keys: tuple[str, ...], names: tuple[str, ...]) -> sql.Update:
    where = [getattr(table, name) == sql.bindparam(f"{KEY}{name}") for name in keys]
    return sql.update(table).where(*where).values({name: sql.bindparam(f"{SET}{name}") for name in names})


@functools.cache
def _insert(table: type[rows.Base], keys: tuple[str, ...], names: tuple[str, ...]) -> sql.Insert:
    bound: dict[str, Any] = {name: sql.bindparam(f"{KEY}{name}") for name in keys}
    return sql.insert(table).values(bound | {name: sql.bindparam(f"{SET}{name}") for name in names})


def load(connection: Connection, since: float) -> Loaded:
    loaded = Loaded()
    for row in connection.execute(sql.select(rows.EmaRow.__table__)).mappings():
        loaded.emas[row["name"]] = Ema(**{**row, "mode": Mode(row["mode"]), "connected": False})
    for row in connection.execute(sql.select(rows.ReportCountRow.__table__)).mappings():
        ema = loaded.emas.get(row["ema"])
        if ema is not None:
            ema.reports, ema.duplicates = row["stored"], row["duplicates"]
    for ema in loaded.emas.values():
        _newest_power(connection, ema)
    for row in connection.execute(sql.select(rows.DeviceRow.__table__)).mappings():
        values = {("on" if name == "is_on" else name): value for name, value in row.items()}
        loaded.devices[row["ema"], row["id"]] = Device(**values)
    loaded.events = {event.id: event for event in load_events(connection, rows.EventRow.planned_end > since)}
    for row in connection.execute(sql.select(rows.LimitRow.__table__)).mappings():
        loaded.limits[row["scope"]] = row["watts"]
    for row in connection.execute(sql.select(rows.MetaRow.__table__)).mappings():
        loaded.meta[row["key"]] = row["value"]
    loaded.last_event = connection.scalar(sql.select(sql.func.max(rows.EventRow.id))) or 0
    loaded.last_rdr = connection.scalar(sql.select(sql.func.max(rows.RdrRow.id))) or 0
    loaded.last_command = connection.scalar(sql.select(sql.func.max(rows.CommandRow.id))) or 0
    # Their askers do not wait any more: silence was a denial.
    pending = sql.update(rows.RdrRow).where(rows.RdrRow.state == "pending")
    connection.execute(pending.values(state="denied", why="the EMS was restarted before it was answered", by="ems"))
    sent = sql.update(rows.CommandRow).where(rows.CommandRow.state == "sent")
    connection.execute(sent.values(state="failed", why="the EMS was restarted before it was confirmed"))
    return loaded


def _newest_power(connection: Connection, ema: Ema) -> None:
    """A report is on disk before what was made of it: after kill -9 the newest one counts."""
    sample = rows.SampleRow
    query = sql.select(sample.__table__).where(sample.ema == ema.name).order_by(sample.at.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    if row is not None and (ema.measured_at is None or row["at"] > ema.measured_at):
        ema.measured_at = row["at"]
        for name in ("power_w", "threshold_w", "margin_w", "generate_w", "storage_w"):
            setattr(ema, name, row[name])


def load_events(connection: Connection, *where: Any, most: int | None = None) -> list[Event]:
    """Events with their deliveries, newest first."""
    query = sql.select(rows.EventRow.__table__).where(*where).order_by(rows.EventRow.id.desc())
    events: dict[int, Event] = {}
    for row in connection.execute(query.limit(most) if most is not None else query).mappings():
        values = {("end" if name == "ends" else name): value for name, value in row.items()}
        events[row["id"]] = Event(**values)
    if events:
        ids = list(events)
        table = rows.DeliveryRow
        query = sql.select(table.__table__).where(table.event_id.between(min(ids), max(ids)))
        for row in connection.execute(query).mappings():
            values = dict(row)
            event = events.get(values.pop("event_id"))
            if event is not None:
                event.deliveries[row["ema"]] = Delivery(**values)
    return list(events.values())


def prune(connection: Connection, reports_before: float, samples_before: float) -> int:
    gone = 0
    report = rows.ReportRow
    columns = (report.ema, report.request_id, report.mark)
    keys = sql.select(*columns).where(report.received_at < reports_before).limit(PRUNE_ROWS)
    found = [tuple(key) for key in connection.execute(keys)]
    if found:
        old = sql.delete(report).where(sql.tuple_(*columns).in_(found))
        gone += connection.execute(old).rowcount
    for table, column in (
        (rows.SampleRow, rows.SampleRow.at),
        (rows.RdrRow, rows.RdrRow.asked_at),
        (rows.CommandRow, rows.CommandRow.at),
        (rows.AuditRow, rows.AuditRow.at),
    ):
        ids = connection.scalars(sql.select(table.id).where(column < samples_before).limit(PRUNE_ROWS)).all()
        if ids:
            gone += connection.execute(sql.delete(table).where(table.id.in_(ids))).rowcount
    ended = sql.select(rows.EventRow.id).where(rows.EventRow.planned_end < samples_before).limit(PRUNE_ROWS)
    events = connection.scalars(ended).all()
    if events:
        connection.execute(sql.delete(rows.DeliveryRow).where(rows.DeliveryRow.event_id.in_(events)))
        gone += connection.execute(sql.delete(rows.EventRow).where(rows.EventRow.id.in_(events))).rowcount
    return gone
