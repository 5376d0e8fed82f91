"""A battery behind its inverter: limits, losses, a floor and a ceiling; energy is conserved.

stored = stored at first + energy_in − energy_out − losses, at every moment.
"""

from __future__ import annotations

from hardware.simulated.twin import TimeSource, Twin


class Battery(Twin):
    """``capacity_wh`` at 100 per cent; powers and energies at the terminals; each efficiency is one way.

    ``floor_soc``/``ceiling_soc`` in per cent: it neither discharges below nor charges above them. ``volts`` and
    ``hertz`` are the lab's grid, the voltage falls and rises a little with the power across ``ohms`` of cable.
    """

    def __init__(
        self,
        clock: TimeSource,
        capacity_wh: float,
        charge_w: float,
        discharge_w: float,
        soc: float = 50.0,
        floor_soc: float = 0.0,
        ceiling_soc: float = 100.0,
        charge_efficiency: float = 0.95,
        discharge_efficiency: float = 0.95,
        volts: float = 277.0,
        hertz: float = 60.0,
        ohms: float = 0.1,
    ) -> None:
        super().__init__(clock)
        self.capacity_wh = capacity_wh
        self.charge_w = charge_w
        self.discharge_w = discharge_w
        self.energy_in_wh = 0.0
        self.energy_out_wh = 0.0
        self.losses_wh = 0.0
        self.hertz = hertz
        self._volts = volts
        self._ohms = ohms
        self._floor_wh = capacity_wh * floor_soc / 100
        self._ceiling_wh = capacity_wh * ceiling_soc / 100
        self._charge_efficiency = charge_efficiency
        self._discharge_efficiency = discharge_efficiency
        self._stored_wh = capacity_wh * soc / 100
        self._target_w = 0.0

    @property
    def stored_wh(self) -> float:
        """In the cells."""
        self._advance()
        return self._stored_wh

    @property
    def soc(self) -> float:
        """Per cent."""
        return 100 * self.stored_wh / self.capacity_wh

    @property
    def volts(self) -> float:
        """At its terminals."""
        return self._volts - self._ohms * self.power_w / self._volts

    def set(self, watts: float) -> None:
        """Charge (+) or discharge (−) with that, within its limits; 0: idle."""
        self._advance()
        self._target_w = max(-self.discharge_w, min(self.charge_w, watts))

    def _power_w(self) -> float:
        if self._target_w > 0:
            return self._target_w if self._stored_wh < self._ceiling_wh else 0.0
        return self._target_w if self._stored_wh > self._floor_wh else 0.0

    def _pass(self, seconds: float) -> None:
        power = self._power_w()
        if power > 0:
            rate = power * self._charge_efficiency / 3600
            room = self._ceiling_wh - self._stored_wh
            full = rate * seconds >= room
            stored = room if full else rate * seconds
            taken = stored / self._charge_efficiency
            self._stored_wh = self._ceiling_wh if full else self._stored_wh + stored
            self.energy_in_wh += taken
            self.losses_wh += taken - stored
            self._energy_wh += taken
        elif power < 0:
            rate = -power / self._discharge_efficiency / 3600
            left = self._stored_wh - self._floor_wh
            empty = rate * seconds >= left
            drawn = left if empty else rate * seconds
            given = drawn * self._discharge_efficiency
            self._stored_wh = self._floor_wh if empty else self._stored_wh - drawn
            self.energy_out_wh += given
            self.losses_wh += drawn - given
            self._energy_wh -= given
