"""A dimmable lamp: its draw follows its dimming at once."""

from __future__ import annotations

from hardware.simulated.twin import TimeSource, Twin

STEPS = 10


class Lamp(Twin):
    """``rated_w`` undimmed; dimming 0..9 draws a tenth to all of it."""

    def __init__(self, clock: TimeSource, rated_w: float, on: bool = False, level: int = STEPS - 1) -> None:
        super().__init__(clock)
        self.rated_w = rated_w
        self.on = on
        self.level = level

    def set(self, on: bool, level: int) -> None:
        """Light at ``level``, or dark."""
        if not 0 <= level < STEPS:
            raise ValueError(f"level: {level} is not from 0 to {STEPS - 1}")
        self._advance()
        self.on = on
        self.level = level

    def _power_w(self) -> float:
        return self.rated_w * (self.level + 1) / STEPS if self.on else 0.0

    def _pass(self, seconds: float) -> None:
        self._energy_wh += self._power_w() * seconds / 3600
