"""What can be taken from each resource now, and what may not be touched and why (docs/control.md, "A pass")."""

from __future__ import annotations

import math

from gateway.clock import Instant
from gateway.control.effects import OFF, runs
from gateway.control.power import counted_power, unanswered
from gateway.control.rules import Rules
from gateway.record import slim
from gateway.site.picture import ResourceState
from gateway.site.resource import Kind, Setting

# Less than this is no change of power: below what a device's meter can tell.
NOTHING_W = 0.5

# Sums of floats that are meant to be equal differ by less than this.
EQUAL_W = 1e-6


@slim(frozen=True, slots=True)
class Choice:
    """One setting that takes ``cut_w`` (positive) off the site's excess."""

    cut_w: float
    setting: Setting
    target_w: float
    switches: bool = False


@slim(frozen=True, slots=True)
class Item:
    """One resource that can be shed.

    ``level``: it can be dimmed by so many steps, each worth the same. ``span_w``: so much can be taken in any amount,
    in multiples of ``step_w`` of what is left. ``sign``: 1 for a load under the import limit, -1 for a generator
    under the export limit.
    """

    state: ResourceState
    power_w: float
    level: int = 0
    off: Choice | None = None
    span_w: float = 0.0
    step_w: float = 0.0
    sign: int = 1

    def most(self, switching: bool = True) -> Choice | None:
        """What takes the most."""
        if switching and self.off is not None:
            return self.off
        if self.span_w > NOTHING_W:
            return self._taking(self.span_w)
        return self._dimmed(self.level) if self.level > 0 else None

    def most_w(self, switching: bool) -> float:
        """How many W that takes."""
        if switching and self.off is not None:
            return self.off.cut_w
        if self.span_w > NOTHING_W:
            return self.span_w
        return self.level * self._a_step()

    def at_least(self, watts: float, switching: bool = True) -> Choice | None:
        """What takes the least of all that take so much."""
        if self.span_w >= watts - EQUAL_W:
            return self._taking(min(watts, self.span_w))
        if self.level > 0:
            steps = max(math.ceil((watts - EQUAL_W) / self._a_step()), 1)
            if steps <= self.level:
                return self._dimmed(steps)
        if switching and self.off is not None and self.off.cut_w >= watts - EQUAL_W:
            return self.off
        return None

    def at_most(self, watts: float, switching: bool = True) -> Choice | None:
        """What takes the most of all that take no more than so much."""
        if switching and self.off is not None and self.off.cut_w <= watts + EQUAL_W:
            return self.off
        if self.span_w > NOTHING_W:
            room = min(watts, self.span_w)
            if self.step_w > 0:
                left = math.ceil((abs(self.power_w) - room) / self.step_w - 1e-9) * self.step_w
                room = abs(self.power_w) - left
            if room > NOTHING_W:
                return self._taking(room)
        if self.level > 0:
            steps = min(math.floor((watts + EQUAL_W) / self._a_step()), self.level)
            if steps > 0:
                return self._dimmed(steps)
        return None

    def choices(self, watts: float, switching: bool) -> list[Choice]:
        """What is worth trying while so much is still to be taken, the most first."""
        enough = self.at_least(watts, switching)
        some = [enough] if enough is not None else []
        if switching and self.off is not None and self.off.cut_w < watts:
            some.append(self.off)
        if NOTHING_W < self.span_w < watts:
            some.append(self._taking(self.span_w))
        if self.level > 0:
            below = min(math.ceil(watts / self._a_step()) - 1, self.level)
            some.extend(self._dimmed(steps) for steps in range(below, 0, -1))
        return some

    def _a_step(self) -> float:
        """W of one dimming step: a lamp at step d draws d + 1 parts of ten."""
        return self.power_w / (self.level + 1)

    def _dimmed(self, steps: int) -> Choice:
        cut = steps * self._a_step()
        return Choice(cut, Setting(on=True, level=self.level - steps), self.power_w - cut)

    def _taking(self, watts: float) -> Choice:
        left = abs(self.power_w) - watts
        if self.step_w > 0:
            least = abs(self.power_w) - self.span_w
            left = max(math.floor(left / self.step_w + 1e-9) * self.step_w, least)
        target = self.sign * left
        return Choice(abs(self.power_w) - left, Setting(setpoint_w=target), target)


def untouchable(state: ResourceState, now: Instant) -> str:
    """Why a resource may not be commanded at all now; empty: it may."""
    if state.resource.never_shed:
        return "never shed"
    if not state.present:
        return "not connected"
    if state.barred_until > now.mono:
        return f"did not answer, left out for {state.barred_until - now.mono:.0f} s"
    if state.reading is None:
        return "has said nothing yet"
    if unanswered(state, now):
        return "does not answer"
    return ""


def off_barred(state: ResourceState, now: Instant) -> float:
    """Seconds until it may be switched off (0: now)."""
    if state.switched_at is None or state.resource.min_on_s <= 0:
        return 0.0
    return max(state.switched_at + state.resource.min_on_s - now.mono, 0.0)


def on_barred(state: ResourceState, now: Instant) -> float:
    """Seconds until it may be switched on (0: now)."""
    if state.switched_at is None or state.resource.min_off_s <= 0:
        return 0.0
    return max(state.switched_at + state.resource.min_off_s - now.mono, 0.0)


def load_item(state: ResourceState, now: Instant, rules: Rules) -> Item | None:
    """What can be taken from a load under the import limit; None: nothing."""
    power = counted_power(state, now, rules)
    if power <= NOTHING_W:
        return None
    may_switch = off_barred(state, now) <= 0
    point = state.resource.setpoint
    if point is not None and state.resource.kind is Kind.EMA:
        return Item(state, power, span_w=max(power - max(point.min_w, 0.0), 0.0))
    if point is not None:
        pause = Setting(setpoint_w=0.0) if state.resource.kind is Kind.EV else OFF
        off = Choice(power, pause, 0.0, True) if may_switch else None
        return Item(state, power, off=off, span_w=max(power - max(point.min_w, 0.0), 0.0), step_w=point.step_w)
    off = Choice(power, OFF, 0.0, True) if state.resource.switch and may_switch else None
    level = runs(state).level if state.resource.levels else None
    return Item(state, power, level or 0, off)


def panel_item(state: ResourceState, now: Instant, rules: Rules) -> Item | None:
    """What can be taken from a generator under the export limit; None: nothing."""
    power = counted_power(state, now, rules)
    if power >= -NOTHING_W:
        return None
    point = state.resource.setpoint
    if point is None:
        off = Choice(-power, OFF, 0.0, True) if state.resource.switch and off_barred(state, now) <= 0 else None
        return Item(state, power, off=off, sign=-1)
    return Item(state, power, span_w=-power, step_w=point.step_w, sign=-1)
