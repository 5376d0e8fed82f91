"""What the EMS knows now: kept in memory, written through to the store. W, wall seconds (UTC), the site's signs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """How events reach an EMA."""

    AUTO = "auto"  # pushed, unless it polls
    PUSH = "push"
    POLL = "poll"


@dataclass(slots=True)
class Ema:
    """One EMA. ``connected`` follows its session and its last will, ``last_seen`` each message.

    ``measured_at``: of the power, by the EMA's clock, but never later than it came. ``rejected``: reports that were
    refused for good, since the start.
    """

    name: str
    ven_id: str = ""
    protocol: str = ""
    registered_at: float | None = None
    connected: bool = False
    last_seen: float | None = None
    mode: Mode = Mode.AUTO
    power_w: float | None = None
    threshold_w: float | None = None
    margin_w: float | None = None
    generate_w: float | None = None
    storage_w: float | None = None
    measured_at: float | None = None
    reports: int = 0
    duplicates: int = 0
    rejected: int = 0


@dataclass(slots=True)
class Device:
    """One device below an EMA; ``id`` as the EMA calls it (``dev/4``, ``ESS/ess1``, ``meter/3``). None: not said."""

    ema: str
    id: str
    kind: str = ""
    number: int | None = None
    connected: bool = True
    on: bool | None = None
    dimming: int | None = None
    watt: float | None = None
    priority: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    updated_at: float | None = None


@dataclass(slots=True)
class Delivery:
    """One event on its way to one EMA. ``sent``/``answered``: the modification that was.

    ``removed``: the EMA is no longer meant; it gets the event as cancelled. ``due``: monotonic seconds of the
    next sending, not stored.
    """

    ema: str
    removed: bool = False
    sent: int | None = None
    attempts: int = 0
    sent_at: float | None = None
    answered: int | None = None
    opt: str = ""
    answered_at: float | None = None
    due: float = 0.0


@dataclass(slots=True)
class Event:
    """A DR event: hold ``value_w`` from ``start`` to ``end``. ``everyone``: also EMAs that come while it runs."""

    id: int
    modification: int
    start: float
    end: float
    value_w: float
    everyone: bool
    cancelled: bool
    created_at: float
    created_by: str
    changed_at: float
    # The end before the cancellation: until then the EMAs have to hear of it.
    planned_end: float = 0.0
    deliveries: dict[str, Delivery] = field(default_factory=dict)

    def state(self, wall: float) -> str:
        """upcoming, running, ended or cancelled."""
        if self.cancelled:
            return "cancelled"
        if wall < self.start:
            return "upcoming"
        return "running" if wall < self.end else "ended"


@dataclass(slots=True)
class Rdr:
    """A device asked its power back. ``state``: pending, granted, denied. ``by``: policy or account."""

    id: int
    ema: str
    number: int
    watts: float
    asked_at: float
    state: str = "pending"
    why: str = ""
    by: str = ""
    answered_at: float | None = None


@dataclass(slots=True)
class DeviceCommand:
    """An operator's command. ``action``: on, off, up, down. ``state``: sent, confirmed, failed."""

    id: int
    ema: str
    number: int
    action: str
    by: str
    at: float
    state: str = "sent"
    why: str = ""
    state_at: float = 0.0
    attempts: int = 1
    before_level: int | None = None


@dataclass(slots=True)
class Vtn:
    """A VTN above, registered over UDP at ``address``. ``value_w``: what it says its ``vens`` VENs draw."""

    name: str
    address: str
    vens: int
    value_w: float | None = None
    registered_at: float = 0.0
    last_seen: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a page or a script shows has changed. ``kind``: ema, device, power, event, rdr, command,
    limit, link, vtn, alarm."""

    kind: str
    ema: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReportCount:
    """Reports of one EMA: stored once each, and how many came again."""

    stored: int
    duplicates: int
