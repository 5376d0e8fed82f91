"""EMAs below this one: each a resource whose set point is the limit it is told (docs/emas.md).

Their protocol is the one we speak upwards, its server half: a head a link (``emas_below_mqtt``, ``emas_below_coap``).
Cannot do: switch single devices of theirs, tell a good-bye from a link that broke (what goes may draw on), profile
``emap1b``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.clock import Clock
from gateway.config.model import EMA_NUMBERS, ControlConfig, EmaBelowConfig, EmasBelowConfig
from gateway.errors import TransientError
from gateway.field.base import SiteInputs
from gateway.field.emas_below_holds import Hold, Holds, Values
from gateway.field.emas_below_rdr import RdrQueue
from gateway.field.emas_below_roll import Below, Roll
from gateway.field.leases import LOOKS_MISSED, turns_of
from gateway.field.once import Once
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import Refused
from gateway.site.command import Command
from gateway.site.event import RdrAnswer
from gateway.site.resource import Setting

if TYPE_CHECKING:
    from gateway.field.emas_below_loans import Loans
    from gateway.links.mir2017.messages.negotiation import LabAsk, Negotiation

# An event that was not answered is said again this often; also how late a renewal may come.
AGAIN_S = 3.0
LOOK_S = 1.0
# One that reports on request only (MQTT, mode 3) is asked so often within the time that it may be silent, and at once
# when its last report was before it took a new limit.
ASKED_TIMES = 6
FREE = Setting(free=True)


class EmaInputs(SiteInputs, Protocol):
    """What the site takes of EMAs below, beside what it takes of any field."""

    def confirmed(self, number: int, command_id: int) -> None:
        """It said that it does so; its reading follows."""

    def refused(self, number: int, command_id: int, why: str) -> None:
        """It will not do so: the plan goes on without it."""

    def asked_by_ema(self, number: int, watts: float, for_s: float, within_s: float) -> RdrAnswer:
        """An RDR of one of its devices, to be answered within that time."""

    def give_back(self, number: int, watts: float, why: str) -> None:
        """What was granted to it comes too late."""

    def wanted(self, number: int) -> Setting:
        """What it is to be told now."""


class Journal(Values, Protocol):
    """What is kept, and when it is on disk."""

    async def durable(self) -> None: ...

    def values(self, start: str) -> dict[str, str]: ...

    def save_value(self, key: str, value: str) -> None: ...

    def remove_value(self, key: str) -> None: ...


class Head(Protocol):
    """One link to EMAs below; ``emas`` by their n. Nothing is queued: what is lost is said again by us or by them."""

    name: str

    @property
    def up(self) -> bool: ...

    async def run(self) -> None: ...

    def push(self, ema: int, event: wire.DistributeEvent) -> None: ...

    def answer_poll(self, ema: int, event: wire.DistributeEvent | None, want_report: bool) -> None: ...

    def acknowledge_report(self, ema: int, request_id: int) -> None: ...

    def refuse_report(self, ema: int, request_id: int, code: int, why: str) -> None: ...

    def acknowledge_opt(self, ema: int, code: int) -> None: ...

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> None: ...

    def answer_rdr(self, ema: int, device: int, granted: bool, why: str) -> None: ...

    def negotiate(self, ema: int, message: Negotiation) -> None: ...

    def status(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class _Due:
    """Said once what was taken is on disk, or instead that it cannot be written."""

    stored: Callable[[], None]
    failed: Callable[[str], None]


class EmasBelow:
    """All EMAs below. Heads are added before ``run``; ``opened`` is that of one that opens something here."""

    name = "emas"

    def __init__(
        self,
        table: EmasBelowConfig,
        configs: Sequence[EmaBelowConfig],
        control: ControlConfig,
        inputs: EmaInputs,
        journal: Journal,
        clock: Clock,
        logger: logging.Logger | None = None,
    ) -> None:
        self.table = table
        self.heads: dict[str, Head] = {}
        self.opened: asyncio.Event | None = None
        self.roll = Roll(configs, control, table.open, journal)
        self.holds = Holds(journal, table.hold_s)
        self._control = control
        self._inputs = inputs
        self._journal = journal
        self._clock = clock
        self._log = logger or logging.getLogger(__name__)
        self._once = Once(self._log, clock.monotonic)
        self._rdr = RdrQueue(table, inputs, self.holds, clock, self._told_rdr)
        self.loans: Loans | None = None  # where one of them negotiates
        self._due: list[_Due] = []
        self._work = asyncio.Event()
        self._pulse = turns_of(inputs)
        self._turns: int | None = None
        self._missed = 0
        self.reports = 0
        self.opted_out = 0

    def add(self, head: Head) -> None:
        """One link more."""
        self.heads[head.name] = head

    # --- the daemon's side -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for head in self.heads.values():
                group.create_task(head.run())
            group.create_task(self._settle())
            group.create_task(self._keep())

    def send(self, command: Command) -> Awaitable[None]:
        """The event that says so, on the wire when this returns where its link is up."""
        below = self.roll.all.get(command.number - EMA_NUMBERS)
        if below is None or not below.here:
            raise TransientError(f"{command.resource} is not there")
        hold = self.holds.told(below.number, command.setting, command.id, self._clock.now(), below.report.own_w)
        if hold is None or hold.answered:
            # It is so already, by an event that it opted in to, or without one.
            asyncio.get_running_loop().call_soon(self._done, below, command.id)
        else:
            self._push(below, hold)
        return _nothing()

    async def answer_rdr(self, number: int, answer: RdrAnswer) -> None:
        """What became of a pending RDR."""
        self._rdr.answered(number - EMA_NUMBERS, answer)

    def configure(self, table: EmasBelowConfig, configs: Sequence[EmaBelowConfig], control: ControlConfig) -> None:
        """Other ``[[ema_below]]`` tables; the links and all other EMAs stay. ``table`` differs in nothing of a link."""
        self.table = self._rdr.table = table
        self.holds.hold_s = table.hold_s
        self._control = control
        self.roll.strangers = table.open
        for number in self.roll.configure(configs, control):
            self.roll.forget(number)
            self.holds.forget(number)
        for below in self.roll.all.values():
            if below.here:
                self._inputs.appeared(self, below.resource)

    async def close(self) -> None:
        """Nothing to say: what they are held to ends by itself, and a restarted EMA takes it up."""

    def status(self) -> dict[str, object]:
        """For `smartema status`."""
        now = self._clock.now()
        return {
            "links": {head.name: head.status() for head in self.heads.values()},
            "reports": self.reports,
            "opted_out": self.opted_out,
            "emas": [self._shown(below, now.wall, now.mono) for _, below in sorted(self.roll.all.items())],
        }

    def _shown(self, below: Below, wall: float, mono: float) -> dict[str, object]:
        hold = self.holds.current(below.number)
        held = hold if hold is not None and hold.value_w is not None and hold.end > wall else None
        return {
            "ema": wire.ema_name(below.number),
            "name": below.resource.name,
            "link": below.link or None,
            "here": below.here,
            "heard_s": round(mono - below.heard_at, 1) if below.link else None,
            "power_w": below.report.power_w,
            "threshold_w": below.report.threshold_w,
            "margin_w": below.report.margin_w,
            "generate_w": below.report.generate_w,
            "storage_w": below.report.storage_w,
            "devices": below.report.devices,
            "most_w": below.resource.setpoint.max_w if below.resource.setpoint is not None else None,
            "limit_w": held.value_w if held is not None else None,
            "limit_until": held.end if held is not None else None,
            "opt": None if held is None or held.answered is None else "in" if held.answered else "out",
            "granted_w": self.holds.granted_w(below.number, wall),
        }

    # --- what they say ---------------------------------------------------------------------------------------

    def admits(self, number: int) -> bool:
        """May that EMA be served."""
        return self.roll.admits(number)

    def happened(self, link: str, happening: h.ServerHappening) -> None:
        """One happening of a head."""
        if isinstance(happening, Refused):
            self._once.say("refused", happening.topic, f"EMAs over {link}: {happening.topic}: {happening.reason}")
            return
        if isinstance(happening, h.ReportRefused):
            who = wire.ema_name(happening.ema)
            self._once.say("report", happening.ema, f"{who}: report refused: {happening.reason}")
            return
        if not self.roll.admits(happening.ema):
            self._once.say("stranger", happening.ema, f"{wire.ema_name(happening.ema)} is no EMA of ours; not served")
            return
        below = self.roll.entry(happening.ema)
        below.link = link
        below.heard_at = self._clock.monotonic()
        if isinstance(happening, h.EmaDisconnected):
            self._gone(below, "it said good-bye, or its link broke")
            return
        if isinstance(happening, h.EmaRegistering):
            self.roll.began(below)
        if not below.here:
            self._came(below)
        self._said(below, happening)

    def _said(self, below: Below, happening: h.ServerHappening) -> None:
        head = self.heads[below.link]
        match happening:
            case h.Reported(_, request_id, report):
                self._reported(below, request_id, report)
            case h.EventAnswered(_, event_id, request_id, opt_in):
                self._answered(below, event_id, request_id, opt_in)
            case h.Polled():
                silent = self._clock.monotonic() - below.taken_at
                want = below.taken_at < below.done_at or silent > self._control.stale_after_s / ASKED_TIMES
                waiting = self.holds.waiting(below.number)
                head.answer_poll(below.number, None if waiting is None else _event(waiting), want)
            case h.RdrAsked(_, device, watts):
                self._rdr.asked(below.number, device, float(watts))
            case h.EmaRegistered():
                hold = self.holds.current(below.number)
                if hold is not None and hold.end > self._clock.now().wall:
                    self._push(below, hold)
            case h.NegotiationHeard(_, message):
                self._negotiated(below.number, message)
            case h.DeviceConnected(_, text):
                # Its devices are its own: what we keep of them is the sum that it reports.
                head.acknowledge_device(below.number, text.device, True)
            case h.DeviceDisconnected(_, text):
                head.acknowledge_device(below.number, text.device, False)
            case _:
                pass

    def _negotiated(self, number: int, message: Negotiation | LabAsk) -> None:
        """One of them wants to lend or borrow; this one keeps the book."""
        from gateway.links.mir2017.messages.negotiation import Negotiation

        if isinstance(message, Negotiation):
            self._ledger().heard(number, message)

    def _ledger(self) -> Loans:
        if self.loans is None:
            from gateway.field.emas_below_loans import Loans

            self.loans = Loans(self._journal, self._clock, self._say_loan, self._log)
        return self.loans

    def _say_loan(self, number: int, message: Negotiation) -> None:
        below = self.roll.all.get(number)
        if below is not None and below.here:
            self.heads[below.link].negotiate(number, message)

    def _reported(self, below: Below, request_id: int, report: wire.UpdateReport) -> None:
        now = self._clock.now()
        number, link = below.number, below.link
        hold = self.holds.current(number)
        held = hold is not None and hold.value_w is not None and hold.end > now.wall
        reading = self.roll.reported(below, report, held, now.wall, now.mono)
        if reading is not None:
            self.reports += 1
            # Described anew, or taken for lost meanwhile, for it said nothing but came.
            self._inputs.appeared(self, below.resource)
            self._inputs.reported(below.resource.number, reading)
        head = self.heads[link]
        self._when_stored(
            lambda: head.acknowledge_report(number, request_id),
            lambda why: head.refuse_report(number, request_id, 503, why),
        )

    def _answered(self, below: Below, event_id: int, request_id: int, opt_in: bool) -> None:
        number, head = below.number, self.heads[below.link]
        hold = self.holds.answered(number, event_id, request_id, opt_in)
        if hold is not None and opt_in:
            self._done(below, hold.command_id)
        elif hold is not None:
            self.opted_out += 1
            why = f"opted out of event {event_id}" + (f" ({hold.value_w} W)" if hold.value_w is not None else "")
            self._inputs.refused(below.resource.number, hold.command_id, why)
        # Answers without a number go in the order in which the opts came.
        self._when_stored(lambda: head.acknowledge_opt(number, 200), lambda why: head.acknowledge_opt(number, 503))

    def _done(self, below: Below, command_id: int) -> None:
        below.done, below.done_at = command_id, self._clock.monotonic()
        self._inputs.confirmed(below.resource.number, command_id)

    # --- who comes and goes ----------------------------------------------------------------------------------

    def _came(self, below: Below) -> None:
        below.here = True
        self._inputs.appeared(self, below.resource)
        if self.loans is not None or self._journal.values("ledger/"):
            self._ledger().came(below.number)
        hold = self.holds.current(below.number)
        now = self._clock.now()
        if hold is None or hold.value_w is None or hold.end <= now.wall:
            return
        wanted = self._inputs.wanted(below.resource.number)
        if wanted.setpoint_w is None and wanted.on is not False:
            # Given back just before we ended: it may not have been told.
            freed = self.holds.told(below.number, FREE, hold.command_id, now, None)
            if freed is not None:
                self._push(below, freed)

    def _gone(self, below: Below, why: str) -> None:
        if below.here:
            below.here = False
            if self.loans is not None:
                self.loans.gone(below.number)
            self._inputs.gone(below.resource.number, why, lost=True)

    async def _keep(self) -> None:
        """Who fell silent, what is to be renewed, what was not answered."""
        while True:
            await self._clock.sleep(LOOK_S)
            self._once.settle()
            if self.loans is not None:
                self.loans.tick()
            self._look()
            now = self._clock.now()
            for below in self.roll.all.values():
                if not below.here:
                    continue
                if now.mono - below.heard_at > self._control.lease_s:
                    self._gone(below, f"nothing heard for {self._control.lease_s:g} s")
                    continue
                hold = self.holds.renewed(below.number, now) if self._missed < LOOKS_MISSED else None
                if hold is None:
                    hold = self.holds.waiting(below.number)
                    if hold is not None and now.mono - below.pushed_at < AGAIN_S:
                        continue
                if hold is not None:
                    self._push(below, hold)

    def _look(self) -> None:
        """What they are held to is control's word: while it stands still nothing is renewed."""
        count = self._pulse() if self._pulse is not None and any(b.here for b in self.roll.all.values()) else None
        self._missed = self._missed + 1 if count is not None and count == self._turns else 0
        self._turns = count

    # --- what they are told ----------------------------------------------------------------------------------

    def _push(self, below: Below, hold: Hold) -> None:
        below.pushed_at = self._clock.monotonic()
        head = self.heads.get(below.link)
        if head is not None and head.up:
            head.push(below.number, _event(hold))

    def _told_rdr(self, ema: int, device: int, answer: tuple[bool, str], taken_back: Callable[[], None]) -> None:
        """A grant counts once it is on disk, and only then it is told."""
        below = self.roll.all.get(ema)
        head = self.heads.get(below.link) if below is not None else None
        if head is None:
            return
        granted, why = answer
        if not granted:
            head.answer_rdr(ema, device, False, why)
            return

        def failed(reason: str) -> None:
            taken_back()
            head.answer_rdr(ema, device, False, reason)

        self._when_stored(lambda: head.answer_rdr(ema, device, True, why), failed)

    def _when_stored(self, stored: Callable[[], None], failed: Callable[[str], None]) -> None:
        self._due.append(_Due(stored, failed))
        self._work.set()

    async def _settle(self) -> None:
        """What was taken goes to disk, all that came meanwhile in one commit; then it is answered."""
        while True:
            await self._work.wait()
            self._work.clear()
            due, self._due = self._due, []
            why = ""
            try:
                await self._journal.durable()
            except TransientError as err:
                why = str(err)
            for one in due:
                if why:
                    one.failed(why)
                else:
                    one.stored()


def _event(hold: Hold) -> wire.DistributeEvent:
    end = hold.start if hold.value_w is None else hold.end
    value = 0 if hold.value_w is None else hold.value_w
    return wire.DistributeEvent(hold.event_id, hold.modification, hold.start, end, value, hold.request_id)


async def _nothing() -> None:
    """It is on the wire, or will be said again."""
