"""A site in virtual time for tests and benches of control: devices, their links, and the keeper between them.

The keeper does with control's answers what the daemon does: it keeps the states by ``bookkeeping``, sends, sends
again, gives up. Links delay and lose. Nothing here reads a clock; the same seed gives the same run.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.clock import Instant
from gateway.control.bookkeeping import after_action, after_reading
from gateway.control.decide import crosses, decide
from gateway.control.effects import read_back
from gateway.control.limit import limit_at
from gateway.control.power import site_power
from gateway.control.rules import Memory, Rules
from gateway.site.decision import Action, Decision
from gateway.site.picture import ResourceState, Site, Timeline
from gateway.site.resource import DIMMING_STEPS, Kind, Reading, Resource, Setting

WALL0 = 1_760_000_000.0


@dataclass(slots=True)
class Device:
    """One device as it is. ``demand_w`` at a moment: a load's draw when on and undimmed, the sun on a panel."""

    resource: Resource
    demand_w: Callable[[float], float]
    on: bool = True
    level: int = DIMMING_STEPS - 1
    setpoint_w: float | None = None
    soc: float | None = None
    capacity_wh: float = 0.0
    need_wh: float | None = None
    depart_at: float | None = None
    deaf: bool = False  # hears nothing and goes on reporting
    silent: bool = False
    done: int = 0

    def power(self, t: float) -> float:
        """W now, by its physics."""
        if not self.on:
            return 0.0
        wanted = self.demand_w(t)
        kind = self.resource.kind
        if kind is Kind.ESS:
            watts = wanted if self.setpoint_w is None else self.setpoint_w
            soc = 50.0 if self.soc is None else self.soc
            full = 100.0 if self.setpoint_w is not None else self.resource.ceiling_soc
            return 0.0 if (watts < 0 and soc <= 0) or (watts > 0 and soc >= full) else watts
        if kind is Kind.PV:
            return wanted if self.setpoint_w is None else max(wanted, self.setpoint_w)
        if kind is Kind.EV:
            if self.need_wh is not None and self.need_wh <= 0:
                return 0.0
            return wanted if self.setpoint_w is None else min(wanted, self.setpoint_w)
        return wanted * (self.level + 1) / DIMMING_STEPS if self.resource.levels else wanted

    def obey(self, command_id: int, setting: Setting) -> None:
        if command_id <= self.done:
            return
        self.done = command_id
        if setting.on is not None:
            self.on = setting.on
        if setting.level is not None:
            self.level = setting.level
        if setting.setpoint_w is not None:
            self.setpoint_w = setting.setpoint_w
        if setting.free:
            self.setpoint_w = None

    def live(self, t: float, seconds: float) -> None:
        """Let its store fill or empty."""
        wh = self.power(t) * seconds / 3600
        if self.soc is not None and self.capacity_wh > 0:
            self.soc = min(max(self.soc + 100 * wh / self.capacity_wh, 0.0), 100.0)
        if self.need_wh is not None:
            self.need_wh = max(self.need_wh - wh, 0.0)

    def reading(self, t: float) -> Reading:
        return Reading(
            t,
            self.power(t),
            self.on,
            self.level if self.resource.levels else None,
            self.soc,
            need_wh=self.need_wh,
            depart_at=self.depart_at,
            done=self.done,
        )


@dataclass(slots=True)
class Links:
    """How commands and reports travel: each takes up to ``delay_s``; so many of a hundred are lost."""

    delay_s: float = 0.3
    loss: float = 0.0
    report_s: float = 5.0
    meter_s: float = 0.0  # 0: no meter
    change_w: float = 0.0  # a change of so much is reported at once; 0: only every ``report_s``


@dataclass(slots=True)
class Done:
    """One action, with the state it met."""

    at: float
    action: Action
    before: ResourceState
    pass_no: int


