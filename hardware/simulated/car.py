"""A car that comes, is charged by a curve, and leaves; and the charging point it stands at.

stored = stored at its arrival + efficiency × energy taken, at every moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardware.simulated.twin import TimeSource, Twin

LEAST_A = 6
MOST_A = 32
# The curve is followed in steps this long; in one, a car of 60 kWh gains a thousandth.
STEP_S = 30.0
# Above this state of charge a car takes less and less, down to a tenth when full.
TAPER_FROM = 0.80
TAPER_END = 0.10


@dataclass(frozen=True, slots=True)
class Visit:
    """A car stands there from ``arrive`` to ``depart`` (wall seconds), comes with ``soc`` and wants ``target`` (%)."""

    arrive: float
    depart: float
    soc: float
    target: float = 80.0


class Car(Twin):
    """``battery_wh`` of each car that comes, ``most_a`` a phase what its charger takes. ``visits`` in order."""

    def __init__(
        self,
        clock: TimeSource,
        battery_wh: float = 60_000.0,
        phases: int = 1,
        most_a: int = MOST_A,
        volts: float = 230.0,
        efficiency: float = 0.9,
        visits: Sequence[Visit] = (),
    ) -> None:
        super().__init__(clock)
        self.battery_wh = battery_wh
        self.phases = phases
        self.most_a = most_a
        self.volts = volts
        self.efficiency = efficiency
        self._coming = sorted(visits, key=lambda visit: visit.arrive)
        self._visit: Visit | None = None
        self._stored_wh = 0.0
        self._offered_a = 0
        self._meet(self._wall)

    @property
    def plugged(self) -> bool:
        """Is a car there."""
        self._advance()
        return self._visit is not None

    @property
    def soc(self) -> float | None:
        """Of the car that is there, per cent."""
        self._advance()
        return None if self._visit is None else 100 * self._stored_wh / self.battery_wh

    @property
    def stored_wh(self) -> float:
        """In the cells of the car that is there, or was last."""
        self._advance()
        return self._stored_wh

    @property
    def need_wh(self) -> float | None:
        """Energy to take at the plug until the car has what it came for."""
        self._advance()
        if self._visit is None:
            return None
        missing = self.battery_wh * self._visit.target / 100 - self._stored_wh
        return max(missing, 0.0) / self.efficiency

    @property
    def depart_in_s(self) -> float | None:
        """Until it leaves."""
        self._advance()
        return None if self._visit is None else max(self._visit.depart - self._wall, 0.0)

    def offer(self, amps: int) -> None:
        """What the car may take a phase: 0 (a pause) or 6 to 32 A, as IEC 61851 signals it."""
        if amps != 0 and not LEAST_A <= amps <= MOST_A:
            raise ValueError(f"amps: {amps} is neither 0 nor from {LEAST_A} to {MOST_A}")
        self._advance()
        self._offered_a = amps

    def plug(self, soc: float, depart: float, target: float = 80.0) -> None:
        """A car comes now and stays until ``depart`` (wall seconds)."""
        self._advance()
        self._arrive(Visit(self._wall, depart, soc, target))

    def unplug(self) -> None:
        """The car leaves now."""
        self._advance()
        self._visit = None

    def _arrive(self, visit: Visit) -> None:
        self._visit = visit
        self._stored_wh = self.battery_wh * visit.soc / 100

    def _power_w(self) -> float:
        if self._visit is None or self._offered_a == 0 or self._stored_wh >= self.battery_wh:
            return 0.0
        share = self._stored_wh / self.battery_wh
        taper = 1.0 if share < TAPER_FROM else 1 - (1 - TAPER_END) * (share - TAPER_FROM) / (1 - TAPER_FROM)
        most = self.most_a * self.volts * self.phases
        return min(self._offered_a * self.volts * self.phases, most * taper)

    def _pass(self, seconds: float) -> None:
        now, end = self._wall, self._wall + seconds
        self._meet(now)
        while now < end:
            until = min(end, now + STEP_S) if self._visit is not None and self._offered_a else end
            until = min(until, self._next_change(now))
            self._charge(until - now)
            now = until
            self._meet(now)

    def _next_change(self, now: float) -> float:
        moments = [self._visit.depart] if self._visit is not None else []
        moments += [visit.arrive for visit in self._coming[:1]]
        return min((moment for moment in moments if moment > now), default=float("inf"))

    def _meet(self, now: float) -> None:
        """Who leaves and who comes at this moment."""
        if self._visit is not None and now >= self._visit.depart:
            self._visit = None
        while self._coming and self._coming[0].arrive <= now:
            visit = self._coming.pop(0)
            if now < visit.depart:
                self._arrive(visit)

    def _charge(self, seconds: float) -> None:
        taken = self._power_w() * seconds / 3600
        room = (self.battery_wh - self._stored_wh) / self.efficiency
        taken = min(taken, room)
        self._stored_wh = min(self._stored_wh + taken * self.efficiency, self.battery_wh)
        self._energy_wh += taken
