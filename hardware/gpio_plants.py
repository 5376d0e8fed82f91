"""The four kinds of devices on pins, as the plants of ``device_agents/plant.py``: mW, mWh, per mille.

Pins tell nothing back, so a power is the rated one of what is switched; or a ``twin`` is handed in (a demo), which
gets the same orders as the pins and says what it draws. ``due``: monotonic moment at which ``advance`` has to be
called, None while nothing is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from device_agents.plant import BatteryPlant, CarPlant, LampPlant, PanelPlant
from hardware.gpio import Output, Pwm

STEPS = 10
LAMP_HERTZ = 1000  # above what the eye sees, within what every backend can
PILOT_HERTZ = 1000  # IEC 61851-1
LEAST_A = 6
MOST_A = 51  # above it the duty cycle follows another line, and no site of ours is that big
AMPS_PER_PERCENT = 0.6
# Time for the relay that opens to let go before the other may close.
DEAD_TIME_S = 0.5
# A car has to stop within 3 s of the pilot's word (IEC 61851-1, table A.6); then the contactor opens without load.
STOP_S = 3.0


class Timed:
    """What a plant on pins adds to its interface."""

    due: float | None = None

    def advance(self, now: float) -> None:
        """Do what is due."""


class GpioLamp(LampPlant, Timed):
    """A relay, a PWM output, or both."""

    def __init__(self, relay: Output | None, pwm: Pwm | None, rated_mw: int, twin: LampPlant | None = None) -> None:
        self._relay = relay
        self._pwm = pwm
        self._rated_mw = rated_mw
        self._twin = twin
        self.on = relay.read() if relay is not None else pwm is not None and pwm.read() > 0
        self.dimming = STEPS - 1

    def set(self, on: bool, dimming: int) -> None:
        self.on, self.dimming = on, dimming
        if self._pwm is not None:
            self._pwm.write((dimming + 1) / STEPS if on else 0.0)
        if self._relay is not None:
            self._relay.write(on)
        if self._twin is not None:
            self._twin.set(on, dimming if self._pwm is not None else STEPS - 1)

    def mw(self) -> int:
        if self._twin is not None:
            return self._twin.mw()
        share = self.dimming + 1 if self._pwm is not None else STEPS
        return self._rated_mw * share // STEPS if self.on else 0

    def mwh(self) -> int:
        return self._twin.mwh() if self._twin is not None else 0


class GpioPanel(PanelPlant, Timed):
    """A ripple-control set of relays, one a step (100, 60, 30, 0 %): one is closed at a time, none means 100 %.

    Nobody tells what the sun gives, so without a twin it counts as giving nothing: never more than is surely there.
    """

    def __init__(
        self, relays: Sequence[Output], percents: Sequence[float], peak_mw: int, twin: PanelPlant | None = None
    ) -> None:
        self._relays = tuple(relays)
        self._percents = tuple(percents)
        self._peak_mw = peak_mw
        self._twin = twin
        self.step = 0

    def set(self, on: bool, most_mw: int | None) -> None:
        most = 100.0 if most_mw is None or not self._peak_mw else 100.0 * most_mw / self._peak_mw
        fits = [i for i, percent in enumerate(self._percents) if percent <= most + 1e-6]
        self.step = len(self._percents) - 1 if not on or not fits else fits[0]
        # The new one first: with none closed the inverter would be free for a moment.
        self._relays[self.step].write(True)
        for index, relay in enumerate(self._relays):
            if index != self.step:
                relay.write(False)
        if self._twin is not None:
            free = self._percents[self.step] >= 100
            self._twin.set(on, None if free else round(self._peak_mw * self._percents[self.step] / 100))

    def mw(self) -> int:
        return self._twin.mw() if self._twin is not None else 0

    def mwh(self) -> int:
        return self._twin.mwh() if self._twin is not None else 0

    def mv(self) -> int:
        return self._twin.mv() if self._twin is not None else 0


class GpioBattery(BatteryPlant, Timed):
    """Enable, charge, discharge. Charge and discharge are never both closed, and between them lies ``DEAD_TIME_S``.

    An order is all or nothing: it charges with ``charge_mw``, discharges with ``discharge_mw`` (positive), or idles.
    """

    def __init__(
        self,
        enable: Output,
        charge: Output,
        discharge: Output,
        charge_mw: int,
        discharge_mw: int,
        now: Callable[[], float],
        twin: BatteryPlant | None = None,
    ) -> None:
        self._enable, self._charge, self._discharge = enable, charge, discharge
        self._rated = {1: charge_mw, -1: -discharge_mw, 0: 0}
        self._now = now
        self._twin = twin
        self._way = 0  # what is closed: 1 charge, -1 discharge
        self._wanted = 0
        self._opened_at = float("-inf")
        self._close(0)

    def set(self, mw: int) -> None:
        self._wanted = (mw > 0) - (mw < 0)
        now = self._now()
        if self._way != self._wanted and self._way != 0:
            self._close(0)
            self._opened_at = now
        self.due = max(now, self._opened_at + DEAD_TIME_S) if self._way != self._wanted else None
        self.advance(now)

    def advance(self, now: float) -> None:
        if self.due is not None and now >= self.due:
            self.due = None
            self._close(self._wanted)

    def _close(self, way: int) -> None:
        """Opens first, closes then: at no moment are both closed."""
        if way != 1:
            self._charge.write(False)
        if way != -1:
            self._discharge.write(False)
        self._enable.write(way != 0)
        if way == 1:
            self._charge.write(True)
        elif way == -1:
            self._discharge.write(True)
        self._way = way
        if self._twin is not None:
            self._twin.set(self._rated[way])

    def mw(self) -> int:
        return self._twin.mw() if self._twin is not None else self._rated[self._way]

    def mwh(self) -> int:
        return self._twin.mwh() if self._twin is not None else 0

    def soc(self) -> int:
        return self._twin.soc() if self._twin is not None else 0

    def mv(self) -> int:
        return self._twin.mv() if self._twin is not None else 0

    def mhz(self) -> int:
        return self._twin.mhz() if self._twin is not None else 0


class GpioCar(CarPlant, Timed):
    """Contactor and control pilot of a charging point. Cannot do: read the pilot back (plugged, ventilation).

    6 to 51 A by the duty cycle (percent = amps / 0.6); below 6 A the pilot says so by a steady level, and the
    contactor opens after the time that the car has to stop. Without a twin a car is taken to draw all it may.
    """

    def __init__(
        self, contactor: Output, pilot: Pwm, phase_mw: int, now: Callable[[], float], twin: CarPlant | None = None
    ) -> None:
        self._contactor = contactor
        self._pilot = pilot
        self._phase_mw = phase_mw  # mW per ampere offered, over all phases
        self._now = now
        self._twin = twin
        self.amps = 0
        self._closed = False
        self._open()

    def offer(self, amps: int) -> None:
        amps = min(amps, MOST_A)
        self.amps = amps if amps >= LEAST_A else 0
        if self.amps:
            self.due = None
            self._pilot.write(self.amps / AMPS_PER_PERCENT / 100)
            self._contactor.write(True)
            self._closed = True
        else:
            self._pilot.write(1.0)
            self.due = self._now() + STOP_S if self._closed and self.due is None else self.due
        if self._twin is not None:
            self._twin.offer(self.amps)

    def advance(self, now: float) -> None:
        if self.due is not None and now >= self.due:
            self._open()

    def stop_now(self) -> None:
        """The contactor opens without waiting for the car: the process ends."""
        self.offer(0)
        self._open()

    def _open(self) -> None:
        self.due = None
        self._pilot.write(1.0)
        self._contactor.write(False)
        self._closed = False

    @property
    def closed(self) -> bool:
        """Is the contactor closed."""
        return self._closed

    def mw(self) -> int:
        if self._twin is not None:
            return self._twin.mw()
        return self.amps * self._phase_mw if self._closed else 0

    def mwh(self) -> int:
        return self._twin.mwh() if self._twin is not None else 0

    def plugged(self) -> bool:
        return self._twin.plugged() if self._twin is not None else self._closed

    def soc(self) -> int | None:
        return self._twin.soc() if self._twin is not None else None

    def need_mwh(self) -> int | None:
        return self._twin.need_mwh() if self._twin is not None else None

    def depart_s(self) -> int | None:
        return self._twin.depart_s() if self._twin is not None else None
