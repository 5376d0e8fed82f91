"""LED: on, off, dimming 0..9, draw by dimming; its button or ``1`` at its console asks the power back."""

from device_agents.agent import LEASE_S, Agent, clamp
from device_agents.plant import LampPlant
from device_agents.protocol import MAX_DIMMING, Connected, Light, Setpoint, Status

KEY_OFF = 0
KEY_ON = 1


class Lamp(Agent):
    """``safe_on``: what it does when its lease ends. Its wish is what its own user set."""

    kind = "led"
    caps = ("switch", "level")

    def __init__(
        self,
        dev: int,
        priority: int,
        boot: int,
        plant: LampPlant,
        rated_mw: int,
        lease_s: int = LEASE_S,
        rdr_for_s: int = 600,
        meter: str | None = None,
        safe_on: bool = True,
        on: bool = True,
        dimming: int = MAX_DIMMING,
    ) -> None:
        super().__init__(dev, priority, boot, plant, rated_mw, lease_s, rdr_for_s, meter)
        self.lamp = plant
        self.safe_on = safe_on
        self.on = on
        self.dimming = dimming
        self.wish_on = on
        self.wish_dimming = dimming
        plant.set(on, dimming)

    def draw_mw(self, on: bool, dimming: int) -> int:
        """What it draws at a setting."""
        return self.rated_mw * (dimming + 1) // (MAX_DIMMING + 1) if on else 0

    def apply(self, setpoint: Setpoint) -> None:
        self._set(
            self.on if setpoint.on is None else setpoint.on,
            self.dimming if setpoint.dimming is None else setpoint.dimming,
        )

    def held(self) -> bool:
        return self.draw_mw(self.on, self.dimming) < self.draw_mw(self.wish_on, self.wish_dimming)

    def release(self) -> None:
        self._set(self.wish_on, self.wish_dimming)

    def to_safe(self) -> None:
        self._set(self.safe_on, self.dimming)

    def missing_mw(self) -> int:
        # Whoever presses the button of a lamp that its own user switched off wants it on.
        wish = self.draw_mw(True, self.wish_dimming)
        return wish - self.draw_mw(self.on, self.dimming)

    def light(self, light: Light) -> None:
        on = self.on if light.on is None else light.on
        self._set(on, clamp(self.dimming + light.step, 0, MAX_DIMMING))

    def key(self, code: int) -> str:
        if code == KEY_OFF:
            self.wish_on = False
            self._set(False, self.dimming)
            self.changed = True
            return "off"
        if code == KEY_ON:
            self.wish_on = True
            if self.safe:
                self.release()
                self.changed = True
                return "on; no EMA to ask"
            if self.press():
                return f"RDR: {self.missing_mw() // 1000} W asked back"
            return "on already" if self.missing_mw() <= 0 else "RDR: an answer is awaited"
        return super().key(code)

    def menu(self) -> tuple[str, ...]:
        return ("Device On(1)/Off(0) Control(RDR TEST)",)

    def fill(self, status: Status) -> None:
        status.on = self.on
        status.dimming = self.dimming

    def announce(self, connected: Connected) -> None:
        connected.rated_mw = self.rated_mw

    def _set(self, on: bool, dimming: int) -> None:
        self.on = on
        self.dimming = dimming
        self.lamp.set(on, dimming)
