"""Between the device wire's messages (milli-units) and the site's own types (SI)."""

from __future__ import annotations

from device_agents import protocol as wire
from gateway.errors import TransientError
from gateway.site.command import Command
from gateway.site.event import RdrAnswer
from gateway.site.resource import DIMMING_STEPS, Reading


def reading_of(status: wire.Status, now: float) -> Reading:
    """What a device said of itself, taken ``now`` (monotonic seconds)."""
    mw, soc, mwh, mv, mhz = status.mw, status.soc, status.mwh, status.mv, status.mhz
    need, depart = status.need_mwh, status.depart_s
    return Reading(
        taken_at=now,
        power_w=None if mw is None else mw / 1000,
        on=status.on,
        level=status.dimming,
        soc=None if soc is None else soc / 10,
        energy_wh=None if mwh is None else mwh / 1000,
        voltage=None if mv is None else mv / 1000,
        hertz=None if mhz is None else mhz / 1000,
        plugged=status.plugged,
        need_wh=None if need is None else need / 1000,
        depart_at=None if depart is None else now + depart,
        done=status.done or 0,
    )


def setpoint_of(command: Command) -> bytes:
    """A command as our own devices take it."""
    setting = command.setting
    return wire.Setpoint(
        command.id,
        max(1, round(command.lease_s)),
        setting.on,
        setting.level,
        None if setting.setpoint_w is None else round(setting.setpoint_w * 1000),
        setting.free,
    ).encode()


def rdr_answer_of(answer: RdrAnswer) -> bytes:
    """The answer to an RDR."""
    return wire.RdrAnswer(answer.result.value, answer.why).encode()


class LabState:
    """What is known of a device that speaks the lab's bytes: it says no state, so what it was last told counts.

    A dimming byte is relative, so it is never sent again for the same command before a state was read. ``level``
    None: not known any more (a dimming byte may or may not have arrived). A lamp of the lab starts undimmed (open).
    """

    __slots__ = ("_arriving", "_stepped", "level", "on")

    def __init__(self) -> None:
        self.on: bool | None = None
        self.level: int | None = DIMMING_STEPS - 1
        self._stepped = 0
        self._arriving: int | None = None

    def read(self, status: wire.Status) -> None:
        """A state was read after all."""
        self.on = status.on if status.on is not None else self.on
        self.level = status.dimming if status.dimming is not None else self.level
        self._stepped = 0
        self._arriving = None

    def begin(self, command: Command) -> list[bytes]:
        """The bytes that carry a command out, to be sent now. Raise ``TransientError`` when none may be sent."""
        setting = command.setting
        frames = [] if setting.on is None else [wire.Light(on=setting.on).encode()]
        self._arriving = None
        if setting.level is not None and self._stepped != command.id:
            if self.level is None:
                raise TransientError(f"{command.resource}: its dimming is not known; it has to be read first")
            step = 1 if setting.level > self.level else -1
            frames += [wire.Light(step=step).encode()] * abs(setting.level - self.level)
            self._stepped = command.id
            self._arriving = setting.level
            if setting.level != self.level:
                self.level = None
        if not frames and self._arriving is None:
            raise TransientError(f"{command.resource}: the lab's bytes cannot say '{setting}' (again)")
        return frames

    def told(self, command: Command) -> None:
        """All of it arrived."""
        self.on = command.setting.on if command.setting.on is not None else self.on
        if self._arriving is not None:
            self.level = self._arriving
            self._arriving = None

    def reading(self, now: float, rated_w: float, done: int = 0) -> Reading:
        """The state it was told, with its rated power; a power that is not known is None."""
        power: float | None = None
        if self.on is False:
            power = 0.0
        elif rated_w:
            power = rated_w * (DIMMING_STEPS if self.level is None else self.level + 1) / DIMMING_STEPS
        return Reading(taken_at=now, power_w=power, on=self.on, level=self.level, done=done)
