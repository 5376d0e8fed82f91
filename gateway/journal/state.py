"""The essential tables as the engine sees them: saved by row, read from memory."""

from __future__ import annotations

import logging
import threading
from typing import TypeVar

from gateway.clock import Clock
from gateway.errors import PeerError
from gateway.journal import plain
from gateway.journal.essential import Essential
from gateway.journal.saved import DeviceRow, Hold, SavedDevice, SavedEvent, absolute, relative
from gateway.journal.store import Connection
from gateway.journal.writer import Writer
from gateway.site.command import Command, CommandState
from gateway.site.decision import Decision
from gateway.site.event import DrEvent, Grant, Loan
from gateway.site.picture import ResourceState
from gateway.site.resource import Resource

log = logging.getLogger(__name__)

T = TypeVar("T")

# Events that are over and still known, so that an upstream that says one again gets the same answer.
EVENTS_KEPT = 256

# Keys of values: "contact/coap/7".
_CONTACT = "contact/"

_OPEN_STATES = (CommandState.WAITING, CommandState.SENT, CommandState.SENT_AGAIN)


class State:
    """Half of ``Journal``. Saves return at once and keep their order."""

    def __init__(self, essential: Essential, writer: Writer, lock: threading.Lock, clock: Clock) -> None:
        self._essential = essential
        self._writer = writer
        self._lock = lock
        self._clock = clock
        self._load()

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
                log.error("a command in the essential journal is not readable and passed over: %s", error)
                continue
            self._open_commands[command.number] = command

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

    def save_contact(self, link: str, number: int, text: str) -> None:
        """How a device is reached; its adapter alone reads the text."""
        self.save_value(f"{_CONTACT}{link}/{number}", text)

    def contacts(self, link: str) -> dict[int, str]:
        """Device → what was saved."""
        start = f"{_CONTACT}{link}/"
        return {int(key[len(start) :]): text for key, text in self._values.items() if key.startswith(start)}

    def forget_device(self, number: int) -> None:
        for key in [k for k in self._values if k.startswith(_CONTACT) and k.endswith(f"/{number}")]:
            del self._values[key]
            self._put(("value", key), "DELETE FROM value WHERE key = ?", key)
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

    def forget_event(self, upstream: str, event_id: int) -> None:
        """It is asked for no more."""
        if self._events.pop((upstream, event_id), None) is not None:
            sql = "DELETE FROM event WHERE upstream = ? AND event_id = ?"
            self._put(("event", upstream, event_id), sql, upstream, event_id)

    def _forget_old_events(self) -> None:
        now = self._clock.now()
        over = sorted((e for e in self._events.values() if _over(e.event) < now.wall), key=lambda e: _over(e.event))
        for saved in over[: len(self._events) - EVENTS_KEPT] if now.trusted else ():
            self.forget_event(saved.event.upstream, saved.event.event_id)

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

    def values(self, start: str) -> dict[str, str]:
        """All whose key begins so."""
        return {key: value for key, value in self._values.items() if key.startswith(start)}

    def remove_value(self, key: str) -> None:
        """It is needed no more."""
        if self._values.pop(key, None) is not None:
            self._put(("value", key), "DELETE FROM value WHERE key = ?", key)

    def _put(self, key: tuple[object, ...], sql: str, *parameters: object) -> None:
        with self._lock:
            self._essential.put(key, sql, *parameters)
            self._writer.hurry()
        self._writer.turn()


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
