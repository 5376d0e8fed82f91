"""ESS: charges, discharges, idles, within its own limits; the lab's console 7, 8, 9, 3. Safe state: idle."""

from device_agents.agent import Agent, clamp
from device_agents.plant import BatteryPlant
from device_agents.protocol import (
    CONSOLE_CHARGE,
    CONSOLE_NO_ACTION,
    CONSOLE_QUIT,
    CONSOLE_SEND_WATT,
    Connected,
    Setpoint,
    Status,
)


class Battery(Agent):
    """``charge_mw`` and ``discharge_mw`` are its limits, ``floor`` and ``ceiling`` its reserve in per mille of SoC.

    ``step_mw``: of its set point, 0 where it is continuous; what is asked is never exceeded.
    """

    kind = "ess"
    caps = ("switch", "setpoint")

    def __init__(
        self,
        dev: int,
        priority: int,
        boot: int,
        plant: BatteryPlant,
        charge_mw: int,
        discharge_mw: int,
        capacity_mwh: int | None = None,
        floor: int = 200,
        ceiling: int = 950,
        lease_s: int = 60,
        step_mw: int = 0,
    ) -> None:
        super().__init__(dev, priority, boot, plant, max(charge_mw, discharge_mw), lease_s)
        self.battery = plant
        self.charge_mw = charge_mw
        self.discharge_mw = discharge_mw
        self.capacity_mwh = capacity_mwh
        self.floor = floor
        self.ceiling = ceiling
        self.step_mw = step_mw
        self.on = True
        self.target_mw = 0
        self.wish_mw = 0
        plant.set(0)

    def apply(self, setpoint: Setpoint) -> None:
        if setpoint.on is not None:
            self.on = setpoint.on
        if setpoint.mw is not None:
            self.target_mw = clamp(setpoint.mw, -self.discharge_mw, self.charge_mw)
        self._steer()

    def held(self) -> bool:
        return not self.on or self.target_mw != self.wish_mw

    def release(self) -> None:
        self.on = True
        self.target_mw = self.wish_mw
        self._steer()

    def to_safe(self) -> None:
        self.target_mw = 0
        self._steer()

    def follow(self) -> None:
        # The floor or the ceiling may have been reached, or left by a change of the plant itself.
        self._steer()

    def key(self, code: int) -> str:
        if code == CONSOLE_QUIT:
            self.quit = True
            return "quit"
        if code not in (CONSOLE_SEND_WATT, CONSOLE_CHARGE, CONSOLE_NO_ACTION):
            return super().key(code)
        self.on = True
        self.wish_mw = {CONSOLE_SEND_WATT: -self.discharge_mw, CONSOLE_CHARGE: self.charge_mw}.get(code, 0)
        self.release()
        self.changed = True
        return {CONSOLE_SEND_WATT: "send watt", CONSOLE_CHARGE: "charge"}.get(code, "no action")

    def menu(self) -> tuple[str, ...]:
        soc = self.battery.soc()
        return (
            "=====SEND WATT=7=====",
            "=====CHARGE=8=====",
            "=====NO ACTION=9=====",
            f"SOC : {soc // 10}.{soc % 10}0 per",
            f"vol : {(self.battery.mv() + 500) // 1000} V",
            f"hertz : {(self.battery.mhz() + 500) // 1000} Hz",
            "=====QUIT=3=====",
        )

    def fill(self, status: Status) -> None:
        status.on = self.on
        status.soc = self.battery.soc()
        status.mv = self.battery.mv()
        status.mhz = self.battery.mhz()

    def announce(self, connected: Connected) -> None:
        connected.rated_mw = self.rated_mw
        connected.min_mw = -self.discharge_mw
        connected.max_mw = self.charge_mw
        if self.step_mw:
            connected.step_mw = self.step_mw
        connected.min_soc = self.floor
        connected.max_soc = self.ceiling
        connected.capacity_mwh = self.capacity_mwh

    def _steer(self) -> None:
        target = self.target_mw if self.on else 0
        if self.step_mw:
            target = abs(target) // self.step_mw * (self.step_mw if target > 0 else -self.step_mw)
        soc = self.battery.soc()
        if (target < 0 and soc <= self.floor) or (target > 0 and soc >= self.ceiling):
            target = 0
        self.battery.set(target)
