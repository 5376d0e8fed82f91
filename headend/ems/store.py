"""What must survive, in SQL: SQLite (WAL, synchronous FULL) by default, any database that SQLAlchemy speaks.

A report is acknowledged to its EMA only in the ``done`` of ``add_report``: after the commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from gateway.errors import OperatorError
from headend.ems import models as rows
from headend.ems import records
from headend.ems.records import Loaded, NewReport
from headend.ems.state import ReportCount
from headend.ems.writer import Writer

T = TypeVar("T")
Done = Callable[[T | None, Exception | None], None]

# More waiting reports than this and new ones are not taken: their EMAs keep them and send them again.
MOST_WAITING = 20_000
# How long a write waits for somebody else's lock (a backup) before it is an error.
LOCK_WAIT_S = 10


class Store:
    """One database, one EMS. Writes go through ``writer`` in order; reads run in threads beside it.

    ``creator``: opens the one connection (DB-API, SQLite) that is used for both, in place of the URL.
    """

    def __init__(
        self, url: str, logger: logging.Logger | None = None, creator: Callable[[], Any] | None = None
    ) -> None:
        self._log = logger or logging.getLogger("smartema.ems")
        self._url = url
        self._creator = creator
        self._engine: Engine | None = None
        self._writer: Writer | None = None
        self._memory = False

    async def open(self) -> None:
        """Connect and make what is missing. Raise ``OperatorError`` when that cannot be."""
        self._engine = await asyncio.to_thread(self._connect)
        self._writer = Writer(self._engine, self._log)
        self._writer.start()

    def _connect(self) -> Engine:
        try:
            url = sql.make_url(self._url)
            options: dict[str, Any] = {}
            sqlite = url.get_backend_name() == "sqlite"
            if self._creator is not None:
                self._memory = True
                options = {"creator": self._creator, "poolclass": StaticPool}
            elif sqlite:
                self._memory = not url.database or url.database == ":memory:"
                options["connect_args"] = {"check_same_thread": False}
                if "timeout" not in url.query:
                    options["connect_args"]["timeout"] = LOCK_WAIT_S
                if self._memory:
                    options["poolclass"] = StaticPool
                else:
                    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            engine = sql.create_engine(url, **options)
            if sqlite:
                sql.event.listen(engine, "connect", _sqlite_settings)
            rows.Base.metadata.create_all(engine)
            with engine.begin() as connection:
                records.check_schema(connection, self._url)
        except (SQLAlchemyError, ImportError, OSError) as err:
            raise OperatorError(f"db: {self._shown()}: {str(err).splitlines()[0]}") from err
        return engine

    def _shown(self) -> str:
        try:
            return sql.make_url(self._url).render_as_string(hide_password=True)
        except SQLAlchemyError:
            return "not a database URL"

    async def close(self) -> None:
        """Commit what waits, and end."""
        if self._writer is not None:
            await self._writer.close()
        if self._engine is not None:
            await asyncio.to_thread(self._engine.dispose)

    @property
    def writer(self) -> Writer:
        assert self._writer is not None, "the store is not open"
        return self._writer

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query in a thread, so that the loop goes on."""
        if self._memory:
            return await self.writer.run(work)
        engine = self._engine
        assert engine is not None

        def query() -> T:
            with engine.connect() as connection:
                return work(connection)

        return await asyncio.to_thread(query)

    # Reports

    def add_report(self, report: NewReport, done: Done[bool]) -> bool:
        """Store a report once; ``done(fresh, error)`` after the commit. False: too many wait, it was not taken."""
        if len(self.writer) >= MOST_WAITING:
            return False
        self.writer.submit_item(records.add_reports, report, done)
        return True

    async def counts(self) -> dict[str, ReportCount]:
        """Reports of each EMA."""
        query = sql.select(rows.ReportCountRow.ema, rows.ReportCountRow.stored, rows.ReportCountRow.duplicates)
        found = await self.read(lambda connection: connection.execute(query).all())
        return {ema: ReportCount(stored, doubled) for ema, stored, doubled in found}

    # Everything else

    def save(self, things: Iterable[object], done: Done[None] | None = None) -> None:
        """Write objects of ``state`` through, behind the caller; a failure is in the log."""
        ready = [row for thing in things for row in records.as_rows(thing)]
        self.writer.submit(lambda connection: records.upsert(connection, ready), done or _nothing)

    async def save_now(self, *things: object) -> None:
        """The same, and return after the commit. Raise what the database raised."""
        ready = [row for thing in things for row in records.as_rows(thing)]
        await self.writer.run(lambda connection: records.upsert(connection, ready))

    async def set_meta(self, key: str, value: str) -> None:
        """Keep a setting that an operator changed."""
        await self.writer.run(
            lambda connection: records.upsert(connection, [(rows.MetaRow, {"key": key}, {"value": value})])
        )

    async def set_limit(self, scope: str, watts: float | None) -> None:
        """Keep a limit; None removes it."""

        def work(connection: Connection) -> None:
            if watts is None:
                connection.execute(sql.delete(rows.LimitRow).where(rows.LimitRow.scope == scope))
            else:
                records.upsert(connection, [(rows.LimitRow, {"scope": scope}, {"watts": watts})])

        await self.writer.run(work)

    def add_sample(self, sample: dict[str, Any]) -> None:
        """A point of the power series that no report carried (a margin)."""
        if len(self.writer) < MOST_WAITING:
            self.writer.submit_item(records.add_samples, sample, _nothing)

    def audit(self, at: float, account: str, source: str, action: str, detail: str) -> None:
        """Who did what. Never a secret."""
        row = {"at": at, "account": account, "source": source, "action": action, "detail": detail[:2000]}
        self.writer.submit(lambda connection: connection.execute(sql.insert(rows.AuditRow), row), _nothing)

    async def load(self, since: float) -> Loaded:
        """All that is current; events whose end is later than ``since``."""
        return await self.writer.run(lambda connection: records.load(connection, since))

    async def prune(self, reports_before: float, samples_before: float) -> int:
        """Remove what is older, a bounded number of rows a call; how many went."""
        return await self.writer.run(lambda connection: records.prune(connection, reports_before, samples_before))


def cannot_ever(error: Exception) -> bool:
    """Is what was to be written at fault, so that it fails each time. Anything else (busy, full, broken, a fault of
    ours) may work later."""
    return isinstance(error, DataError | OverflowError | UnicodeError)


def _nothing(_result: object, _error: Exception | None) -> None:
    """The writer has logged it."""


def _sqlite_settings(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: what was acknowledged to an EMA survives a power cut, not only a crash of this process.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
