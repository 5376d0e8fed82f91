"""The tables. Times are wall seconds (UTC), power in W; names of EMAs as on the wire (``gw/1``)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Raised with every change of a table; a database of a later one is refused.
SCHEMA = 2


class Base(DeclarativeBase):
    """All tables of the EMS."""

    type_annotation_map = {str: String(255), float: Float, int: Integer, bool: Boolean, dict[str, Any]: JSON}  # noqa: RUF012


class MetaRow(Base):
    """Schema version and what an operator set while it ran (RDR policy)."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class EmaRow(Base):
    __tablename__ = "emas"
    name: Mapped[str] = mapped_column(primary_key=True)
    ven_id: Mapped[str]
    protocol: Mapped[str]
    registered_at: Mapped[float | None]
    connected: Mapped[bool]
    last_seen: Mapped[float | None]
    mode: Mapped[str]
    power_w: Mapped[float | None]
    threshold_w: Mapped[float | None]
    margin_w: Mapped[float | None]
    generate_w: Mapped[float | None]
    storage_w: Mapped[float | None]
    measured_at: Mapped[float | None]


class ReportCountRow(Base):
    """Counted in the transaction that stores the report, so that they agree after kill -9."""

    __tablename__ = "report_counts"
    ema: Mapped[str] = mapped_column(primary_key=True)
    stored: Mapped[int]
    duplicates: Mapped[int]


class DeviceRow(Base):
    __tablename__ = "devices"
    ema: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    number: Mapped[int | None]
    connected: Mapped[bool]
    on: Mapped[bool | None] = mapped_column("is_on")
    dimming: Mapped[int | None]
    watt: Mapped[float | None]
    priority: Mapped[int | None]
    details: Mapped[dict[str, Any]]
    updated_at: Mapped[float | None]


class ReportRow(Base):
    """Each report once: an EMA repeats it until it heard that it is here.

    ``mark`` tells apart what bears the same RequestID and is not the same: of an EMA that lost its count, or of the
    lab, which always says 1. It is the report's own Time in ms, else a checksum of what it says.
    """

    __tablename__ = "reports"
    ema: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    mark: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[float]
    received_at: Mapped[float]
    devices: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("reports_received", "received_at"),)


class SampleRow(Base):
    """The power series: one row a report or margin report."""

    __tablename__ = "samples"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    ema: Mapped[str]
    at: Mapped[float]
    power_w: Mapped[float]
    threshold_w: Mapped[float | None]
    margin_w: Mapped[float | None]
    generate_w: Mapped[float | None]
    storage_w: Mapped[float | None]

    __table_args__ = (Index("samples_ema_at", "ema", "at"), Index("samples_at", "at"))


class EventRow(Base):
    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    modification: Mapped[int]
    start: Mapped[float]
    end: Mapped[float] = mapped_column("ends")
    value_w: Mapped[float]
    everyone: Mapped[bool]
    cancelled: Mapped[bool]
    created_at: Mapped[float]
    created_by: Mapped[str]
    changed_at: Mapped[float]
    planned_end: Mapped[float]


class DeliveryRow(Base):
    """One event at one EMA: what was sent, what it answered (opt)."""

    __tablename__ = "deliveries"
    event_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ema: Mapped[str] = mapped_column(primary_key=True)
    removed: Mapped[bool]
    sent: Mapped[int | None]
    attempts: Mapped[int]
    sent_at: Mapped[float | None]
    answered: Mapped[int | None]
    opt: Mapped[str]
    answered_at: Mapped[float | None]


class RdrRow(Base):
    __tablename__ = "rdr"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ema: Mapped[str]
    number: Mapped[int]
    watts: Mapped[float]
    asked_at: Mapped[float] = mapped_column(index=True)
    state: Mapped[str]
    why: Mapped[str] = mapped_column(Text)
    by: Mapped[str] = mapped_column("answered_by")
    answered_at: Mapped[float | None]


class CommandRow(Base):
    __tablename__ = "commands"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ema: Mapped[str]
    number: Mapped[int]
    action: Mapped[str]
    by: Mapped[str] = mapped_column("account")
    at: Mapped[float] = mapped_column(index=True)
    state: Mapped[str]
    why: Mapped[str] = mapped_column(Text)
    state_at: Mapped[float]


class LimitRow(Base):
    """``scope``: an EMA's name, or ``total``."""

    __tablename__ = "limits"
    scope: Mapped[str] = mapped_column(primary_key=True)
    watts: Mapped[float]


class LoanRow(Base):
    """A loan in the ledger of negotiations (``gateway.control.negotiation.ledger.Entry``)."""

    __tablename__ = "loans"
    loan_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    ask_id: Mapped[int] = mapped_column(BigInteger)
    lender: Mapped[str]
    borrower: Mapped[str]
    mw: Mapped[int] = mapped_column(BigInteger)
    price: Mapped[int]
    for_s: Mapped[int]
    stage: Mapped[str]


class MemberRow(Base):
    """An EMA that took part in a negotiation."""

    __tablename__ = "members"
    name: Mapped[str] = mapped_column(primary_key=True)


class AuditRow(Base):
    """Who did what. Never a secret."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(index=True)
    account: Mapped[str]
    source: Mapped[str]
    action: Mapped[str]
    detail: Mapped[str] = mapped_column(Text)


class AccountRow(Base):
    __tablename__ = "accounts"
    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    password: Mapped[str]
    one_time: Mapped[bool]
    created_at: Mapped[float]
