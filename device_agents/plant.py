"""What a behaviour needs of the thing it steers: real hardware on a board or a Pi, a physical twin in simulation.

Integers in milli-units as on the wire; consumption positive, generation and discharge negative.
"""


class Plant:
    """Anything that draws or gives power."""

    def mw(self) -> int:
        """Power now, in mW."""
        raise NotImplementedError

    def mwh(self) -> int:
        """Net energy taken since it was made, in mWh."""
        raise NotImplementedError


class LampPlant(Plant):
    """A dimmable lamp."""

    def set(self, on: bool, dimming: int) -> None:
        """Light at ``dimming`` 0..9, or dark. At once."""
        raise NotImplementedError


class PanelPlant(Plant):
    """A panel with its inverter."""

    def set(self, on: bool, most_mw: int | None) -> None:
        """Feed in at most ``most_mw`` (0 or more; None: whatever the sun gives), or be disconnected."""
        raise NotImplementedError

    def mv(self) -> int:
        """Voltage at its terminals, in mV."""
        raise NotImplementedError


class BatteryPlant(Plant):
    """A battery with its inverter, which keeps its own limits: ``mw`` may be less than was asked."""

    def set(self, mw: int) -> None:
        """Charge (+) or discharge (−) at this power, 0: idle."""
        raise NotImplementedError

    def soc(self) -> int:
        """State of charge, in per mille."""
        raise NotImplementedError

    def mv(self) -> int:
        """Voltage at its terminals, in mV."""
        raise NotImplementedError

    def mhz(self) -> int:
        """Frequency there, in mHz."""
        raise NotImplementedError


class CarPlant(Plant):
    """A charging point, and the car when there is one. The car takes what it wants of what it is offered."""

    def offer(self, amps: int) -> None:
        """Current a phase that the car may take: 0 (no charging) or 6 to 32 A."""
        raise NotImplementedError

    def plugged(self) -> bool:
        """Is a car there."""
        raise NotImplementedError

    def soc(self) -> int | None:
        """The car's state of charge in per mille; None: it does not say."""
        raise NotImplementedError

    def need_mwh(self) -> int | None:
        """Energy it still wants to take, in mWh; None: it does not say."""
        raise NotImplementedError

    def depart_s(self) -> int | None:
        """Seconds until it leaves; None: it does not say."""
        raise NotImplementedError
