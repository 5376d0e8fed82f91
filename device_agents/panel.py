"""PV: feeds in what the sun gives, or at most what it is told. Safe state: free."""

from device_agents.agent import Agent
from device_agents.plant import PanelPlant
from device_agents.protocol import Connected, Setpoint, Status


class Panel(Agent):
    """``rated_mw`` is its peak. The set point is the least it may be: −2000000 lets up to 2 kW out, 0 nothing."""

    kind = "pv"
    caps = ("switch", "setpoint")

    def __init__(self, dev: int, priority: int, boot: int, plant: PanelPlant, rated_mw: int, lease_s: int = 60) -> None:
        super().__init__(dev, priority, boot, plant, rated_mw, lease_s)
        self.panel = plant
        self.on = True
        self.most_mw: int | None = None
        plant.set(True, None)

    def apply(self, setpoint: Setpoint) -> None:
        if setpoint.on is not None:
            self.on = setpoint.on
        if setpoint.mw is not None:
            self.most_mw = max(-setpoint.mw, 0)
        self.panel.set(self.on, self.most_mw)

    def held(self) -> bool:
        return not self.on or self.most_mw is not None

    def release(self) -> None:
        self.on = True
        self.most_mw = None
        self.panel.set(True, None)

    def to_safe(self) -> None:
        self.release()

    def fill(self, status: Status) -> None:
        status.on = self.on
        status.mv = self.panel.mv()

    def announce(self, connected: Connected) -> None:
        connected.rated_mw = self.rated_mw
        connected.min_mw = -self.rated_mw
        connected.max_mw = 0
