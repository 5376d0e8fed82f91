"""The site's one keeper: takes readings and events in, lets control decide, sends what it chose, writes it down.

No protocol and no clock of its own. Everything here runs on the loop's thread and returns at once; what must be
on disk before somebody is answered is awaited by the caller of ``take_event`` and by the RDR desk.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace

from gateway.clock import Clock, Instant, wait
from gateway.config.model import Config, ControlConfig
from gateway.control.bookkeeping import after_action, after_reading
from gateway.control.decide import crosses, decide, excess_of
from gateway.control.effects import setting_power, shows, words
from gateway.control.items import EQUAL_W
from gateway.control.limit import limit_at
from gateway.control.power import SitePower, site_power, worst_power
from gateway.control.rules import Memory, Rules
from gateway.dispatch import Dispatcher
from gateway.field.base import FieldAdapter
from gateway.journal import Journal
from gateway.limits import LimitBook, key_of
from gateway.operator import OperatorDesk
from gateway.rdr_desk import RdrDesk
from gateway.reporting import Reporter
from gateway.site.command import Command, CommandState, Source
from gateway.site.decision import Action, Decision, Kept, Limit, Rule
from gateway.site.event import DrEvent, Grant, RdrAnswer, Reservation
from gateway.site.picture import ResourceState, Site, Timeline
from gateway.site.report import SiteReport
from gateway.site.resource import Reading, Resource, Setting
from gateway.upstream.base import Upstream

log = logging.getLogger("smartema.control")


# Devices that no [[device]] names, present or gone, where such may come.
MOST_STRANGERS = 256


def rules_of(config: ControlConfig) -> Rules:
    """The ``[control]`` table as control reads it."""
    return Rules(
        pass_s=config.pass_s,
        cap_w=config.cap_w or None,
        hysteresis_share=config.hysteresis_percent / 100,
        hysteresis_min_w=config.hysteresis_min_w,
        reserve_w=config.reserve_w,
        stale_after_s=config.stale_after_s,
        prepare_s=config.prepare_s,
    )


class Engine:
    """Implements ``SiteInputs`` for the field and ``UpperInputs`` for the upstreams."""

    def __init__(self, config: Config, journal: Journal, clock: Clock, rng: random.Random) -> None:
        self.config = config
        self.clock = clock
        self.journal = journal
        self.states: dict[int, ResourceState] = {}
        self.adapters: dict[int, FieldAdapter] = {}
        self.upstreams: list[Upstream] = []
        self.reservations: list[Reservation] = []
        self.passes = 0
        self.turns = 0
        self.ending = False
        self.listeners: list[Callable[[Decision], None]] = []
        self._rng = rng
        self._rules = rules_of(config.control)
        self._memory = Memory()
        self._hold_seq = 0
        self._wakeup = 0.0
        self._wake = asyncio.Event()
        self._awaited: set[int] = set()
        self._held_before: dict[int, tuple[Setting | None, int]] = {}
        self._silent_since: dict[int, float] = {}
        self._unconfirmed: dict[int, Command] = {}
        self.book = LimitBook(config.control, journal, self._soon)
        self.dispatcher = Dispatcher(journal, clock, self.adapters.get, self._command_failed, self.wake)
        self.reporter = Reporter(config.reports, journal, self.states, self._sums, self._tell_upwards)
        self.rdr = RdrDesk(self)
        self.operator = OperatorDesk(self)
        self._take_up()

    # --- what was running before this start -----------------------------------------------------------------

    def _take_up(self) -> None:
        """Take up what the journal holds: a restarted EMA goes on rather than starting over."""
        now = self.clock.now()
        configured = {(d.number, d.link) for d in self.config.device}
        for saved in self.journal.devices():
            stranger = (saved.resource.number, saved.link) not in configured
            if stranger and not (saved.link == "coap" and self.config.site_coap.open):
                # Taken out of the configuration while nobody ran, or let in by the menu until the next start.
                self.journal.forget_device(saved.resource.number)
                continue
            state = saved.state if saved.state is not None else ResourceState(saved.resource)
            self.states[saved.resource.number] = replace(
                state, resource=saved.resource, present=False, reading=None, pending=None
            )
            self._hold_seq = max(self._hold_seq, state.held_seq)
        if self.states:
            # Until they are heard again, or can no longer hold what they were told, nothing is given back.
            self._awaited = set(self.states)
            longest = max(s.resource.lease_s for s in self.states.values())
            self._memory = replace(self._memory, awaiting_until=now.mono + longest)
        self._memory = replace(self._memory, restore_not_before=self.book.take_up(now))
        for command in self.journal.open_commands():
            told = self.states.get(command.number)
            if told is None or told.held is not None or (command.expiry or 0.0) <= now.mono:
                # What is held is said again anyway.
                self.journal.save_command(replace(command, state=CommandState.EXPIRED), now.wall)
            else:
                self._unconfirmed[command.number] = command

    # --- the loop --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Passes when they are due, commands sent again, reports on time; until cancelled."""
        while True:
            self.turns += 1
            now = self.clock.now()
            self.dispatcher.tick(now.mono)
            self._expire(now)
            if now.mono >= self._wakeup:
                self.pass_now()
            self.reporter.tick(now.mono, now.wall)
            due = min(
                moment
                for moment in (self._wakeup, self.dispatcher.next_due(), self.reporter.next_due())
                if moment is not None
            )
            await wait(self.clock, self._wake, max(due - self.clock.monotonic(), 0.001))

    def awaited(self) -> list[str]:
        """Who was here before this start and was not heard yet, while that still matters."""
        if self.clock.monotonic() >= self._memory.awaiting_until:
            self._awaited.clear()
        return [self.states[number].resource.name for number in self._awaited if number in self.states]

    def _heard(self, number: int) -> None:
        self._awaited.discard(number)
        if not self._awaited:
            self._memory = replace(self._memory, awaiting_until=0.0)

    def wake(self) -> None:
        """Something has a new due moment: look again."""
        self._wake.set()

    def end(self) -> None:
        """The daemon says good-bye: from now on nothing is commanded; what is told is still taken and kept."""
        self.ending = True
        self.dispatcher.end()

    def reconfigure(self, config: Config) -> None:
        """New numbers for control and reports, from the next pass on."""
        self.config = config
        self._rules = rules_of(config.control)
        self.reporter.config = config.reports
        self.book.reconfigure(config.control)
        self.pass_now()

    # --- the field tells (SiteInputs) ------------------------------------------------------------------------

    def appeared(self, adapter: FieldAdapter, resource: Resource) -> None:
        """A resource announced itself (again); what control holds it to is said again."""
        number = resource.number
        known = self.states.get(number)
        if known is not None and known.present and known.resource == resource and self.adapters.get(number) is adapter:
            return
        came_back = known is not None and known.present
        now = self.clock.now()
        if known is None:
            self._make_room()
        self.adapters[number] = adapter
        if known is None or known.resource.kind is not resource.kind:
            # Another thing under a number that was used before: nothing of the old one is true of it.
            state = ResourceState(resource)
        else:
            state = replace(known, resource=resource, present=True, pending=None)
        self.states[number] = state
        if state.reading is None:
            self._silent_since[number] = now.mono
        self.journal.save_device(resource, adapter.name, "")
        if not came_back:
            self.reporter.connected(state, now.wall)
            log.info("%s came over %s, priority %d", resource.name, adapter.name, resource.priority)
        if known is not None and state.held != known.held:
            self.journal.save_hold(state)
        unconfirmed = self._unconfirmed.pop(number, None)
        if state.held is not None:
            self._resume(state, state.held, now)
        elif unconfirmed is not None and unconfirmed.expiry is not None and unconfirmed.expiry > now.mono:
            self._resume(state, unconfirmed.setting, now)

    def gone(self, number: int, why: str, lost: bool = False) -> None:
        """A resource left. After its good-bye what it drew no longer counts; ``lost`` without one it does."""
        state = self.states.get(number)
        if state is None or not state.present:
            return
        now = self.clock.now()
        if lost:
            # What it was told last may have reached it.
            self.states[number] = replace(state, present=False)
        else:
            self.states[number] = replace(state, present=False, reading=None, pending=None)
            self.book.end_grants(state.resource.name, "it said good-bye")
        self.dispatcher.forget(number)
        self.reporter.disconnected(state, now.wall)
        log.info("%s went: %s", state.resource.name, why)
        self._soon()

    def forget(self, number: int, why: str) -> None:
        """An operator took a resource away: it is no longer part of the site until it comes again."""
        self.gone(number, why)
        self.states.pop(number, None)
        for kept in (self.adapters, self._held_before, self._silent_since):
            kept.pop(number, None)
        unconfirmed = self._unconfirmed.pop(number, None)
        if unconfirmed is not None:
            self.journal.save_command(replace(unconfirmed, state=CommandState.EXPIRED), self.clock.now().wall)
        if self._awaited:
            self._heard(number)
        self.reporter.forget(number)
        self.journal.forget_device(number)
        self._soon()

    def _make_room(self) -> None:
        """Where strangers may come, their numbers must not fill the memory: the oldest that left is forgotten."""
        if len(self.states) < len(self.config.device) + MOST_STRANGERS:
            return
        configured = {device.number for device in self.config.device}
        for number, state in self.states.items():
            if not state.present and number not in configured:
                self.forget(number, "others came")
                return

    def reported(self, number: int, reading: Reading) -> None:
        """A new reading; a pass at once when it crosses the limit."""
        before = self.states.get(number)
        if before is None:
            return
        now = self.clock.now()
        after = after_reading(before, reading, now)
        waiting = self.dispatcher.waiting(number)
        if waiting is not None and (reading.done >= waiting.id or shows(before.resource, waiting.setting, reading)):
            self.dispatcher.confirmed(number, waiting.id)
        self.states[number] = after
        if self.book.grants and _left_off(before, after):
            self.book.end_grants(after.resource.name, "it switched itself off")
        if self._awaited:
            self._heard(number)
        self._silent_since.pop(number, None)
        site = self.site()
        power = site_power(site, now, self._rules)
        if crosses(power, self.limit(now), self._memory):
            self._pass(site, now)
        self.reporter.changed(before, after, now.mono, now.wall)

    def asked_back(self, number: int, watts: float, for_s: float) -> RdrAnswer:
        """An RDR of a device."""
        return self.rdr.asked(number, watts, for_s)

    # --- the upper side tells (UpperInputs) ------------------------------------------------------------------

    async def take_event(self, event: DrEvent) -> bool:
        """Shed first, write beside it, return when it is on disk; the caller then answers."""
        answered = self.book.answered(event)
        if answered is not None and answered[0] >= event.modification:
            await self.journal.durable()
            return answered[1]
        now = self.clock.now()
        known = self.book.events.get(key_of(event))
        delay = known.restore_delay_s if known else self._rng.uniform(0.0, self.config.control.restore_delay_s)
        event = replace(event, restore_delay_s=delay)
        refusal = self._refusal(event, now)
        if refusal:
            self.book.refuse(event)
        else:
            self.book.put(event)
        self.pass_now()
        # The commands leave before the writer's thread is woken and competes for the interpreter.
        await asyncio.sleep(0)
        self.book.save(event, not refusal)
        said = f"opted out, {refusal}" if refusal else "cancelled" if event.cancelled else "opted in"
        why = f"event {event.event_id} of {event.upstream}, {event.limit_w:.0f} W: {said}"
        self.record(Decision(Rule.OPT, now.wall, self.power().watts, self.limit(now), why, event_id=event.event_id))
        await self.journal.durable()
        return not refusal

    def _refusal(self, event: DrEvent, now: Instant) -> str:
        """Why to opt out, judged before anything is switched; empty: opt in."""
        policy = self.config.control.opt
        if event.cancelled:
            return ""
        if policy == "never":
            return "the configuration says never"
        if now.trusted and event.end <= now.wall:
            return "it ended before it came"
        if self.book.is_full(event):
            return f"{len(self.book.events)} events are known already"
        if policy == "able":
            return self._unable(event, now)
        return ""

    def _unable(self, event: DrEvent, now: Instant) -> str:
        """What would be over if it began now and everything was done that a pass may do; empty: nothing."""
        trial = replace(
            self.book.timeline, events=(*self.book.timeline.events, replace(event, start=now.wall, end=now.wall + 1.0))
        )
        outcome = decide(self.site(), trial, replace(self._rules, cap_w=None), self._memory, now)
        shed = sum(a.effect_w for d in outcome.decisions if d.rule is Rule.SHED for a in d.actions)
        over = excess_of(self.power().watts + shed, limit_at(trial, now))
        return f"{over:.0f} W would be over with all off that may be shed" if over > EQUAL_W else ""

    async def take_setting(self, number: int, setting: Setting, source: Source) -> str:
        return self.operator.set(number, setting, source)

    async def take_dimming(self, number: int, step: int, source: Source) -> str:
        return self.operator.dim(number, step, source)

    def threshold(self, watts: float, upstream: str) -> None:
        """A new default threshold from above; it survives a restart."""
        log.info("threshold %.0f W from %s", watts, upstream)
        self.book.threshold(watts)
        self.pass_now()

    def report(self) -> SiteReport:
        return self.reporter.build(self.clock.now().wall, None)

    def opted(self, upstream: str, event_id: int) -> int | None:
        answered = self.book.opted_in.get((upstream, event_id))
        return answered[0] if answered else None

    # --- control ---------------------------------------------------------------------------------------------

    @property
    def grants(self) -> list[Grant]:
        """What the upper side allowed on top."""
        return self.book.grants

    def site(self) -> Site:
        """The site as control sees it."""
        return Site(tuple(self.states.values()), reservations=tuple(self.reservations))

    def timeline(self) -> Timeline:
        return self.book.timeline

    def rules(self) -> Rules:
        return self._rules

    def memory(self) -> Memory:
        return self._memory

    def power(self) -> SitePower:
        """The power that counts, now."""
        return site_power(self.site(), self.clock.now(), self._rules)

    def limit(self, now: Instant) -> Limit:
        """What binds now."""
        return self.book.limit(now)

    def pass_now(self) -> None:
        """One pass at this moment."""
        self._pass(self.site(), self.clock.now())

    def _pass(self, site: Site, now: Instant) -> None:
        if self.ending:
            self._wakeup = now.mono + self._rules.pass_s
            return
        self.limit(now)
        outcome = decide(site, self.book.timeline, self._rules, self._memory, now)
        self.passes += 1
        self._memory = outcome.memory
        self._wakeup = outcome.next_wakeup
        for decision in outcome.decisions:
            for action in decision.actions:
                self.act(action, now)
            self.record(decision)
        self.wake()

    def act(self, action: Action, now: Instant) -> None:
        """Send one chosen action and keep what follows from it."""
        if self.ending:
            return
        state = self.states[action.number]
        command_id = self.journal.next_command_id()
        self._hold_seq += 1
        after = after_action(state, action, command_id, now, self._hold_seq)
        self.states[action.number] = after
        self._held_before[action.number] = (state.held, state.held_seq)
        latency_s = after.pending.latency_s if after.pending is not None else state.resource.latency_s
        self.dispatcher.send(self._made(state, action.setting, action.source, action.target_w, command_id), latency_s)
        self.journal.save_hold(after)

    def record(self, decision: Decision) -> Decision:
        """Number a decision, log its line, keep it."""
        decision = replace(decision, id=self.journal.next_decision_id())
        level = logging.WARNING if decision.rule in (Rule.FUTILITY, Rule.ALARM, Rule.FAILSAFE) else logging.INFO
        log.log(level, "%s", decision.line())
        self.journal.save_decision(decision)
        for listener in self.listeners:
            listener(decision)
        return decision

    def _resume(self, state: ResourceState, setting: Setting, now: Instant) -> None:
        """Say again what it was told before; until it shows, the command counts."""
        if self.ending:
            return
        target = setting_power(state, setting)
        # Whoever restarted may run as it likes until it hears us.
        power = worst_power(state)
        said = words(state.resource, setting)
        number = state.resource.number
        action = Action(state.resource.name, number, setting, target - power, target, Source.RESUME, said)
        command_id = self.journal.next_command_id()
        after = after_action(state, action, command_id, now, state.held_seq)
        self.states[number] = replace(after, switched_at=state.switched_at)
        self.dispatcher.send(self._made(state, setting, action.source, target, command_id), state.resource.latency_s)

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
            expiry=self.clock.monotonic() + resource.lease_s,
        )

    def _command_failed(self, command: Command) -> None:
        """Alarm, and go on without this resource for a lease."""
        state = self.states.get(command.number)
        if state is None:
            return
        now = self.clock.now()
        held, held_seq = state.held, state.held_seq
        if command.source in (Source.RESTORE, Source.RDR):
            # It stands as it stood: what it was held to still is to be given back.
            held, held_seq = self._held_before.get(command.number, (held, held_seq))
        failed = replace(
            state,
            pending=None,
            held=held,
            held_seq=held_seq,
            barred_until=now.mono + state.resource.lease_s,
        )
        self.states[command.number] = failed
        self.journal.save_hold(failed)
        why = f"{command.resource} did not confirm '{command.setting}' after {command.state.value} twice"
        self.record(
            Decision(
                Rule.ALARM,
                now.wall,
                self.power().watts,
                self.limit(now),
                why,
                kept=(Kept(command.resource, f"left out for {state.resource.lease_s:.0f} s"),),
            )
        )
        self._soon()

    def _expire(self, now: Instant) -> None:
        for number, since in list(self._silent_since.items()):
            if now.mono - since > self._rules.stale_after_s:
                del self._silent_since[number]
                self.gone(
                    number, f"it announced itself and said no state for {self._rules.stale_after_s:g} s", lost=True
                )
        if self.reservations:
            self.reservations = [r for r in self.reservations if r.until > now.mono]
        self.book.expire(now)

    def _soon(self) -> None:
        self._wakeup = 0.0
        self.wake()

    def _sums(self) -> tuple[float, float | None, float | None]:
        now = self.clock.now()
        power = self.power().watts
        limit = self.limit(now).import_w
        return power, limit, None if limit is None else limit - max(power, 0.0) - self._rules.reserve_w

    def _tell_upwards(self) -> None:
        for upstream in self.upstreams:
            upstream.wake()
        self.wake()


def _left_off(before: ResourceState, after: ResourceState) -> bool:
    """Did somebody at the device switch it off, and not we?"""
    if before.reading is None or before.reading.on is not True or after.reading is None:
        return False
    underway = after.pending is not None and after.pending.confirmed_at is None
    return after.reading.on is False and after.held is None and after.wish.on is False and not underway
