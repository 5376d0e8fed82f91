"""What control or an operator chose becomes a command, and what follows from its failure is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.clock import Instant
from gateway.control.bookkeeping import after_action, leaving_at
from gateway.control.effects import setting_power, words
from gateway.control.power import worst_power
from gateway.dispatch import UNCONFIRMED
from gateway.site.command import Command, Source
from gateway.site.decision import Action, Decision, Kept, Rule
from gateway.site.picture import ResourceState
from gateway.site.resource import Setting

if TYPE_CHECKING:
    from gateway.engine import Engine


class ActionDesk:
    """Nothing is sent once the engine is ending."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hold_seq = 0
        # What each held before its last action.
        self._held_before: dict[int, tuple[Setting | None, int]] = {}
        self._unwritten: list[ResourceState] = []

    def take_up(self) -> None:
        """Holds of before this start keep their order among new ones."""
        self._hold_seq = max((state.held_seq for state in self._engine.states.values()), default=0)

    def forget(self, number: int) -> None:
        """The resource is no longer part of the site."""
        self._held_before.pop(number, None)

    def act(self, action: Action, now: Instant) -> None:
        """Send one chosen action; ``write`` writes down what follows from it."""
        engine = self._engine
        if engine.ending:
            return
        state = engine.states[action.number]
        command_id = engine.journal.next_command_id()
        self._hold_seq += 1
        after = after_action(state, action, command_id, now, self._hold_seq)
        engine.states[action.number] = after
        self._held_before[action.number] = (state.held, state.held_seq)
        latency_s = after.pending.latency_s if after.pending is not None else state.resource.latency_s
        command = self._made(state, action.setting, action.source, action.target_w, command_id)
        if not engine.dispatcher.send(command, latency_s):
            engine.states[action.number] = leaving_at(after, math.inf)
        self._unwritten.append(after)

    def write(self) -> None:
        """All that was sent, to the journal: beside the sending, never before it."""
        engine = self._engine
        engine.dispatcher.save()
        for state in self._unwritten:
            engine.journal.save_hold(state)
        self._unwritten.clear()

    def resume(self, state: ResourceState, setting: Setting, now: Instant) -> None:
        """Say again what it was told before; until it shows, the command counts."""
        engine = self._engine
        if engine.ending:
            return
        target = setting_power(state, setting)
        # Whoever restarted may run as it likes until it hears us.
        power = worst_power(state)
        said = words(state.resource, setting)
        number = state.resource.number
        action = Action(state.resource.name, number, setting, target - power, target, Source.RESUME, said)
        command_id = engine.journal.next_command_id()
        after = after_action(state, action, command_id, now, state.held_seq)
        after = engine.states[number] = replace(after, switched_at=state.switched_at)
        command = self._made(state, setting, action.source, target, command_id)
        if not engine.dispatcher.send(command, state.resource.latency_s):
            engine.states[number] = leaving_at(after, math.inf)
        engine.dispatcher.save()

    def _made(
        self, state: ResourceState, setting: Setting, source: Source, target_w: float, command_id: int
    ) -> Command:
        resource = state.resource
        return Command(
            command_id,
            resource.name,
            resource.number,
            setting,
            source,
            resource.lease_s,
            target_w,
            expiry=self._engine.clock.monotonic() + resource.lease_s,
        )

    def begun(self, command: Command) -> None:
        """A command that waited for its turn on the link has left."""
        engine = self._engine
        state = engine.states.get(command.number)
        pending = state.pending if state is not None else None
        if state is not None and pending is not None and pending.waits and pending.command_id == command.id:
            engine.states[command.number] = leaving_at(state, engine.clock.monotonic())

    def failed(self, command: Command) -> None:
        """Alarm, and go on without this resource for a lease."""
        engine = self._engine
        state = engine.states.get(command.number)
        if state is None:
            return
        now = engine.clock.now()
        held, held_seq = state.held, state.held_seq
        if command.source in (Source.RESTORE, Source.RDR):
            # It stands as it stood: what it was held to still is to be given back.
            held, held_seq = self._held_before.get(command.number, (held, held_seq))
        left_out = replace(
            state,
            pending=None,
            held=held,
            held_seq=held_seq,
            barred_until=now.mono + state.resource.lease_s,
        )
        engine.states[command.number] = left_out
        engine.journal.save_hold(left_out)
        why = f"{command.resource} did not confirm '{command.setting}' after {command.state.value} twice"
        if command.answer != UNCONFIRMED:
            why = f"{command.resource} does not take '{command.setting}': it {command.answer}"
        kept = (Kept(command.resource, f"left out for {state.resource.lease_s:.0f} s"),)
        engine.record(Decision(Rule.ALARM, now.wall, engine.watts(), engine.limit(now), why, kept=kept))
        engine.soon()
