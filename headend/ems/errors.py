"""What the EMS refuses, and beside which field it says so."""

from __future__ import annotations

from gateway.errors import OperatorError


class Refused(OperatorError):
    """A request that the operator must change. ``field`` names what, empty when the whole request is meant."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class Unknown(Refused):
    """It names something that the EMS does not know."""


class Conflict(Refused):
    """It was right, but not now: the EMA is away, the event is over."""
