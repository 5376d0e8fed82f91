"""The site at one moment, as control sees it: frozen values only (docs/architecture.md, rule 1)."""

from __future__ import annotations

from enum import StrEnum

from gateway.record import slim
from gateway.site.command import Pending
from gateway.site.event import DrEvent, Grant, Loan, Reservation
from gateway.site.resource import Reading, Resource, Setting


class Connection(StrEnum):
    """Is the site on the grid (control.md, "The power that counts")."""

    GRID = "grid"
    ISLAND = "island"
    UNKNOWN = "unknown"


@slim(frozen=True, slots=True)
class ResourceState:
    """One resource now.

    ``present``: its link and its lease are up. ``wish``: how it ran when nothing constrained it, where a restore
    returns to. ``wish_w``: what it drew then. ``held``: what control holds it to (None: free). ``pending``: the
    last command, while it may be newer than the reading. ``switched_at``: monotonic moment of its last change
    between on and off (None: not known, no minimum time binds). ``barred_until``: monotonic; after a command that
    failed the plan goes on without it until then. ``held_seq`` orders the holds: a restore goes backwards.
    """

    resource: Resource
    present: bool = True
    reading: Reading | None = None
    wish: Setting = Setting()
    wish_w: float = 0.0
    held: Setting | None = None
    held_seq: int = 0
    pending: Pending | None = None
    switched_at: float | None = None
    barred_until: float = 0.0


@slim(frozen=True, slots=True)
class Site:
    """All resources, the control meter's reading (None: the sum of the devices counts), what is reserved."""

    resources: tuple[ResourceState, ...]
    meter: Reading | None = None
    has_meter: bool = False
    reservations: tuple[Reservation, ...] = ()
    connection: Connection = Connection.GRID


@slim(frozen=True, slots=True)
class Timeline:
    """Everything that makes the limit, over time. None: not given. ``last_threshold_w`` holds while the wall
    clock is not trusted."""

    threshold_w: float | None = None
    hard_w: float | None = None
    export_w: float | None = None
    phase_a: tuple[float, ...] = ()
    events: tuple[DrEvent, ...] = ()
    grants: tuple[Grant, ...] = ()
    loans: tuple[Loan, ...] = ()
    last_threshold_w: float | None = None
