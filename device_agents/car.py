"""EV charging point: 6 to 32 A in steps of 1 A, or a pause. Safe state: 6 A, or a pause."""

from device_agents.agent import Agent, clamp
from device_agents.plant import CarPlant
from device_agents.protocol import Connected, Setpoint, Status

# IEC 61851: a car may be offered no less than 6 A; less than that is a pause.
LEAST_A = 6
MOST_A = 32


class Car(Agent):
    """``voltage`` in V of one phase, ``most_a`` what cable and fuse allow; its set point is the most it may take."""

    kind = "ev"
    caps = ("switch", "setpoint")

    def __init__(
        self,
        dev: int,
        priority: int,
        boot: int,
        plant: CarPlant,
        phases: int = 1,
        voltage: int = 230,
        most_a: int = MOST_A,
        lease_s: int = 60,
        rdr_for_s: int = 600,
        safe_pause: bool = False,
    ) -> None:
        self.step_mw = phases * voltage * 1000
        super().__init__(dev, priority, boot, plant, most_a * self.step_mw, lease_s, rdr_for_s)
        self.car = plant
        self.voltage = voltage
        self.most_a = most_a
        self.safe_pause = safe_pause
        self.on = True
        self.limit_mw = self.rated_mw
        self.offered_a = 0
        self._was_plugged = plant.plugged()
        self._steer()

    def apply(self, setpoint: Setpoint) -> None:
        if setpoint.on is not None:
            self.on = setpoint.on
        if setpoint.mw is not None:
            self.limit_mw = clamp(setpoint.mw, 0, self.rated_mw)
        self._steer()

    def held(self) -> bool:
        return not self.on or self.limit_mw < self.rated_mw

    def release(self) -> None:
        self.on = True
        self.limit_mw = self.rated_mw
        self._steer()

    def to_safe(self) -> None:
        # A pause by the limit, not by the switch: a set point alone ends it.
        self.on = self.on or not self.safe_pause
        self.limit_mw = 0 if self.safe_pause else LEAST_A * self.step_mw
        self._steer()

    def missing_mw(self) -> int:
        if not self._was_plugged or self.car.need_mwh() == 0:
            return 0
        return (self.most_a - self.offered_a) * self.step_mw

    def key(self, code: int) -> str:
        if code == 1:
            return "RDR sent" if self.press() else "nothing to ask back"
        return super().key(code)

    def menu(self) -> tuple[str, ...]:
        return ("Device Control(RDR TEST)=1", "on=11", "off=15")

    def follow(self) -> None:
        plugged = self.car.plugged()
        if plugged != self._was_plugged:
            self._was_plugged = plugged
            self.changed = True

    def fill(self, status: Status) -> None:
        status.on = self.on
        status.mv = self.voltage * 1000
        status.plugged = self._was_plugged
        if self._was_plugged:
            status.soc = self.car.soc()
            status.need_mwh = self.car.need_mwh()
            status.depart_s = self.car.depart_s()

    def announce(self, connected: Connected) -> None:
        connected.rated_mw = self.rated_mw
        connected.min_mw = LEAST_A * self.step_mw
        connected.max_mw = self.rated_mw
        connected.step_mw = self.step_mw

    def _steer(self) -> None:
        amps = self.limit_mw // self.step_mw if self.on else 0
        self._offer(amps if amps >= LEAST_A else 0)

    def _offer(self, amps: int) -> None:
        self.offered_a = amps
        self.car.offer(amps)
