"""What a way to the EMAs is to the EMS: one transport with its profile. One small interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.control.negotiation.messages import FromCoordinator
from gateway.links.mir2017.messages.budget import Budget
from headend.ems.view_types import LinkView

# What became of something that an EMA keeps until it is answered.
TAKEN = 200
# Never: to say it again is in vain.
CANNOT = 400
# Not now: the database is busy or the disk is full, or its EMA is one too many until ``most_emas`` is raised. What an
# EMA has kept for a week is not to be lost by a bound of ours: it is to be said again.
NOT_NOW = NOT_SERVED = 503


@dataclass(frozen=True, slots=True)
class EventBody:
    """An event as an EMA is told it. ``end <= start`` cancels. Wall seconds, W."""

    id: int
    modification: int
    start: float
    end: float
    value_w: float


class Head(Protocol):
    """Puts messages on the wire. All return at once; what is lost is said again by the EMS's own repetition."""

    name: str  # "mqtt", "coap emap1b": the ``protocol`` of an EMA
    controls_devices: bool  # its profile has a word for ``control`` and ``dim``
    negotiates: bool  # its profile has words for loans
    prices: bool  # and for prices
    answers: bool  # its EMAs answer events; where not, one that was sent often enough counts as told

    @property
    def up(self) -> bool:
        """Is there a session."""

    def link(self) -> LinkView:
        """How its session is."""

    def push(self, ema: str, event: EventBody) -> None:
        """Tell one EMA of an event."""

    def broadcast(self, event: EventBody) -> None:
        """Tell all of them by one message."""

    def answer_poll(self, ema: str, event: EventBody | None, want_report: bool) -> None:
        """Answer a poll: with an event, or without; ``want_report`` asks for a report at once."""

    def acknowledge_report(self, ema: str, request_id: str) -> None:
        """The report is on disk."""

    def refuse_report(self, ema: str, request_id: str, code: int, why: str) -> None:
        """The report is not taken, now (``NOT_NOW``) or ever."""

    def acknowledge_opt(self, ema: str, code: int) -> None:
        """Its oldest CreatedEvent without an answer is on disk (``TAKEN``), or never will be."""

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None:
        """The device's coming or going is on disk."""

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None:
        """What became of a device's request."""

    def negotiate(self, ema: str, message: FromCoordinator) -> None:
        """Say a word of the coordinator of negotiations; what is lost is said again."""

    def answer_ask(self, ema: str, accepted: bool, margin_w: int) -> None:
        """What became of an ask in the lab's form."""

    def tell_prices(self, ema: str, budgets: tuple[Budget, ...]) -> None:
        """Prices that changed."""

    def control(self, ema: str, number: int, on: bool) -> None:
        """Switch a device."""

    def dim(self, ema: str, number: int, up: bool) -> None:
        """One step of dimming. Relative: sent once."""
