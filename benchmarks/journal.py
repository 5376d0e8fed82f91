"""What the journal costs: a durable save under load, and records through the outbox (issue A, "Figures").

Each floor is SQLite itself with the same rows, the same pragmas and the same batches, run in turn with the figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.clock import SystemClock
from gateway.config.model import JournalConfig
from gateway.journal import Journal, packed, plain
from gateway.journal.store import WAL_PAGES
from gateway.site.command import Source
from gateway.site.decision import Action, Decision, Kept, Limit, Rule, Term
from gateway.site.report import DeviceLine, SiteReport
from gateway.site.resource import Setting

ROUNDS = 5
REPORTS_A_SECOND = 200
COMMITS = 100  # durable saves a round, 50 a second
COMMIT_EVERY_S = 0.02
RECORDS = 10_000
BATCH = 250
DEVICES = 20


# Of the records that 200 device reports a second make in DR mode 4: each tells the device that changed, and once a
# period all of them.
FULL_EVERY = 50


def report(number: int, full_every: int = FULL_EVERY) -> SiteReport:
    """A report as the EMA appends it."""
    told = range(DEVICES) if number % full_every == 0 else (number % DEVICES,)
    lines = tuple(DeviceLine(n, "led", True, 9, 60.0 + n, n % 5) for n in told)
    return SiteReport(1_760_000_000.0 + number, 812.5, 800.0, -12.5, -120.0, 50.0, lines)


def decision(number: int) -> Decision:
    actions = tuple(Action(f"lamp-{n}", n, Setting(on=False), -60.0, 0.0, Source.SHED, f"lamp-{n} off") for n in (1, 2))
    limit = Limit(800.0, None, terms=(Term("event 17", 800.0, 1_760_000_600.0),))
    return Decision(
        Rule.SHED, 1.76e9, 1012.0, limit, "over by 212 W", actions, (Kept("lamp-3", "never shed"),), 17, number
    )


async def commits(home: Path) -> float:
    """The 99th percentile of ``durable`` in ms, 50 decisions a second beside 200 reports a second."""
    journal = Journal.open(home, home, JournalConfig(), SystemClock())
    reader = journal.reader("ems")
    times: list[float] = []

    async def load() -> None:
        number = 0
        due = time.perf_counter()
        while True:
            record = journal.append(report(number))
            number += 1
            if number % BATCH == 0:
                reader.acknowledge(record.boot, record.seq)
            due += 1 / REPORTS_A_SECOND
            await asyncio.sleep(max(due - time.perf_counter(), 0))

    task = asyncio.create_task(load())
    due = time.perf_counter()
    for _ in range(COMMITS):
        start = time.perf_counter()
        journal.save_decision(decision(journal.next_decision_id()))
        await journal.durable()
        times.append(time.perf_counter() - start)
        due += COMMIT_EVERY_S
        await asyncio.sleep(max(due - time.perf_counter(), 0))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await journal.close()
    return _p99(times) * 1000


def bare_commits(home: Path) -> float:
    """The same decisions, each in a synced commit of its own, with nothing beside it."""
    connection = _bare(home / "bare-essential.db", "FULL")
    connection.execute("CREATE TABLE decision (n INTEGER PRIMARY KEY, id INTEGER, devices TEXT, body TEXT)")
    times: list[float] = []
    due = time.perf_counter()
    for number in range(COMMITS):
        body = plain.dumps(decision(number))
        start = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO decision VALUES (?, ?, ?, ?)", (number, number, "|lamp-1|lamp-2|", body))
        connection.execute("COMMIT")
        times.append(time.perf_counter() - start)
        due += COMMIT_EVERY_S
        time.sleep(max(due - time.perf_counter(), 0))
    connection.close()
    return _p99(times) * 1000


async def outbox(home: Path, full_every: int = FULL_EVERY) -> float:
    """Reports a second through append, read and acknowledge, in batches of 250, all of it in the file."""
    journal = Journal.open(home, home, JournalConfig(), SystemClock())
    reader = journal.reader("ems")
    bodies = [report(number, full_every) for number in range(BATCH)]
    start = time.perf_counter()
    done = 0
    while done < RECORDS:
        for body in bodies:
            journal.append(body)
        await journal.outbox_written()
        records = reader.unacknowledged(None, BATCH)
        reader.acknowledge(records[-1].boot, records[-1].seq)
        done += len(records)
    await journal.outbox_written()
    elapsed = time.perf_counter() - start
    await journal.close()
    return done / elapsed


def bare_outbox(home: Path, full_every: int = FULL_EVERY) -> float:
    """The same rows, their bodies there before the time begins, inserted, read and deleted in the same batches."""
    connection = _bare(home / "bare-outbox.db", "NORMAL")
    connection.execute(
        "CREATE TABLE record (position INTEGER PRIMARY KEY, at REAL, size INTEGER, kind TEXT, body TEXT)"
    )
    made = [packed.dumps(report(number, full_every)) for number in range(BATCH)]
    insert = "INSERT INTO record VALUES (?, ?, ?, ?, ?)"
    start = time.perf_counter()
    done = 0
    while done < RECORDS:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, [(done + n, 1.0, len(b), "report", b) for n, b in enumerate(made)])
        connection.execute("COMMIT")
        found = connection.execute("SELECT * FROM record ORDER BY position LIMIT ?", (BATCH,)).fetchall()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM record WHERE position <= ?", (found[-1][0],))
        connection.execute("COMMIT")
        done += len(found)
    elapsed = time.perf_counter() - start
    connection.close()
    return done / elapsed


def _bare(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in (
        "journal_mode=WAL",
        f"synchronous={synchronous}",
        f"wal_autocheckpoint={WAL_PAGES}",
        "cache_size=-256",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _p99(times: list[float]) -> float:
    return sorted(times)[min(int(len(times) * 0.99), len(times) - 1)]


def run() -> list[dict[str, Any]]:
    """Rows of ``bench.json``. ``outbox_full``: every record tells all 20 devices, so that packing costs most."""
    measures: dict[str, tuple[Callable[[Path], float], Callable[[Path], float], str]] = {
        "commit_p99": (lambda home: asyncio.run(commits(home)), bare_commits, "ms"),
        "outbox": (lambda home: asyncio.run(outbox(home)), bare_outbox, "records/s"),
        "outbox_full": (lambda home: asyncio.run(outbox(home, 1)), lambda home: bare_outbox(home, 1), "records/s"),
    }
    table = []
    for name, (figure, floor, unit) in measures.items():
        values: list[float] = []
        floors: list[float] = []
        for _ in range(ROUNDS):
            floors.append(_in_a_fresh_directory(floor))
            values.append(_in_a_fresh_directory(figure))
        value, least = statistics.median(values), statistics.median(floors)
        row = {"name": name, "value": round(value, 3), "unit": unit, "floor": round(least, 3)}
        table.append({**row, "ratio": round(value / least, 3), "on": platform.machine()})
    return table


def _in_a_fresh_directory(measure: Callable[[Path], float]) -> float:
    home = Path(tempfile.mkdtemp(prefix="bench-journal-"))
    try:
        return measure(home)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
