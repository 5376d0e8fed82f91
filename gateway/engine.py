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
from gateway.control.decide import crosses, decide
from gateway.control.effects import setting_power, shows
from gateway.control.limit import limit_at, next_change
from gateway.control.power import SitePower, site_power
from gateway.control.rules import Memory, Rules
from gateway.dispatch import Dispatcher
from gateway.field.base import FieldAdapter
from gateway.journal import Journal
from gateway.operator import OperatorDesk
from gateway.rdr_desk import RdrDesk
from gateway.reporting import Reporter
from gateway.site.command import Command, Source
from gateway.site.decision import Action, Decision, Kept, Limit, Rule
from gateway.site.event import DrEvent, Grant, RdrAnswer, Reservation
from gateway.site.picture import ResourceState, Site, Timeline
from gateway.site.report import SiteReport
from gateway.site.resource import Reading, Resource, Setting
from gateway.upstream.base import Upstream

log = logging.getLogger("smartema.control")


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
        self.events: dict[tuple[str, int], DrEvent] = {}
        self.opted_in: dict[tuple[str, int], tuple[int, bool]] = {}
        self.grants: list[Grant] = []
        self.reservations: list[Reservation] = []
        self.passes = 0
        self.turns = 0
        self.listeners: list[Callable[[Decision], None]] = []
        self._rng = rng
        self._rules = rules_of(config.control)
        self._memory = Memory()
        self._timeline = Timeline()
        self._limit = Limit(None, None)
        self._limit_until: float | None = 0.0
        self._hold_seq = 0
        self._wakeup = 0.0
        self._wake = asyncio.Event()
        self._last_threshold: float | None = None
        self._awaited: set[int] = set()
        self._held_before: dict[int, tuple[Setting | None, int]] = {}
        self._silent_since: dict[int, float] = {}
        self.dispatcher = Dispatcher(journal, clock, self.adapters.get, self._command_failed, self.wake)
        self.reporter = Reporter(config.reports, journal, self.states, self._sums, self._tell_upwards)
        self.rdr = RdrDesk(self)
        self.operator = OperatorDesk(self)
        self._take_up()

    # --- what was running before this start -----------------------------------------------------------------

    def _take_up(self) -> None:
        """Take up what the journal holds: a restarted EMA goes on rather than starting over."""
        now = self.clock.now()
        for saved in self.journal.devices():
            state = saved.state if saved.state is not None else ResourceState(saved.resource)
            self.states[saved.resource.number] = replace(
                state, resource=saved.resource, present=False, reading=None, pending=None
            )
            self._hold_seq = max(self._hold_seq, state.held_seq)
        if self.states:
            # Until they are heard again, or can no longer hold what they were told, nothing is given back.
            self._awaited = set(self.states)
            longest = max(s.resource.lease_s for s in self.states.values())
            self._memory = replace(self._memory, restore_not_before=now.mono + longest)
        for event in self.journal.events(now.wall if now.trusted else 0.0):
            key = (event.event.upstream, event.event.event_id)
            self.events[key] = event.event
            if event.opted is not None:
                self.opted_in[key] = (event.event.modification, event.opted)
        self.grants = [grant for grant in self.journal.grants() if grant.until > now.wall]
        threshold = self.journal.value("threshold_w")
        self._last_threshold = float(threshold) if threshold else None
        self._renew_timeline()

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
        if self.clock.monotonic() >= self._memory.restore_not_before:
            self._awaited.clear()
        return [self.states[number].resource.name for number in self._awaited if number in self.states]

    def _heard(self, number: int) -> None:
        self._awaited.discard(number)
        if not self._awaited:
            self._memory = replace(self._memory, restore_not_before=0.0)

    def wake(self) -> None:
        """Something has a new due moment: look again."""
        self._wake.set()

    def reconfigure(self, config: Config) -> None:
        """New numbers for control and reports, from the next pass on."""
        self.config = config
        self._rules = rules_of(config.control)
        self.reporter.config = config.reports
        self._renew_timeline()
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
        self.adapters[number] = adapter
        state = ResourceState(resource) if known is None else replace(known, resource=resource, present=True)
        self.states[number] = state
        if state.reading is None:
            self._silent_since[number] = now.mono
        self.journal.save_device(resource, adapter.name, "")
        if not came_back:
            self.reporter.connected(state, now.wall)
            log.info("%s came over %s, priority %d", resource.name, adapter.name, resource.priority)
        if state.held is not None:
            self._command(state, state.held, Source.RESUME, setting_power(state, state.held))

    def gone(self, number: int, why: str, lost: bool = False) -> None:
        """A resource left. After its good-bye what it drew no longer counts; ``lost`` without one it does."""
        state = self.states.get(number)
        if state is None or not state.present:
            return
        now = self.clock.now()
        self.states[number] = replace(state, present=False, reading=state.reading if lost else None, pending=None)
        self.dispatcher.forget(number)
        self.reporter.disconnected(state, now.wall)
        log.info("%s went: %s", state.resource.name, why)
        self._soon()

    def forget(self, number: int, why: str) -> None:
        """An operator took a resource away: it is no longer part of the site until it comes again."""
        self.gone(number, why)
        self.states.pop(number, None)
        self.adapters.pop(number, None)
        self.journal.forget_device(number)
        self._soon()

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
        key = (event.upstream, event.event_id)
        known = self.events.get(key)
        if known is not None and known.modification >= event.modification:
            await self.journal.durable()
            return self.opted_in.get(key, (0, True))[1]
        now = self.clock.now()
        delay = known.restore_delay_s if known else self._rng.uniform(0.0, self.config.control.restore_delay_s)
        event = replace(event, restore_delay_s=delay)
        self.events[key] = event
        self._renew_timeline()
        self.pass_now()
        opt_in, why = self._opt(event, now)
        self.opted_in[key] = (event.modification, opt_in)
        if not opt_in:
            del self.events[key]
            self._renew_timeline()
            self.pass_now()
        self.journal.save_event(event, opt_in)
        self.record(Decision(Rule.OPT, now.wall, self.power().watts, self.limit(now), why, event_id=event.event_id))
        await self.journal.durable()
        return opt_in

    def _opt(self, event: DrEvent, now: Instant) -> tuple[bool, str]:
        named = f"event {event.event_id} of {event.upstream}, {event.limit_w:.0f} W"
        policy = self.config.control.opt
        if event.cancelled:
            return True, f"{named}: cancelled"
        if policy == "never":
            return False, f"{named}: opted out, the configuration says never"
        if now.trusted and event.end <= now.wall:
            return False, f"{named}: opted out, it ended before it came"
        if policy == "able" and self._memory.futile:
            return False, f"{named}: opted out, all that may be shed is off and the site is still over"
        return True, f"{named}: opted in"

    async def take_setting(self, number: int, setting: Setting, source: Source) -> str:
        return self.operator.set(number, setting, source)

    async def take_dimming(self, number: int, step: int, source: Source) -> str:
        return self.operator.dim(number, step, source)

    def threshold(self, watts: float, upstream: str) -> None:
        """A new default threshold from above; it survives a restart."""
        self._last_threshold = watts
        self.journal.save_value("threshold_w", f"{watts:.3f}")
        log.info("threshold %.0f W from %s", watts, upstream)
        self._renew_timeline()
        self.pass_now()

    def report(self) -> SiteReport:
        return self.reporter.build(self.clock.now().wall, None)

    def opted(self, upstream: str, event_id: int) -> int | None:
        answered = self.opted_in.get((upstream, event_id))
        return answered[0] if answered else None

    # --- control ---------------------------------------------------------------------------------------------

    def site(self) -> Site:
        """The site as control sees it."""
        return Site(tuple(self.states.values()), reservations=tuple(self.reservations))

    def timeline(self) -> Timeline:
        return self._timeline

    def rules(self) -> Rules:
        return self._rules

    def memory(self) -> Memory:
        return self._memory

    def power(self) -> SitePower:
        """The power that counts, now."""
        return site_power(self.site(), self.clock.now(), self._rules)

    def limit(self, now: Instant) -> Limit:
        """What binds now; reckoned anew only when something starts or ends."""
        if self._limit_until is not None and now.mono >= self._limit_until:
            self._limit = limit_at(self._timeline, now)
            self._limit_until = next_change(self._timeline, now)
            if not now.trusted:
                self._limit_until = now.mono + self._rules.pass_s
            if self._limit.import_w is not None and self._timeline.last_threshold_w != self._limit.import_w:
                self._timeline = replace(self._timeline, last_threshold_w=self._limit.import_w)
                self.journal.save_value("last_threshold_w", f"{self._limit.import_w:.3f}")
        return self._limit

    def pass_now(self) -> None:
        """One pass at this moment."""
        self._pass(self.site(), self.clock.now())

    def _pass(self, site: Site, now: Instant) -> None:
        self.limit(now)
        outcome = decide(site, self._timeline, self._rules, self._memory, now)
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

    def _command(self, state: ResourceState, setting: Setting, source: Source, target_w: float) -> None:
        command_id = self.journal.next_command_id()
        self.dispatcher.send(self._made(state, setting, source, target_w, command_id), state.resource.latency_s)

    def _made(
        self, state: ResourceState, setting: Setting, source: Source, target_w: float, command_id: int
    ) -> Command:
        resource = state.resource
        return Command(command_id, resource.name, resource.number, setting, source, resource.lease_s, target_w)

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
        if self.grants and now.trusted:
            ended = [g for g in self.grants if g.until <= now.wall]
            for grant in ended:
                self.grants.remove(grant)
                self.journal.remove_grant(grant)
            if ended:
                self._renew_timeline()
        if now.trusted and any(e.end + 3600 < now.wall for e in self.events.values()):
            self.events = {k: e for k, e in self.events.items() if e.end + 3600 >= now.wall}
            self._renew_timeline()

    def renew_timeline(self) -> None:
        """Grants or loans changed."""
        self._renew_timeline()

    def _renew_timeline(self) -> None:
        control = self.config.control
        threshold = self._last_threshold if self._last_threshold is not None else control.threshold_w or None
        last = self.journal.value("last_threshold_w")
        self._timeline = Timeline(
            threshold_w=threshold,
            hard_w=control.hard_w or None,
            export_w=control.export_w if control.export_w >= 0 else None,
            phase_a=tuple(control.fuse_a),
            events=tuple(self.events.values()),
            grants=tuple(self.grants),
            last_threshold_w=float(last) if last else None,
        )
        self._limit_until = 0.0
        self._soon()

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
