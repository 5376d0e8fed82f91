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
from typing import TYPE_CHECKING

from gateway.action_desk import ActionDesk
from gateway.clock import Clock, Instant, wait
from gateway.config.model import Config, ControlConfig
from gateway.control.bookkeeping import after_reading
from gateway.control.decide import crosses, decide
from gateway.control.effects import shows
from gateway.control.power import SitePower, site_power
from gateway.control.rules import Memory, Rules
from gateway.dispatch import Dispatcher
from gateway.event_desk import EventDesk
from gateway.field.base import FieldAdapter
from gateway.journal import Journal
from gateway.limits import LimitBook
from gateway.operator import OperatorDesk
from gateway.prices import PriceBook
from gateway.rdr_desk import RdrDesk
from gateway.reporting import Reporter
from gateway.roster import Roster
from gateway.site.command import Source
from gateway.site.decision import Action, Decision, Limit, Rule
from gateway.site.event import DrEvent, Grant, RdrAnswer, Reservation
from gateway.site.picture import ResourceState, Site, Timeline
from gateway.site.report import SiteReport
from gateway.site.resource import Reading, Resource, Setting
from gateway.sums import RunningPower, States
from gateway.upstream.base import Upstream

if TYPE_CHECKING:
    from gateway.control.negotiation.messages import FromCoordinator
    from gateway.loan_desk import LoanDesk

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
    """Implements ``SiteInputs`` for the field and ``UpperInputs`` for the upstreams; each desk keeps what it is for."""

    def __init__(self, config: Config, journal: Journal, clock: Clock, rng: random.Random) -> None:
        self.config = config
        self.clock = clock
        self.journal = journal
        self.states = States()
        self._sum = RunningPower(self.states)
        self.adapters: dict[int, FieldAdapter] = {}
        self.upstreams: list[Upstream] = []
        self.reservations: list[Reservation] = []
        self.passes = 0
        self.turns = 0
        self.ending = False
        self.listeners: list[Callable[[Decision], None]] = []
        self._rules = rules_of(config.control)
        self._memory = Memory()
        self._wakeup = 0.0
        self._wake = asyncio.Event()
        self.book = LimitBook(config.control, journal, self.soon)
        self.roster = Roster(self)
        self.actions = ActionDesk(self)
        self.dispatcher = Dispatcher(
            journal, clock, self.adapters.get, self.actions.failed, self.wake, self.actions.begun
        )
        self.reporter = Reporter(config.reports, journal, self.states, self._sums, self._tell_upwards)
        self.reporter.each_ema = config.emas_below.reports == "each"
        self.events = EventDesk(self, rng)
        self.rdr = RdrDesk(self)
        self.operator = OperatorDesk(self)
        self.prices = PriceBook(journal)
        self.loans: LoanDesk | None = None
        self._take_up()

    # --- what was running before this start -----------------------------------------------------------------

    def _take_up(self) -> None:
        """Take up what the journal holds: a restarted EMA goes on rather than starting over."""
        now = self.clock.now()
        self.roster.take_up(now)
        self.actions.take_up()
        not_before = self.book.take_up(now, [upstream.name for upstream in self.config.upstream])
        self._memory = replace(self._memory, restore_not_before=not_before)
        self.roster.take_up_commands(now)
        self._open_loan_desk()

    def _open_loan_desk(self) -> None:
        """Where it negotiates, and where loans of an earlier start still run."""
        if self.config.negotiation.enabled or (self.loans is None and self.journal.values("loan/")):
            from gateway.loan_desk import LoanDesk

            self.loans = self.loans or LoanDesk(self)

    def await_until(self, mono: float) -> None:
        """Until that moment nothing is given back, for somebody of before this start was not heard yet."""
        self._memory = replace(self._memory, awaiting_until=mono)

    # --- the loop --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Passes when they are due, commands sent again, reports on time; until cancelled."""
        while True:
            now = self.clock.now()
            self.dispatcher.tick(now.mono)
            self._expire(now)
            if now.mono >= self._wakeup:
                self.pass_now()
            elif self.loans is not None and now.mono >= self.loans.next_due():
                self.loans.look(now)
            self.reporter.tick(now.mono, now.wall)
            due = min(
                moment
                for moment in (
                    self._wakeup,
                    self.dispatcher.next_due(),
                    self.reporter.next_due(),
                    None if self.loans is None else self.loans.next_due(),
                )
                if moment is not None
            )
            # A turn counts once its work is done: a control that fails at each start does not live.
            self.turns += 1
            await wait(self.clock, self._wake, max(due - self.clock.monotonic(), 0.001))

    def awaited(self) -> list[str]:
        """Who was here before this start and was not heard yet, while that still matters."""
        return self.roster.awaited()

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
        self.reporter.each_ema = config.emas_below.reports == "each"
        self.book.reconfigure(config.control, [upstream.name for upstream in config.upstream])
        self._open_loan_desk()
        if self.loans is not None:
            self.loans.reconfigure(config.negotiation)
        self.pass_now()

    # --- the field tells (SiteInputs) ------------------------------------------------------------------------

    def appeared(self, adapter: FieldAdapter, resource: Resource) -> None:
        """A resource announced itself (again); what control holds it to is said again."""
        self.roster.appeared(adapter, resource)

    def gone(self, number: int, why: str, lost: bool = False) -> None:
        """A resource left. After its good-bye what it drew no longer counts; ``lost`` without one it does."""
        self.roster.gone(number, why, lost)

    def forget(self, number: int, why: str) -> None:
        """An operator took a resource away: it is no longer part of the site until it comes again."""
        self.roster.forget(number, why)

    def reported(self, number: int, reading: Reading) -> None:
        """A new reading; a pass at once when it crosses the limit."""
        before = self.states.get(number)
        if before is None:
            return
        now = self.clock.now()
        if reading.done > self.journal.newest_command_id:
            self.journal.used_command_id(reading.done)
        after = after_reading(before, reading, now)
        waiting = self.dispatcher.waiting(number)
        left = before.pending is None or not before.pending.waits
        if (
            waiting is not None
            and left
            and (reading.done == waiting.id or shows(before.resource, waiting.setting, reading))
        ):
            self.dispatcher.confirmed(number, waiting.id)
        self.states[number] = after
        if self.book.grants and _left_off(before, after):
            self.book.end_grants(after.resource.name, "it switched itself off")
        if self.loans is not None and _left_off(before, after):
            self.loans.not_needed(after.resource.name)
        self.roster.heard(number)
        power = SitePower(self._sum.watts(now, self._rules), now.mono)
        if crosses(power, self.limit(now), self._memory):
            self._pass(self.site(), now)
        self.reporter.changed(before, after, now.mono, now.wall)

    def asked_back(self, number: int, watts: float, for_s: float) -> RdrAnswer:
        """An RDR of a device."""
        return self.rdr.asked(number, watts, for_s)

    # --- EMAs below tell (EmaInputs) -------------------------------------------------------------------------

    def confirmed(self, number: int, command_id: int) -> None:
        """It said that it does so; until its reading shows it the command counts."""
        self.dispatcher.confirmed(number, command_id)

    def refused(self, number: int, command_id: int, why: str) -> None:
        """It will not do so: the plan goes on without it."""
        self.dispatcher.refused(number, command_id, why)

    def asked_by_ema(self, number: int, watts: float, for_s: float, within_s: float) -> RdrAnswer:
        """An RDR of a device of an EMA below, which waits for so long."""
        return self.rdr.asked(number, watts, for_s, within_s)

    def give_back(self, number: int, watts: float, why: str) -> None:
        """A grant that came too late."""
        state = self.states.get(number)
        if state is not None:
            self.rdr.give_back(state.resource.name, watts, why)
            if self.loans is not None:
                self.loans.not_needed(state.resource.name)

    def wanted(self, number: int) -> Setting:
        """What control or an operator wants a resource to be."""
        state = self.states.get(number)
        if state is None:
            return Setting()
        return state.wish if state.held is None else state.held

    # --- the upper side tells (UpperInputs) ------------------------------------------------------------------

    async def take_event(self, event: DrEvent) -> bool:
        """Shed first, write beside it, return when it is on disk; the caller then answers."""
        return await self.events.take(event)

    async def take_setting(self, number: int, setting: Setting, source: Source) -> str:
        return self.operator.set(number, setting, source)

    async def take_dimming(self, number: int, step: int, source: Source) -> str:
        return self.operator.dim(number, step, source)

    def threshold(self, watts: float, upstream: str) -> None:
        """A new default threshold from above; it survives a restart."""
        log.info("threshold %.0f W from %s", watts, upstream)
        self.book.threshold(watts, upstream)
        self.pass_now()

    def priced(self, upstream: str, signal: str, price: float | None, unit: str) -> None:
        """A budget message; it survives a restart."""
        if self.prices.told(upstream, signal, price, unit):
            self.wake()

    def negotiated(self, upstream: str, message: FromCoordinator) -> None:
        """The coordinator of negotiations speaks; whoever takes no part has nothing to say."""
        if self.loans is not None:
            self.loans.heard(upstream, message)

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

    def watts(self) -> float:
        """Its watts alone, which cost little however many devices there are."""
        return self._sum.watts(self.clock.now(), self._rules)

    def pass_now(self) -> None:
        """One pass at this moment."""
        self._pass(self.site(), self.clock.now())

    def _pass(self, site: Site, now: Instant) -> None:
        if self.ending:
            self._wakeup = now.mono + self._rules.pass_s
            return
        if self.loans is not None:
            self.loans.look(now)
        self.limit(now)
        outcome = decide(site, self.book.timeline, self._rules, self._memory, now)
        self.passes += 1
        self._memory = outcome.memory
        self._wakeup = outcome.next_wakeup
        for decision in outcome.decisions:
            for action in decision.actions:
                self.actions.act(action, now)
        self.actions.write()
        for decision in outcome.decisions:
            self.record(decision)
        if self.loans is not None:
            self.loans.look(now, passed=True)
        self.wake()

    def act(self, action: Action, now: Instant) -> None:
        """Send one chosen action and keep what follows from it."""
        self.actions.act(action, now)
        self.actions.write()

    def record(self, decision: Decision) -> Decision:
        """Number a decision, log its line, keep it."""
        decision = replace(decision, id=self.journal.next_decision_id())
        level = logging.WARNING if decision.rule in (Rule.FUTILITY, Rule.ALARM, Rule.FAILSAFE) else logging.INFO
        log.log(level, "%s", decision.line())
        self.journal.save_decision(decision)
        for listener in self.listeners:
            listener(decision)
        return decision

    def _expire(self, now: Instant) -> None:
        self.roster.expire(now)
        if self.reservations:
            self.reservations = [r for r in self.reservations if r.until > now.mono]
        self.book.expire(now)

    def soon(self) -> None:
        """A pass is due."""
        self._wakeup = 0.0
        self.wake()

    def _sums(self) -> tuple[float, float | None, float | None]:
        now = self.clock.now()
        power = self.watts()
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
