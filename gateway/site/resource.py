"""What stands below the EMA, described by what can be done to it (control.md, "What can be done to a thing").

Signs and units everywhere: W and Wh, consumption positive, generation and discharge negative; SoC in per cent.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from gateway.record import slim

# Steps of the lab's dimming, 0 to 9 (wire reference, section 2).
DIMMING_STEPS = 10


class Kind(StrEnum):
    """The device types of the lab, and what else can be a resource."""

    LED = "led"
    PV = "pv"
    ESS = "ess"
    EV = "ev"
    VIRTUAL = "virtual"
    EMA = "ema"  # an EMA below this one: a limit is its set point


@slim(frozen=True, slots=True)
class Setting:
    """What a resource is told to be. Absolute, so it can be sent again; None leaves that side as it is.

    ``setpoint_w``: ESS charge + / discharge −; EV and EMA the most it may take; PV the least it may be (−2000: up to
    2 kW out). ``free`` lifts a set point.
    """

    on: bool | None = None
    level: int | None = None
    setpoint_w: float | None = None
    free: bool = False

    def __str__(self) -> str:
        parts = []
        if self.on is not None:
            parts.append("on" if self.on else "off")
        if self.level is not None:
            parts.append(f"dimming {self.level}")
        if self.setpoint_w is not None:
            parts.append(f"{self.setpoint_w:.0f} W")
        if self.free:
            parts.append("free")
        return " ".join(parts) or "as it is"


@slim(frozen=True, slots=True)
class Setpoint:
    """A power that can be set: ``min_w`` to ``max_w`` (0 is always allowed), in steps, with a ramp.

    ``step_w`` 0 is continuous; ``ramp_w_s`` 0 is at once.
    """

    min_w: float
    max_w: float
    step_w: float = 0.0
    ramp_w_s: float = 0.0


@slim(frozen=True, slots=True)
class Resource:
    """One thing that can be watched and told. Frozen: it changes only by a new announcement or configuration.

    ``name`` is the same in log, menu, page and code; ``number`` is ``dev/<number>`` on the wire.
    ``priority``: the smaller sheds first. ``rated_w``: draw when on and undimmed (0: not known, then learnt
    from readings). ``latency_s``: until the effect of a command is read back. ``safe``: where it goes by
    itself when its lease ends. ``floor_soc``/``ceiling_soc``: an ESS's reserve and its upper end.
    """

    name: str
    number: int
    kind: Kind
    priority: int = 0
    switch: bool = True
    levels: bool = False
    setpoint: Setpoint | None = None
    rated_w: float = 0.0
    latency_s: float = 2.0
    min_on_s: float = 0.0
    min_off_s: float = 0.0
    never_shed: bool = False
    gives: bool = False
    safe: Setting = field(default=Setting())
    lease_s: float = 60.0
    floor_soc: float = 20.0
    ceiling_soc: float = 95.0


@slim(frozen=True, slots=True)
class Reading:
    """What a resource said of itself. ``taken_at`` and ``depart_at`` are monotonic seconds of the EMA.

    ``done``: id of the last command it carried out (0: none or not said). ``need_wh``/``depart_at``: what an
    EV still wants, and until when. None is "not said", never 0.
    """

    taken_at: float
    power_w: float | None = None
    on: bool | None = None
    level: int | None = None
    soc: float | None = None
    energy_wh: float | None = None
    voltage: float | None = None
    hertz: float | None = None
    plugged: bool | None = None
    need_wh: float | None = None
    depart_at: float | None = None
    done: int = 0
