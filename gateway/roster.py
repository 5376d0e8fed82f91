"""Who belongs to the site: what comes, goes, is awaited after a restart, and what is forgotten."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.clock import Instant
from gateway.field.base import FieldAdapter
from gateway.field.once import Changes
from gateway.site.command import Command, CommandState
from gateway.site.picture import ResourceState
from gateway.site.resource import Resource

if TYPE_CHECKING:
    from gateway.engine import Engine

log = logging.getLogger("smartema.control")

# Devices that no [[device]] names, present or gone, where such may come.
MOST_STRANGERS = 256


class Roster:
    """Keeps ``Engine.states`` and ``Engine.adapters``: one entry a number."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._comings = Changes(log, engine.clock.monotonic)
        self._awaited: set[int] = set()
        self._silent_since: dict[int, float] = {}
        # What was told before this start and not confirmed.
        self._unconfirmed: dict[int, Command] = {}

    # --- what was here before this start ---------------------------------------------------------------------

    def take_up(self, now: Instant) -> None:
        """The devices of the journal: not there until they are heard, but known."""
        engine = self._engine
        configured = set(engine.config.named.items())
        for saved in engine.journal.devices():
            stranger = (saved.resource.number, saved.link) not in configured
            if stranger and not engine.config.open_to_strangers(saved.link):
                # Taken out of the configuration while nobody ran, or let in by the menu until the next start.
                engine.journal.forget_device(saved.resource.number)
                continue
            state = saved.state if saved.state is not None else ResourceState(saved.resource)
            engine.states[saved.resource.number] = replace(
                state, resource=saved.resource, present=False, reading=None, pending=None
            )
        if engine.states:
            # Until they are heard again, or can no longer hold what they were told, nothing is given back.
            self._awaited = set(engine.states)
            longest = max(s.resource.lease_s for s in engine.states.values())
            engine.await_until(now.mono + longest)

    def take_up_commands(self, now: Instant) -> None:
        """The open commands of the journal: said again once their device is there."""
        engine = self._engine
        for command in engine.journal.open_commands():
            told = engine.states.get(command.number)
            if told is None or told.held is not None or (command.expiry or 0.0) <= now.mono:
                # What is held is said again anyway.
                engine.journal.save_command(replace(command, state=CommandState.EXPIRED), now.wall)
            else:
                self._unconfirmed[command.number] = command

    def awaited(self) -> list[str]:
        """Who was here before this start and was not heard yet, while that still matters."""
        engine = self._engine
        if engine.clock.monotonic() >= engine.memory().awaiting_until:
            self._awaited.clear()
        return [engine.states[number].resource.name for number in self._awaited if number in engine.states]

    def heard(self, number: int) -> None:
        """It said its state."""
        self._silent_since.pop(number, None)
        self._await_no_more(number)

    def _await_no_more(self, number: int) -> None:
        if self._awaited:
            self._awaited.discard(number)
            if not self._awaited:
                self._engine.await_until(0.0)

    # --- who comes and goes ----------------------------------------------------------------------------------

    def appeared(self, adapter: FieldAdapter, resource: Resource) -> None:
        """A resource announced itself (again); what control holds it to is said again."""
        engine = self._engine
        number = resource.number
        known = engine.states.get(number)
        same = known is not None and known.present and known.resource == resource
        if same and engine.adapters.get(number) is adapter:
            return
        came_back = known is not None and known.present
        now = engine.clock.now()
        if known is None:
            self._make_room()
        engine.adapters[number] = adapter
        if known is None or known.resource.kind is not resource.kind:
            # Another thing under a number that was used before: nothing of the old one is true of it.
            state = ResourceState(resource)
        else:
            state = replace(known, resource=resource, present=True, pending=None)
        engine.states[number] = state
        if state.reading is None:
            self._silent_since[number] = now.mono
        engine.journal.save_device(resource, adapter.name, "")
        if not came_back:
            engine.reporter.connected(state, now.wall)
            self._comings.say(number, f"{resource.name} came over {adapter.name}, priority {resource.priority}")
        if known is not None and state.held != known.held:
            engine.journal.save_hold(state)
        unconfirmed = self._unconfirmed.pop(number, None)
        if state.held is not None:
            engine.actions.resume(state, state.held, now)
        elif unconfirmed is not None and unconfirmed.expiry is not None and unconfirmed.expiry > now.mono:
            engine.actions.resume(state, unconfirmed.setting, now)

    def gone(self, number: int, why: str, lost: bool = False) -> None:
        """A resource left. After its good-bye what it drew no longer counts; ``lost`` without one it does."""
        engine = self._engine
        state = engine.states.get(number)
        if state is None or not state.present:
            return
        now = engine.clock.now()
        if lost:
            # What it was told last may have reached it.
            never_left = state.pending is not None and state.pending.waits
            engine.states[number] = replace(state, present=False, pending=None if never_left else state.pending)
        else:
            engine.states[number] = replace(state, present=False, reading=None, pending=None)
            engine.book.end_grants(state.resource.name, "it said good-bye")
        engine.dispatcher.forget(number)
        engine.reporter.disconnected(state, now.wall)
        self._comings.say(number, f"{state.resource.name} went: {why}")
        engine.soon()

    def forget(self, number: int, why: str) -> None:
        """An operator took a resource away: it is no longer part of the site until it comes again."""
        engine = self._engine
        self.gone(number, why)
        state = engine.states.pop(number, None)
        if state is not None:
            engine.book.end_grants(state.resource.name, why)
        engine.adapters.pop(number, None)
        engine.actions.forget(number)
        self._silent_since.pop(number, None)
        unconfirmed = self._unconfirmed.pop(number, None)
        if unconfirmed is not None:
            engine.journal.save_command(replace(unconfirmed, state=CommandState.EXPIRED), engine.clock.now().wall)
        self._await_no_more(number)
        engine.reporter.forget(number)
        engine.journal.forget_device(number)
        engine.soon()

    def _make_room(self) -> None:
        """Where strangers may come, their numbers must not fill the memory: the oldest that left is forgotten."""
        engine = self._engine
        most_strangers = max(MOST_STRANGERS, engine.config.most_guests)
        configured = engine.config.named
        if len(engine.states) < len(configured) + most_strangers:
            return
        for number, state in engine.states.items():
            if not state.present and number not in configured:
                self.forget(number, "others came")
                return

    def expire(self, now: Instant) -> None:
        """Who announced itself and then said nothing is taken for lost."""
        self._comings.settle()
        stale_after_s = self._engine.rules().stale_after_s
        for number, since in list(self._silent_since.items()):
            if now.mono - since > stale_after_s:
                del self._silent_since[number]
                self.gone(number, f"it announced itself and said no state for {stale_after_s:g} s", lost=True)
