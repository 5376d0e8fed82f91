"""What must survive (docs/journal.md): one object for the engine, two files on disk.

Saves return at once and keep their order; ``durable`` waits for the disk. Reads answer from memory, but for old
decisions and old outbox records.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from gateway.clock import EARLIEST_TRUSTED_WALL, Clock
from gateway.config.model import JournalConfig
from gateway.errors import PeerError
from gateway.journal import plain
from gateway.journal.essential import Essential, Statement
from gateway.journal.numbers import PUT, Numbers
from gateway.journal.outbox import Outbox, wal_pages
from gateway.journal.saved import DeviceRow, Hold, SavedDevice, SavedEvent, absolute, relative
from gateway.journal.store import (
    Connection,
    Connector,
    DamagedError,
    is_damage,
    open_store,
    operator_error,
    set_aside,
    transaction,
)
from gateway.journal.writer import Waiters, Writer
from gateway.site.command import Command, CommandState
from gateway.site.decision import Decision
from gateway.site.event import DrEvent, Grant, Loan
from gateway.site.picture import ResourceState
from gateway.site.report import OutboxBody, Record
from gateway.site.resource import Resource
from gateway.upstream.base import OutboxReader

log = logging.getLogger(__name__)

T = TypeVar("T")

# Events that are over and still known, so that an upstream that says one again gets the same answer.
EVENTS_KEPT = 256
# What is known of the outbox is noted in the essential file with every commit there, and at least this often.
NOTE_EVERY_S = 600.0

_OPEN_STATES = (CommandState.WAITING, CommandState.SENT, CommandState.SENT_AGAIN)


class Journal:
    """See ``open``. All methods are called from the loop's thread."""

    def __init__(
        self, essential: Connection, outbox: Outbox, config: JournalConfig, clock: Clock, threaded: bool, path: Path
    ) -> None:
        self._clock = clock
        self._path = path
        self._lock = outbox.lock
        self._essential = Essential(essential, self._lock, config.decisions_kept)
        self._outbox = outbox
        self._writer = Writer(self._lock, (self._essential, outbox), threaded)
        self._closed = False
        self._noted_at = clock.monotonic()
        self._notes: list[tuple[str, int, int, int]] | None = None
        self.boot = 0
        self._load()

    @classmethod
    def open(
        cls,
        state_dir: Path,
        outbox_dir: Path,
        config: JournalConfig,
        clock: Clock,
        *,
        connector: Connector | None = None,
        threaded: bool = True,
    ) -> Journal:
        """Open or create ``essential.db`` and ``outbox.db``; this start's number is on disk when it returns.

        ``threaded=False`` writes within the calls: for many EMAs in one process, and for virtual time.
        A damaged file is set aside (``<name>.damaged``) and a new one begun, said at ERROR.
        Raise ``OperatorError`` (path and what to do): not writable, full, in use, or of a newer smartema.
        """
        connector = connector or Connector()
        path, outbox_path = state_dir / "essential.db", outbox_dir / "outbox.db"
        salvaged: dict[str, int] | None = None
        try:
            essential = open_store(connector, path, "essential", essential=True)
        except DamagedError:
            salvaged = _salvage(connector, path)
            log.error(
                "%s is damaged and set aside as %s: devices, events and grants are taken up anew, decisions are lost",
                path,
                set_aside(path),
            )
            essential = open_store(connector, path, "essential", essential=True)
        try:
            outbox = _open_outbox(connector, outbox_path, config, clock)
            try:
                journal = cls(essential, outbox, config, clock, threaded, path)
                journal._begin(salvaged)
            except BaseException:
                outbox.close()
                raise
        except BaseException as error:
            essential.close()
            if isinstance(error, sqlite3.Error):
                raise operator_error(path, error) from error
            raise
        journal._writer.start()
        return journal

    def _begin(self, salvaged: dict[str, int] | None) -> None:
        """Number this start, and reserve what it will number, on disk."""
        counters = {
            str(name): int(value)
            for name, value in self._essential.connection.execute("SELECT name, value FROM counter")
        }
        known = [counters, self._outbox.marks, salvaged or {}]
        first = {name: max(found.get(name, 0) for found in known) for name in ("boot", "command", "decision")}
        if salvaged is not None and not first["boot"]:
            first = self._from_the_clock()
        self.boot = first["boot"] + 1
        self._commands = Numbers("command", max(first["command"], 1), self._essential)
        self._decisions = Numbers("decision", max(first["decision"], 1), self._essential)
        reserved = {"boot": self.boot, "command": self._commands.upto, "decision": self._decisions.upto}
        notes = list(self._essential.connection.execute("SELECT upstream, lost, waiting, appended FROM outbox_note"))
        for upstream, missing in self._outbox.account(notes).items():
            log.warning("the outbox lost at least %d reports for %s that were not acknowledged", missing, upstream)
        self._outbox.boot = self.boot
        self._outbox.marks.update(reserved)
        rows: list[Statement] = [(PUT, item) for item in reserved.items()]
        transaction(self._essential.connection, rows + self._note_rows())
        self._essential.notes = self._note_rows
        self._outbox.want = self._writer.want
        self._outbox.turn = self._writer.turn
        with self._lock:
            self._writer.want()

    def _from_the_clock(self) -> dict[str, int]:
        """Higher than any number ever given, when nothing says which were: minutes and seconds since 2025."""
        now = self._clock.now()
        since = int(now.wall - EARLIEST_TRUSTED_WALL) if now.trusted else 0
        if not since:
            log.error("numbers of starts and commands begin anew: no file and no clock tells which were used")
        return {"boot": since // 60, "command": since, "decision": since}

    def _load(self) -> None:
        connection = self._essential.connection
        self._devices = {row.resource.number: row for row in _bodies(connection, "device", DeviceRow)}
        events = _bodies(connection, "event", SavedEvent)
        self._events = {(saved.event.upstream, saved.event.event_id): saved for saved in events}
        self._grants = [
            Grant(*row) for row in connection.execute("SELECT upstream, resource, watts, until FROM granted")
        ]
        loans = [Loan(*row) for row in connection.execute("SELECT loan_id, peer, watts, until FROM loan")]
        self._loans = {(loan.peer, loan.loan_id): loan for loan in loans}
        self._values: dict[str, str] = dict(connection.execute("SELECT key, value FROM value"))
        now = self._clock.now()
        self._open_commands: dict[int, Command] = {}
        for at, body in connection.execute("SELECT at, body FROM command ORDER BY id"):
            try:
                command = absolute(plain.loads(Command, body), at, now)
            except PeerError as error:
                log.error("%s: a command is not readable and passed over: %s", self._path, error)
                continue
            self._open_commands[command.number] = command

    # --- numbers ---

    def next_command_id(self) -> int:
        """A number that no command of this EMA ever had or will have."""
        return self._number(self._commands)

    def next_decision_id(self) -> int:
        return self._number(self._decisions)

    def _number(self, numbers: Numbers) -> int:
        with self._lock:
            if numbers.exhausted():
                self._writer.hurry()
        if numbers.exhausted():
            self._writer.turn(urgent=True)
        with self._lock:
            number = numbers.next()
            reserving = self._outbox.mark(numbers.name, numbers.asked)
            if reserving:
                self._writer.hurry()
        if reserving:
            self._writer.turn(urgent=True)
        return number

    # --- devices ---

    def save_device(self, announced: Resource, link: str, address: str) -> None:
        """A device as it announced itself; how it was held stays."""
        before = self._devices.get(announced.number)
        self._put_device(DeviceRow(announced, link, address, before.hold if before else None))

    def save_hold(self, state: ResourceState) -> None:
        """How control holds a device, so that a restarted EMA takes up what is running."""
        hold = Hold.of(state, self._clock.now())
        before = self._devices.get(state.resource.number) or DeviceRow(state.resource)
        self._put_device(DeviceRow(before.resource, before.link, before.address, hold))

    def _put_device(self, row: DeviceRow) -> None:
        number = row.resource.number
        if self._devices.get(number) != row:
            self._devices[number] = row
            body = plain.dumps(row)
            self._put(("device", number), "INSERT OR REPLACE INTO device (number, body) VALUES (?, ?)", number, body)

    def forget_device(self, number: int) -> None:
        if self._devices.pop(number, None) is not None:
            self._put(("device", number), "DELETE FROM device WHERE number = ?", number)

    def devices(self) -> list[SavedDevice]:
        """All that ever announced themselves and were not forgotten."""
        now = self._clock.now()
        return [
            SavedDevice(row.resource, row.link, row.address, row.hold.state(row.resource, now) if row.hold else None)
            for row in self._devices.values()
        ]

    # --- events, grants, loans ---

    def save_event(self, event: DrEvent, opted: bool | None) -> None:
        """An event as it stands now, and how it was answered (None: not yet)."""
        key = (event.upstream, event.event_id)
        saved = SavedEvent(event, opted)
        if self._events.get(key) == saved:
            return
        self._events[key] = saved
        sql = "INSERT OR REPLACE INTO event (upstream, event_id, body) VALUES (?, ?, ?)"
        self._put(("event", *key), sql, *key, plain.dumps(saved))
        if len(self._events) > EVENTS_KEPT:
            self._forget_old_events()

    def _forget_old_events(self) -> None:
        now = self._clock.now()
        over = sorted((e for e in self._events.values() if _over(e.event) < now.wall), key=lambda e: _over(e.event))
        for saved in over[: len(self._events) - EVENTS_KEPT] if now.trusted else ():
            key = (saved.event.upstream, saved.event.event_id)
            del self._events[key]
            self._put(("event", *key), "DELETE FROM event WHERE upstream = ? AND event_id = ?", *key)

    def events(self, not_ended_before: float) -> list[SavedEvent]:
        """Those whose end (of a cancelled one: start or end) is at or after that wall moment."""
        return [saved for saved in self._events.values() if _over(saved.event) >= not_ended_before]

    def save_grant(self, grant: Grant) -> None:
        now = self._clock.now()
        for old in [g for g in self._grants if now.trusted and g.until <= now.wall]:
            self.remove_grant(old)
        if grant not in self._grants:
            self._grants.append(grant)
            self._put_grant(
                "INSERT OR REPLACE INTO granted (upstream, resource, watts, until) VALUES (?, ?, ?, ?)", grant
            )

    def remove_grant(self, grant: Grant) -> None:
        if grant in self._grants:
            self._grants.remove(grant)
            self._put_grant(
                "DELETE FROM granted WHERE upstream = ? AND resource = ? AND watts = ? AND until = ?", grant
            )

    def _put_grant(self, sql: str, grant: Grant) -> None:
        row = (grant.upstream, grant.resource, grant.watts, grant.until)
        self._put(("grant", *row), sql, *row)

    def grants(self) -> list[Grant]:
        return list(self._grants)

    def save_loan(self, loan: Loan) -> None:
        self._loans[loan.peer, loan.loan_id] = loan
        sql = "INSERT OR REPLACE INTO loan (peer, loan_id, watts, until) VALUES (?, ?, ?, ?)"
        self._put(("loan", loan.peer, loan.loan_id), sql, loan.peer, loan.loan_id, loan.watts, loan.until)

    def remove_loan(self, loan: Loan) -> None:
        key = (loan.peer, loan.loan_id)
        if self._loans.pop(key, None) is not None:
            self._put(("loan", *key), "DELETE FROM loan WHERE peer = ? AND loan_id = ?", *key)

    def loans(self) -> list[Loan]:
        return list(self._loans.values())

    # --- commands, decisions, values ---

    def save_command(self, command: Command, at: float) -> None:
        """A command as it stands at wall moment ``at``; one that ended is forgotten. A device has one open command:
        a newer one takes the older one's place."""
        with self._lock:
            before = self._open_commands.get(command.number)
            if before is not None and before.id != command.id and before.id < command.id:
                self._close_command(before.id)
            if command.state in _OPEN_STATES:
                self._open_commands[command.number] = command
                body = plain.dumps(relative(command, self._clock.now()))
                sql = "INSERT OR REPLACE INTO command (id, at, body) VALUES (?, ?, ?)"
                self._essential.put(("command", command.id), sql, command.id, at, body)
            else:
                if before is not None and before.id == command.id:
                    del self._open_commands[command.number]
                self._close_command(command.id)
            self._writer.hurry()
        self._writer.turn()

    def _close_command(self, number: int) -> None:
        key = ("command", number)
        self._essential.withdraw(key, number in self._essential.commands, "DELETE FROM command WHERE id = ?", number)

    def open_commands(self) -> list[Command]:
        """Not confirmed, not failed; times on this process's monotonic clock."""
        return sorted(self._open_commands.values(), key=lambda command: command.id)

    def save_decision(self, decision: Decision) -> None:
        names = dict.fromkeys([a.resource for a in decision.actions] + [k.resource for k in decision.kept])
        devices = f"|{'|'.join(names)}|"
        body = plain.dumps(decision)
        with self._lock:
            self._essential.add_decision(decision.id, devices, body)
            self._writer.hurry()
        self._writer.turn()

    def decisions(self, last: int, device: str | None = None) -> list[Decision]:
        """The newest ``last``, oldest of them first; with ``device`` only those that did or left something there."""
        found = []
        for body in self._essential.decision_bodies(last, device):
            try:
                found.append(plain.loads(Decision, body))
            except PeerError as error:
                log.warning("a decision in the journal is not readable: %s", error)
        return found[::-1]

    def save_value(self, key: str, value: str) -> None:
        """Identities, the last threshold, small things."""
        if self._values.get(key) != value:
            self._values[key] = value
            self._put(("value", key), "INSERT OR REPLACE INTO value (key, value) VALUES (?, ?)", key, value)

    def value(self, key: str) -> str | None:
        return self._values.get(key)

    def _put(self, key: tuple[object, ...], sql: str, *parameters: object) -> None:
        with self._lock:
            self._essential.put(key, sql, *parameters)
            self._writer.hurry()
        self._writer.turn()

    async def durable(self) -> None:
        """Return when everything essential handed in so far is on disk.

        Raise ``JournalError`` when it could not be written; it stays in memory, in order, and is tried again.
        """
        await self._written(self._essential.waiters)

    async def _written(self, waiters: Waiters) -> None:
        with self._lock:
            future = waiters.wait(asyncio.get_running_loop())
            if future is not None:
                self._writer.hurry()
        if future is not None:
            self._writer.turn(urgent=True)
            await future

    # --- outbox ---

    def append(self, body: OutboxBody) -> Record:
        """Number a report and keep it for every upstream that has a reader."""
        record = self._outbox.append(body)
        if self._clock.monotonic() - self._noted_at > NOTE_EVERY_S:
            with self._lock:
                self._noted_at = self._clock.monotonic()
                self._essential.touch()
                self._writer.want()
        return record

    def reader(self, upstream: str) -> OutboxReader:
        """That upstream's reader, always the same one; a new upstream begins behind what is there."""
        return self._outbox.reader(upstream)

    def readers(self) -> tuple[str, ...]:
        """Upstreams that have a reader, of earlier starts too: one that is configured no more must be dropped."""
        return self._outbox.names()

    async def outbox_written(self) -> None:
        """Return when the outbox's file has all that was appended and acknowledged so far (a kill cannot take it; a
        power cut can). Raise ``JournalError``."""
        await self._written(self._outbox.waiters)

    def drop_reader(self, upstream: str) -> None:
        self._outbox.drop_reader(upstream)

    def _note_rows(self) -> list[Statement]:
        """What is known of the outbox, to go with an essential commit (lock held)."""
        notes = self._outbox.notes()
        if notes == self._notes:
            return []
        self._notes = notes
        sql = "INSERT OR REPLACE INTO outbox_note (upstream, lost, waiting, appended) VALUES (?, ?, ?, ?)"
        return [("DELETE FROM outbox_note", ()), *((sql, note) for note in notes)]

    # --- state, end ---

    def status(self) -> dict[str, object]:
        """For `smartema status`: what waits for the disk, what was lost, what is wrong now (``problems``)."""
        return {
            "boot": self.boot,
            "problems": self._writer.failing(),
            "not_written": self._essential.waiting(),
            "dropped_decisions": self._essential.dropped_decisions,
            "outbox": self._outbox.status(),
        }

    async def close(self) -> None:
        """Write what is left, and close both files."""
        if self._closed:
            return
        self._closed = True
        with self._lock:
            self._commands.give_back()
            self._decisions.give_back()
            for numbers in (self._commands, self._decisions):
                self._outbox.mark(numbers.name, numbers.asked)
        await self._writer.stop()
        for connection_owner in (self._outbox, self._essential):
            connection_owner.close()


def _over(event: DrEvent) -> float:
    return max(event.start, event.end)


def _bodies(connection: Connection, table: str, cls: type[T]) -> list[T]:
    found = []
    for (body,) in connection.execute(f"SELECT body FROM {table}"):
        try:
            found.append(plain.loads(cls, body))
        except PeerError as error:
            log.error("a row of %s in the essential journal is not readable and passed over: %s", table, error)
    return found


def _open_outbox(connector: Connector, path: Path, config: JournalConfig, clock: Clock) -> Outbox:
    def reopen() -> tuple[Connection, Connection]:
        set_aside(path)
        return connect()

    def connect() -> tuple[Connection, Connection]:
        pages = wal_pages(config.outbox_max_bytes)
        writing = open_store(connector, path, "outbox", essential=False, wal_pages=pages)
        return writing, connector.read(path, writing)

    def load(pair: Callable[[], tuple[Connection, Connection]]) -> Outbox:
        connection, reading = pair()
        try:
            return Outbox(connection, reading, config, clock, threading.Lock(), reopen)
        except sqlite3.Error as error:
            reading.close()
            connection.close()
            if is_damage(error):
                raise DamagedError(str(path)) from error
            raise operator_error(path, error) from error

    try:
        return load(connect)
    except DamagedError:
        log.error("%s is damaged and set aside; what it held and nobody acknowledged is lost", path)
        return load(reopen)


def _salvage(connector: Connector, path: Path) -> dict[str, int]:
    """The counters of a damaged file, as far as they can be read."""
    found: dict[str, int] = {}
    try:
        connection = connector.write(path)
        try:
            rows: Iterable[tuple[str, int]] = connection.execute("SELECT name, value FROM counter")
            for name, value in rows:
                found[str(name)] = int(value)
        finally:
            connection.close()
    except (sqlite3.Error, ValueError, TypeError):
        pass
    return found
