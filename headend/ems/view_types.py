"""What pages and scripts are shown, one class a thing. Times in wall seconds (UTC), W; None is "not known"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EmaView:
    """One row of the EMAs. ``limit_w``: what it says it holds; ``own_limit_w``: what the EMS grants up to.

    ``opt``: in, out, or empty, to the running event. ``age_s``: since it was last heard of. ``rejected``: reports
    that will never be taken, since the EMS started.
    """

    name: str
    ven_id: str
    protocol: str
    connected: bool
    mode: str
    polls: bool
    power_w: float | None
    limit_w: float | None
    margin_w: float | None
    generate_w: float | None
    storage_w: float | None
    measured_at: float | None
    own_limit_w: float | None
    event_id: int | None
    event_w: float | None
    opt: str
    last_seen: float | None
    age_s: float | None
    devices: int
    reports: int
    duplicates: int
    rejected: int
    registered_at: float | None
    state: str


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device, battery, panel, recloser, load or meter."""

    ema: str
    id: str
    number: int | None
    kind: str
    connected: bool
    on: bool | None
    dimming: int | None
    watt: float | None
    priority: int | None
    updated_at: float | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """An event at one EMA. ``state``: waiting, sent, answered, unanswered, not needed."""

    ema: str
    state: str
    opt: str
    removed: bool
    sent: int | None
    attempts: int
    sent_at: float | None
    answered: int | None
    answered_at: float | None


@dataclass(frozen=True, slots=True)
class EventView:
    """One event. ``targets``: the EMAs that are meant now; ``everyone``: also those that come later."""

    id: int
    modification: int
    state: str
    start: float
    end: float
    value_w: float
    everyone: bool
    targets: list[str]
    created_at: float
    created_by: str
    changed_at: float
    opted_in: int
    opted_out: int
    deliveries: list[DeliveryView]


@dataclass(frozen=True, slots=True)
class LinkView:
    """A way to EMAs. ``kept``: retained messages, which are not taken; ``oversized``: too large to be read;
    ``refused``: not what the profile allows. Counted since the start."""

    name: str
    up: bool
    address: str
    reconnects: int
    kept: int
    oversized: int
    refused: int


@dataclass(frozen=True, slots=True)
class VtnView:
    """A VTN above, registered over UDP. ``value_w``: what it says its ``vens`` VENs draw; ``age_s``: since it was last
    heard of."""

    name: str
    address: str
    vens: int
    value_w: float | None
    registered_at: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Flow:
    """Where the power flows: ``load_w`` = grid − generation − storage, by the site's signs. Sums of what is known."""

    grid_w: float | None
    generate_w: float | None
    storage_w: float | None
    load_w: float | None
    limit_w: float | None
    not_known: list[str]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something is wrong. ``kind``: offline, over, unanswered, optout, link, database, unknown."""

    kind: str
    ema: str | None
    event_id: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The first screen: under the limit, what runs, what is wrong."""

    at: float
    zone: str
    links: list[LinkView]
    flow: Flow
    emas: list[EmaView]
    running: list[EventView]
    upcoming: list[EventView]
    alarms: list[Alarm]
    rdr_policy: str
