"""The EMS as the coordinator of negotiations between EMAs (docs/negotiation.md, "The coordinator").

The ledger is in the database; a message leaves after the commit of what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Connection

from gateway.control.negotiation.book import CoordinatorRules, Sharing
from gateway.control.negotiation.ledger import Entry, Stage
from gateway.control.negotiation.messages import FromCoordinator, FromMember
from gateway.control.negotiation.step import News
from gateway.coordinator_desk import RESERVED, CoordinatorDesk, Rows
from headend.ems import models
from headend.ems.book import Book
from headend.ems.events import EventDesk
from headend.ems.lab_members import LabMembers
from headend.ems.records import Row, upsert
from headend.ems.state import Ema

# Shown to who looks; the log has them all.
NEWS_KEPT = 200
_RESERVED = "loan_numbers"


@dataclass(frozen=True, slots=True)
class LoadedLoans:
    """What the database holds."""

    entries: tuple[Entry, ...] = ()
    reserved: int | None = None
    members: tuple[str, ...] = ()


@dataclass(slots=True)
class Told:
    """One line of what became of asks and loans."""

    at: float
    kind: str
    number: int
    why: str


@dataclass(frozen=True, slots=True)
class LoanView:
    """A loan in the book, in W. ``left_s`` at most; both sides end it by their own clocks."""

    id: int
    lender: str
    borrower: str
    watts: float
    price: int
    stage: str
    left_s: float


@dataclass(frozen=True, slots=True)
class NegotiationView:
    """The ledger, what is offered, and what became of the last asks. The sum of ``balances_w`` is 0."""

    going: int | None
    members: list[str]
    offers: list[dict[str, Any]]
    loans: list[LoanView]
    balances_w: dict[str, float]
    news: list[dict[str, Any]] = field(default_factory=list)


def load_loans(connection: Connection) -> LoadedLoans:
    """The rows of an earlier start."""
    entries = [
        Entry(**{**row, "stage": Stage(row["stage"]), "until": 0.0})
        for row in connection.execute(sql.select(models.LoanRow.__table__)).mappings()
    ]
    reserved = connection.scalar(sql.select(models.MetaRow.value).where(models.MetaRow.key == _RESERVED))
    members = connection.scalars(sql.select(models.MemberRow.name)).all()
    return LoadedLoans(tuple(entries), None if reserved is None else int(reserved), tuple(members))


class NegotiationDesk:
    """``load`` before anything else. A head says what members say; ``tick`` keeps its times."""

    def __init__(self, book: Book, events: EventDesk) -> None:
        self._book = book
        self.lab = LabMembers(book, events, lambda name, message: self.desk.heard(name, message))
        self._desk: CoordinatorDesk | None = None
        self._known: set[str] = set()  # who ever took part, restarts included
        self.news: list[Told] = []

    def load(self, loaded: LoadedLoans, going: int | None) -> None:
        """Take up the ledger."""
        book = self._book
        self._known = set(loaded.members)
        settings = book.settings
        rules = CoordinatorRules(
            sharing=Sharing(settings.loan_sharing),
            answer_s=settings.loan_answer_s,
            longest_s=int(settings.loan_longest_s),
        )
        self._desk = CoordinatorDesk(
            book.clock, self, self._say, self._tell, book.wake, loaded.entries, loaded.reserved, rules
        )
        self._desk.at_price(going)

    @property
    def desk(self) -> CoordinatorDesk:
        assert self._desk is not None, "the desk is not loaded"
        return self._desk

    # What EMAs say and do

    def heard(self, ema: Ema, message: FromMember) -> None:
        """A member speaks."""
        if ema.name not in self._known:
            self._known.add(ema.name)
            name = ema.name
            self._book.store.writer.submit(lambda connection: _add_member(connection, name), _nothing)
        self.desk.heard(ema.name, message)

    def came(self, name: str) -> None:
        """It is there (again)."""
        if self._desk is not None and name in self._known:
            self._desk.came(name)

    def gone(self, name: str) -> None:
        """It cannot be reached."""
        if self._desk is not None:
            self._desk.gone(name)

    def at_price(self, going: int | None) -> None:
        """The negotiation price that an operator set."""
        self.desk.at_price(going)

    def tick(self) -> float | None:
        """Do what is due; monotonic seconds of the next."""
        self.lab.tick()
        return self._desk.tick() if self._desk is not None else None

    # What is shown

    def view(self) -> NegotiationView:
        """The ledger now."""
        state, now = self.desk.state, self._book.clock.monotonic()
        loans = [
            LoanView(e.loan_id, e.lender, e.borrower, e.mw / 1000, e.price, e.stage.value, max(e.until - now, 0.0))
            for e in state.ledger.entries.values()
        ]
        offers = [{"ema": name, "watts": o.mw / 1000, "price": o.price} for name, o in sorted(state.offers.items())]
        balances = {name: mw / 1000 for name, mw in sorted(self.desk.balances().items())}
        news = [asdict(told) for told in reversed(self.news)]
        return NegotiationView(state.going, sorted(state.members), offers, loans, balances, news)

    # What the coordinator does

    def save(self, rows: Rows, done: Callable[[Exception | None], None]) -> None:
        """To the database, as one commit's part; ``done`` after it (``coordinator_desk.Disk``)."""
        if self._book.closed:
            return
        self._book.store.writer.submit(lambda connection: _write(connection, rows), lambda _, error: done(error))

    def _say(self, member: str, message: FromCoordinator) -> None:
        if member in self.lab:
            self.lab.told(member, message)
            return
        ema = self._book.emas.get(member)
        head = self._book.head(ema) if ema is not None else None
        if head is not None and head.negotiates:
            head.negotiate(member, message)

    def _tell(self, news: News) -> None:
        told = Told(self._book.wall, news.kind.value, news.number, news.why)
        self.news = [*self.news[-NEWS_KEPT:], told]
        self._book.log.info("negotiation: %s: %s", told.kind, told.why)
        self._book.changed("loan", None, asdict(told))


def _write(connection: Connection, rows: Rows) -> None:
    ready: list[Row] = []
    gone: list[int] = []
    for key, body in rows.items():
        if key == RESERVED:
            ready.append((models.MetaRow, {"key": _RESERVED}, {"value": str(body)}))
        elif isinstance(body, Entry):
            values = {name: value for name, value in asdict(body).items() if name not in ("loan_id", "until")}
            ready.append((models.LoanRow, {"loan_id": body.loan_id}, {**values, "stage": body.stage.value}))
        else:
            gone.append(key[1])
    upsert(connection, ready)
    if gone:
        connection.execute(sql.delete(models.LoanRow).where(models.LoanRow.loan_id.in_(gone)))


def _add_member(connection: Connection, name: str) -> None:
    if connection.scalar(sql.select(models.MemberRow.name).where(models.MemberRow.name == name)) is None:
        connection.execute(sql.insert(models.MemberRow), {"name": name})


def _nothing(_result: object, _error: Exception | None) -> None:
    """The writer has logged it; the next word of that EMA says it again after a restart."""
