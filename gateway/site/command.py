"""A command on its way to a resource (control.md, "Order of acting")."""

from __future__ import annotations

import math
from enum import StrEnum

from gateway.record import slim
from gateway.site.resource import Setting


class Source(StrEnum):
    """Who wants it."""

    SHED = "shed"
    RESTORE = "restore"
    RDR = "rdr"
    PREPARE = "prepare"
    FAILSAFE = "failsafe"
    EMS = "ems"
    MENU = "menu"
    RESUME = "resume"  # what was running before a restart, said again


class CommandState(StrEnum):
    """Where it stands."""

    WAITING = "waiting"  # not sent yet: link down or not-before ahead
    SENT = "sent"
    SENT_AGAIN = "sent again"
    CONFIRMED = "confirmed"
    FAILED = "failed"  # not confirmed in time, alarmed; the plan goes on without it
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


@slim(frozen=True, slots=True)
class Command:
    """One absolute setting for one resource.

    ``id`` is an integer that this EMA never uses twice, restarts included. ``not_before`` and ``expiry`` are
    monotonic seconds (expiry None: none). ``target_w``: the power expected after it.
    """

    id: int
    resource: str
    number: int
    setting: Setting
    source: Source
    lease_s: float
    target_w: float
    not_before: float = 0.0
    expiry: float | None = None
    state: CommandState = CommandState.WAITING
    answer: str = ""


@slim(frozen=True, slots=True)
class Pending:
    """A command that counts because it is newer than the reading (control.md, "The power that counts").

    ``target_w`` is expected after it, ``base_w`` was read before it; ``sent_at`` monotonic seconds, infinite while
    it waits for its turn on a link that takes only so many at once.
    ``confirmed_at``: when the reading was taken that confirmed it (None: not yet). ``earlier``: the command before
    it, while a slow grid meter may not show that one either.
    """

    command_id: int
    setting: Setting
    target_w: float
    base_w: float
    sent_at: float
    latency_s: float
    confirmed_at: float | None = None
    earlier: Pending | None = None

    @property
    def waits(self) -> bool:
        """It has not left yet."""
        return self.sent_at == math.inf
