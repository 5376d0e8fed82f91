"""Direct commands of an operator or an EMS to one device: checked against the limit and the minimum times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.control.effects import is_on, setting_power, turns, words
from gateway.control.items import off_barred, on_barred
from gateway.control.power import expected_power
from gateway.site.command import Source
from gateway.site.decision import Action, Decision, Rule
from gateway.site.picture import ResourceState
from gateway.site.resource import DIMMING_STEPS, Setting

if TYPE_CHECKING:
    from gateway.engine import Engine


class OperatorDesk:
    """Each call answers in one line what became of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set(self, number: int, setting: Setting, source: Source) -> str:
        """Carry out, or refuse with the reason. What is carried out becomes how the device runs unconstrained."""
        engine = self._engine
        state = engine.states.get(number)
        if state is None:
            return f"refused: there is no device {number}"
        refusal = self._refusal(state, setting)
        now = engine.clock.now()
        power = engine.watts()
        limit = engine.limit(now)
        said = words(state.resource, setting)
        if refusal:
            line = f"refused: {said}: {refusal}"
            engine.record(Decision(Rule.COMMAND, now.wall, power, limit, f"{source.value} asked, {line}"))
            return line
        target = setting_power(state, setting)
        effect = target - (expected_power(state, now, engine.rules()) or 0.0)
        action = Action(state.resource.name, number, setting, effect, target, source, said)
        engine.act(action, now)
        engine.record(Decision(Rule.COMMAND, now.wall, power, limit, f"{source.value} asked", actions=(action,)))
        return said

    def dim(self, number: int, step: int, source: Source) -> str:
        """One dimming step from what the device last said."""
        state = self._engine.states.get(number)
        if state is None:
            return f"refused: there is no device {number}"
        if not state.resource.levels:
            return f"refused: {state.resource.name} cannot be dimmed"
        pending = state.pending.setting.level if state.pending is not None else None
        level = pending if pending is not None else state.reading.level if state.reading is not None else None
        if level is None:
            return f"refused: {state.resource.name} has not said its dimming yet"
        return self.set(number, Setting(level=min(max(level + step, 0), DIMMING_STEPS - 1)), source)

    def all(self, on: bool, source: Source) -> list[str]:
        """Every switchable device on or off (menu 40 and 50), smallest priority last on, first off."""
        states = sorted(self._engine.states.values(), key=lambda s: s.resource.priority, reverse=on)
        return [self.set(s.resource.number, Setting(on=on), source) for s in states if s.resource.switch and s.present]

    def _refusal(self, state: ResourceState, setting: Setting) -> str:
        engine = self._engine
        resource = state.resource
        now = engine.clock.now()
        if engine.ending:
            return "this EMA is just ending"
        if not state.present:
            return f"{resource.name} is not there"
        if setting.on is not None and not resource.switch:
            return f"{resource.name} cannot be switched"
        if setting.level is not None and not resource.levels:
            return f"{resource.name} cannot be dimmed"
        point = resource.setpoint
        if setting.setpoint_w is not None and (
            point is None or not (point.min_w <= setting.setpoint_w <= point.max_w or setting.setpoint_w == 0)
        ):
            span = "none" if point is None else f"{point.min_w:.0f} to {point.max_w:.0f} W"
            return f"its set points: {span}"
        turned, ran = turns(state, setting), is_on(state)
        if turned is not None and ran is not None and turned is not ran:
            left = on_barred(state, now) if turned else off_barred(state, now)
            if left > 0:
                return f"minimum {'off' if turned else 'on'} time, {left:.0f} s left"
        limit = engine.limit(now)
        effect = setting_power(state, setting) - (expected_power(state, now, engine.rules()) or 0.0)
        power = engine.watts() + (engine.power().reserved_w if effect > 0 and engine.reservations else 0.0)
        if limit.import_w is not None and effect > 0 and power + effect > limit.import_w:
            return f"{power:.0f} W + {effect:.0f} W is over the limit of {limit.import_w:.0f} W"
        if limit.export_w is not None and effect < 0 and -(power + effect) > limit.export_w:
            return f"{power:.0f} W - {-effect:.0f} W is over the export limit of {limit.export_w:.0f} W"
        return ""