@dataclass
class VirtualSite:
    """The site, its links, and the keeper."""

    devices: list[Device]
    timeline: Timeline
    rules: Rules = field(default_factory=Rules)
    links: Links = field(default_factory=Links)
    seed: int = 1
    base_w: Callable[[float], float] = lambda t: 0.0  # what only the meter sees
    now: float = 1000.0
    wall_ahead: float = WALL0 - 1000.0
    trusted: bool = True
    memory: Memory = field(default_factory=Memory)
    decisions: list[Decision] = field(default_factory=list)
    actions: list[Done] = field(default_factory=list)
    alarms: list[tuple[float, str]] = field(default_factory=list)
    passes: int = 0
    states: dict[int, ResourceState] = field(default_factory=dict)
    meter: Reading | None = None

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._ids = itertools.count(1)
        self._seq = itertools.count(1)
        self._mail: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._due = self.now
        self._open: dict[int, tuple[int, Setting, float, int]] = {}
        self._reported: dict[int, float] = {}
        self._told: dict[int, float] = {}
        self._metered = -1e9
        for device in self.devices:
            number = device.resource.number
            self.states[number] = after_reading(
                ResourceState(device.resource), device.reading(self.now), self.instant()
            )
            self._reported[number] = self.now
            self._told[number] = device.power(self.now)

    def instant(self) -> Instant:
        return Instant(self.now, self.now + self.wall_ahead, self.trusted)

    def power(self) -> float:
        """The true power of the site."""
        return sum(device.power(self.now) for device in self.devices) + self.base_w(self.now)

    def limit_w(self) -> float | None:
        return limit_at(self.timeline, self.instant()).import_w

    def site(self) -> Site:
        return Site(tuple(self.states.values()), self.meter, self.links.meter_s > 0)

    def run(
        self,
        seconds: float,
        step: float = 0.25,
        watch: Callable[[], None] | None = None,
        flow: Callable[[float], None] | None = None,
    ) -> None:
        """Let time pass. Loads are looked at every ``step``; mail and passes have their own moments in between.

        ``flow`` is called with the length of each stretch before it passes, ``watch`` after each step.
        """
        end = self.now + seconds
        grid = self.now
        while grid < end - 1e-9:
            grid = round(grid + step, 6)
            while self.now < grid:
                until = min(grid, self._due if self._due > self.now else grid)
                if self._mail:
                    until = min(until, max(self._mail[0][0], self.now))
                if until > self.now:
                    if flow is not None:
                        flow(until - self.now)
                    for device in self.devices:
                        device.live(self.now, until - self.now)
                    self.now = until
                self._deliver()
                if self.now >= self._due:
                    self.pass_now()
            self._send_again()
            self._reports()
            if self.now >= self._due:
                self.pass_now()
            if watch is not None:
                watch()

    def pass_now(self) -> None:
        outcome = decide(self.site(), self.timeline, self.rules, self.memory, self.instant())
        self.passes += 1
        self.memory = outcome.memory
        self._due = outcome.next_wakeup
        for decision in outcome.decisions:
            self.decisions.append(decision)
            for action in decision.actions:
                self.act(action)

    def act(self, action: Action) -> None:
        before = self.states[action.number]
        command_id = next(self._ids)
        self.states[action.number] = after_action(before, action, command_id, self.instant(), next(self._seq))
        self.actions.append(Done(self.now, action, before, self.passes))
        self._open[action.number] = (command_id, action.setting, self.now + before.resource.latency_s, 1)
        self._send(action.number, command_id, action.setting)

    def restart(self, journal: bool) -> None:
        """The daemon ends and starts: readings and memory are gone; holds and wishes only without a journal."""
        self.memory = Memory()
        self._open.clear()
        for number, state in self.states.items():
            kept = replace(state, reading=None, pending=None, present=True)
            self.states[number] = kept if journal else ResourceState(state.resource)
            self._reported[number] = -1e9
        self._due = self.now

    def device(self, number: int) -> Device:
        return next(device for device in self.devices if device.resource.number == number)

    # --- links -----------------------------------------------------------------------------------------------

    def _post(self, what: Callable[[], None]) -> None:
        if self._rng.random() >= self.links.loss:
            heapq.heappush(self._mail, (self.now + self._rng.uniform(0, self.links.delay_s), next(self._order), what))

    def _deliver(self) -> None:
        while self._mail and self._mail[0][0] <= self.now:
            heapq.heappop(self._mail)[2]()

    def _send(self, number: int, command_id: int, setting: Setting) -> None:
        device = self.device(number)

        def arrive() -> None:
            if not device.deaf:
                device.obey(command_id, setting)
                self._report(device)

        self._post(arrive)

    def _send_again(self) -> None:
        for number, (command_id, setting, due, tries) in list(self._open.items()):
            state = self.states[number]
            if due > self.now:
                continue
            if tries < 2:
                self._open[number] = (command_id, setting, self.now + state.resource.latency_s, tries + 1)
                self._send(number, command_id, setting)
            else:
                del self._open[number]
                self.states[number] = replace(state, pending=None, barred_until=self.now + state.resource.lease_s)
                self.alarms.append((self.now, state.resource.name))
                self._due = self.now

    def _reports(self) -> None:
        for device in self.devices:
            number = device.resource.number
            due = self.now - self._reported[number] >= self.links.report_s
            if not due and self.links.change_w > 0:
                due = abs(device.power(self.now) - self._told[number]) >= self.links.change_w
            if due:
                self._report(device)
        if self.links.meter_s > 0 and self.now - self._metered >= self.links.meter_s:
            self._metered = self.now
            self.meter = Reading(self.now, self.power())
            self._look()

    def _report(self, device: Device) -> None:
        if device.silent:
            return
        reading = device.reading(self.now)
        number = device.resource.number
        self._reported[number] = self.now
        self._told[number] = reading.power_w or 0.0

        def arrive() -> None:
            before = self.states[number]
            if before.reading is not None and before.reading.taken_at > reading.taken_at:
                return
            known = self._open.get(number)
            after = after_reading(before, reading, self.instant())
            self.states[number] = after
            if known is not None and (reading.done >= known[0] or read_back(replace(before, reading=reading))):
                del self._open[number]
            self._look()

        self._post(arrive)

    def _look(self) -> None:
        now = self.instant()
        if crosses(site_power(self.site(), now, self.rules), limit_at(self.timeline, now), self.memory):
            self.pass_now()
