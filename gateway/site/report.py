"""What the EMA tells upwards, before any protocol writes it down: typed records of the outbox."""

from __future__ import annotations

from enum import StrEnum

from gateway.record import slim


@slim(frozen=True, slots=True)
class DeviceLine:
    """One device in a report: ``level`` 0..9, ``power_w`` None when not known."""

    number: int
    kind: str
    on: bool
    level: int
    power_w: float | None
    priority: int


@slim(frozen=True, slots=True)
class SiteReport:
    """The site at ``at`` (wall seconds). ``generate_w`` and ``storage_w`` by our signs (generation negative).

    ``threshold_w`` is the import limit in force (None: none); ``margin_w`` what is left under it.
    """

    at: float
    power_w: float
    threshold_w: float | None
    margin_w: float | None
    generate_w: float
    storage_w: float
    devices: tuple[DeviceLine, ...] = ()


class NoticeKind(StrEnum):
    """What happened to a device."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CHANGED = "changed"


@slim(frozen=True, slots=True)
class DeviceNotice:
    """A device came, went or changed, at ``at`` (wall seconds)."""

    at: float
    kind: NoticeKind
    device: DeviceLine


OutboxBody = SiteReport | DeviceNotice


@slim(frozen=True, slots=True)
class Record:
    """One entry of the append-only outbox. ``seq`` grows by one within a ``boot``; (boot, seq) is unique for ever.

    The wire's RequestID is made of both.
    """

    boot: int
    seq: int
    body: OutboxBody
