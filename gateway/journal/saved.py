"""What the journal gives back after a restart, and the forms in which it keeps it."""

from __future__ import annotations

from dataclasses import replace

from gateway.clock import EARLIEST_TRUSTED_WALL, Instant
from gateway.record import slim
from gateway.site.command import Command
from gateway.site.event import DrEvent
from gateway.site.picture import ResourceState
from gateway.site.resource import Resource, Setting


@slim(frozen=True, slots=True)
class SavedDevice:
    """A device that announced itself, and how control held it (``state``; None: never held).

    In ``state`` there is no reading and no pending command, ``present`` is False, and ``switched_at`` is on this
    process's monotonic clock (None: not known, as when the wall clock was not trusted).
    """

    resource: Resource
    link: str = ""
    address: str = ""
    state: ResourceState | None = None


@slim(frozen=True, slots=True)
class SavedEvent:
    """An event and how it was answered (None: not yet)."""

    event: DrEvent
    opted: bool | None = None


@slim(frozen=True, slots=True)
class Hold:
    """``ResourceState`` as it is kept; ``switched_at`` in wall seconds."""

    wish: Setting
    wish_w: float
    held: Setting | None
    held_seq: int
    switched_at: float | None

    @classmethod
    def of(cls, state: ResourceState, now: Instant) -> Hold:
        known = state.switched_at is not None and now.trusted
        switched = (
            round(now.wall - now.mono + state.switched_at, 3) if known and state.switched_at is not None else None
        )
        return cls(state.wish, state.wish_w, state.held, state.held_seq, switched)

    def state(self, resource: Resource, now: Instant) -> ResourceState:
        known = self.switched_at is not None and now.trusted
        switched = now.mono - max(now.wall - self.switched_at, 0.0) if known and self.switched_at is not None else None
        return ResourceState(
            resource,
            present=False,
            wish=self.wish,
            wish_w=self.wish_w,
            held=self.held,
            held_seq=self.held_seq,
            switched_at=switched,
        )


@slim(frozen=True, slots=True)
class DeviceRow:
    """The body of a row in ``device``."""

    resource: Resource
    link: str = ""
    address: str = ""
    hold: Hold | None = None


def relative(command: Command, now: Instant) -> Command:
    """Its times as seconds from ``now``: the monotonic clock does not survive a restart."""
    expiry = None if command.expiry is None else command.expiry - now.mono
    return replace(command, not_before=command.not_before - now.mono, expiry=expiry)


def absolute(command: Command, at: float, now: Instant) -> Command:
    """Back on this process's monotonic clock; without a trusted wall clock no time has passed since ``at``."""
    passed = max(now.wall - at, 0.0) if now.trusted and at >= EARLIEST_TRUSTED_WALL else 0.0
    shift = now.mono - passed
    expiry = None if command.expiry is None else command.expiry + shift
    return replace(command, not_before=command.not_before + shift, expiry=expiry)
