"""The numbers that steer control, and what it remembers between two passes."""

from __future__ import annotations

from gateway.record import slim
from gateway.site.decision import Decision


@slim(frozen=True, slots=True)
class Rules:
    """control.md, "Defaults"; the configuration's ``[control]`` table fills it. Seconds and W."""

    pass_s: float = 1.0
    cap_w: float | None = None
    hysteresis_share: float = 0.05
    hysteresis_min_w: float = 20.0
    reserve_w: float = 0.0
    stale_after_s: float = 30.0
    prepare_s: float = 0.0  # how long before a known event to prepare; 0: not at all


@slim(frozen=True, slots=True)
class Memory:
    """What one pass leaves for the next. Moments are monotonic seconds.

    ``awaiting_until``: after a restart nothing is given back before everybody was heard, or until then.
    ``quiet_until``: a pass did what it could and the site is still over; until then a report causes no pass.
    """

    futile: bool = False
    failsafe: bool = False
    restore_not_before: float = 0.0
    last_shed_at: float | None = None
    last_restore_at: float | None = None
    # (upstream, event_id, restore_delay_s) of the pass before
    running_events: tuple[tuple[str, int, float], ...] = ()
    quiet_until: float = 0.0
    awaiting_until: float = 0.0


@slim(frozen=True, slots=True)
class Outcome:
    """What a pass returns. ``next_wakeup``: monotonic moment of the next pass at the latest."""

    decisions: tuple[Decision, ...]
    memory: Memory
    next_wakeup: float
