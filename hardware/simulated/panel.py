"""A photovoltaic panel under a clear or cloudy sky, with an inverter that can be curtailed."""

from __future__ import annotations

from collections.abc import Callable

from hardware.simulated.sun import irradiance, position
from hardware.simulated.twin import TimeSource, Twin

# Power is taken as straight between two looks at the sun this far apart; it moves by a quarter of a degree meanwhile.
STEP_S = 60.0
STANDARD_W_M2 = 1000.0
# Cables, dirt, heat and inverter of a usual plant.
PERFORMANCE = 0.85


class Panel(Twin):
    """``peak_w`` under standard light. The place is the lab's (Seoul) unless told; ``tilt`` from flat, ``azimuth``
    from north, in degrees. ``sky(wall)``: 1 clear, 0 black.
    """

    def __init__(
        self,
        clock: TimeSource,
        peak_w: float,
        latitude: float = 37.56,
        longitude: float = 127.04,
        tilt: float = 30.0,
        azimuth: float = 180.0,
        sky: Callable[[float], float] = lambda wall: 1.0,
        volts: float = 230.0,
    ) -> None:
        super().__init__(clock)
        self.peak_w = peak_w
        self.volts = volts
        self._place = latitude, longitude
        self._plane = tilt, azimuth
        self._sky = sky
        self._on = True
        self._most_w: float | None = None

    @property
    def available_w(self) -> float:
        """What it would give now if it were free (positive)."""
        self._advance()
        return self._available(self._wall)

    def set(self, on: bool, most_w: float | None) -> None:
        """Give at most that (None: all there is), or be disconnected."""
        self._advance()
        self._on = on
        self._most_w = None if most_w is None else max(most_w, 0.0)

    def _available(self, wall: float) -> float:
        light = irradiance(position(*self._place, wall), *self._plane)
        clear = self.peak_w * PERFORMANCE * light / STANDARD_W_M2
        return min(clear * max(0.0, min(1.0, self._sky(wall))), self.peak_w)

    def _given(self, wall: float) -> float:
        if not self._on:
            return 0.0
        available = self._available(wall)
        return available if self._most_w is None else min(available, self._most_w)

    def _power_w(self) -> float:
        return -self._given(self._wall)

    def _pass(self, seconds: float) -> None:
        steps = max(1, int(seconds / STEP_S + 0.999))
        step = seconds / steps
        before = self._given(self._wall)
        for index in range(1, steps + 1):
            after = self._given(self._wall + index * step)
            self._energy_wh -= (before + after) / 2 * step / 3600
            before = after
