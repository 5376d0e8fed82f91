"""An EMS above us (wire reference, sections 1 to 4); its carrier knows how it is reached.

Cannot do: tell a late answer to an RDR from the answer to the next RDR of the same device (the wire has no number for
them): a device that got none is asked for again only after it came, or after 10 s. The EMS may stand under its own
name in the answers; we take them by their topics.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import SmartemaError, TransientError
from gateway.links.mir2017 import client_happenings as link
from gateway.links.mir2017 import messages as wire
from gateway.transport.backoff import Backoff
from gateway.upstream.carrier import Hooks
from gateway.upstream.carriers import Ways, carrier_of
from gateway.upstream.ems_deadlines import Deadlines
from gateway.upstream.ems_dropped import Dropped
from gateway.upstream.ems_events import EventDesk
from gateway.upstream.ems_jobs import Jobs
from gateway.upstream.ems_negotiation import Negotiations
from gateway.upstream.ems_rdr import RdrQuestions
from gateway.upstream.ems_reports import DEVICES, REPORTS, ReportDesk

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config.model import EmaConfig, ReportsConfig, UpstreamConfig
    from gateway.control.negotiation.messages import FromMember
    from gateway.upstream.base import Notes, OutboxReader, UpperInputs

GOODBYE_S = 0.9
# An EMS answers the set-up within milliseconds.
ANSWER_S = 5.0
# Cheap to ask, and an EMS that comes back should not wait long for its EMAs.
SETUP_MOST_S = 20.0
# Answers are missing and nothing at all was heard for so long: the EMS may not know us any more.
SILENT_S = 60.0
SILENT_POLLS = 5
# What an EMS may leave unanswered while it answers everything else; each is over when one of it is acknowledged.
POSTPONED = "postponed"
OF_ITS_OWN = {REPORTS, DEVICES, POSTPONED}


class EmsUpstream:
    """The session with one EMS: set-up, events, reports, RDR. ``password`` is the broker account's; ``ways`` says
    what else carriers are made with."""

    def __init__(
        self,
        config: UpstreamConfig,
        ema: EmaConfig,
        reports: ReportsConfig,
        inputs: UpperInputs,
        outbox: OutboxReader,
        clock: Clock,
        rng: random.Random,
        password: str | None = None,
        logger: logging.Logger | None = None,
        notes: Notes | None = None,
        ways: Ways | None = None,
    ) -> None:
        self.name = config.name
        self._config = config
        self._ema = ema
        self._inputs = inputs
        self._outbox = outbox
        self._clock = clock
        self._log = logger or logging.getLogger(__name__)
        ways = replace(
            ways or Ways(clock, rng, self._log, password), opted=lambda event_id: inputs.opted(config.name, event_id)
        )
        self._client, carrier = carrier_of(config, ema, ways)
        self._carrier = carrier(Hooks(self._take, self._link_up, self._link_down))
        self._step = self._client.step
        self._deadlines = Deadlines(clock)
        self._setup_wait = Backoff(rng, ANSWER_S, SETUP_MOST_S)
        self._dropped = Dropped(self.name, clock, self._log, notes)
        self._desk = ReportDesk(
            ema,
            reports.explicit,
            config.pulls,
            self._client,
            outbox,
            self._deadlines,
            clock,
            rng,
            self._post,
            self._not_acknowledged,
            self._dropped.add,
        )
        self._events = EventDesk(self.name, inputs, self._client, self._deadlines, rng, self._post, self._log)
        self._jobs = Jobs(self.name, inputs, self._events, self._log)
        self._rdrs = RdrQuestions(self.name, self._client, clock, self._post)
        self._negotiations = Negotiations(self.name, self._client, inputs, self._post)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump_due = False
        self._closing = False
        self._duration_s = 0.0
        self._next_poll = 0.0
        self._heard = 0.0
        self._silent: set[str] = set()  # what was said already
        self._refused_topics: set[str] = set()
        self._count = dict.fromkeys(("sessions", "polls"), 0)

    # Upstream

    async def run(self) -> None:
        """Hold the session until cancelled. Raise ``OperatorError`` when our own address for the EMS is taken."""
        self._loop = asyncio.get_running_loop()
        self._closing = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carrier.run())
                group.create_task(self._deadlines.run())
                group.create_task(self._jobs.run())
        except* SmartemaError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._loop = None

    @property
    def opened(self) -> asyncio.Event | None:
        """Set while what the carrier opens on this machine is open; None where it opens nothing."""
        return getattr(self._carrier, "opened", None)

    def wake(self) -> None:
        """The outbox has something new."""
        if self._loop is not None and not self._pump_due and self._desk.is_open and self._client.up:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    async def ask_rdr(self, number: int, watts: float, for_s: float) -> tuple[bool, str]:
        """Ask power for a device; the wire has no word for ``for_s``: the caller ends the grant after it."""
        if not self._client.up or not self._carrier.up:
            raise TransientError(f"{self.name}: there is no session with the EMS")
        return await self._rdrs.ask(number, watts)

    @property
    def negotiates(self) -> bool:
        """Can loans be negotiated over it now."""
        return self._negotiations.possible and self._client.up and self._carrier.up

    def negotiate(self, message: FromMember) -> None:
        """Say it; what is lost is said again by the member."""
        if self.negotiates:
            self._negotiations.say(message)

    async def close(self) -> None:
        """Say ``disconnected``: a clean end sends no last will."""
        self._closing = True
        self._deadlines.cancel_all()
        for send in self._client.farewell():
            with contextlib.suppress(TransientError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._carrier.publish(send)

    def status(self) -> dict[str, object]:
        """For `smartema status`."""
        return {
            "state": ("up" if self._client.up else "setting up") if self._carrier.up else self._carrier.state,
            "step": self._client.step.value,
            "address": self._carrier.address,
            "mode": self._config.mode,
            "poll_s": self._duration_s if self._config.pulls else None,
            **self._count,
            "events": self._jobs.events,
            "dropped": self._jobs.dropped,
            "sent": self._desk.sent,
            "resent": self._desk.resent,
            "acknowledged": self._desk.window.acknowledged if self._carrier.answers else 0,
            "unacknowledged": 0 if self._carrier.answers else self._desk.window.acknowledged,
            "in_flight": self._desk.window.waiting,
            "rejected": self._dropped.count,
            "last_rejected": self._dropped.last,
            "waiting": self._outbox.waiting(),
            "lost": self._outbox.lost(),
            "refused": self._client.refused + self._carrier.oversized,
            "stale": self._client.stale,
            "reconnects": self._carrier.reconnects,
        }

    # The session

    async def _link_up(self) -> None:
        self._begin()

    def _link_down(self) -> None:
        self._client.disconnected()
        self._deadlines.cancel_all()
        self._rdrs.link_broke()

    def _begin(self) -> None:
        """(Again) from QueryRegistration on."""
        if self._closing:
            return
        self._desk.begin()
        self._deadlines.cancel_all()
        self._deadlines.answer_within("setup", self._setup_wait.next(), self._not_set_up)
        outputs, self._step = self._client.connected(), self._client.step
        self._post(outputs)

    def _not_set_up(self) -> None:
        self._say_silent("set-up", f"does not answer {self._client.step.value}")
        self._begin()

    def _say_silent(self, kind: str, what: str) -> None:
        level = logging.DEBUG if kind in self._silent else logging.WARNING
        self._silent.add(kind)
        self._log.log(level, "%s: the EMS at %s %s; trying again", self.name, self._carrier.address, what)

    def _session_up(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._count["sessions"] += 1
        self._setup_wait.reset()
        self._deadlines.cancel("setup")
        words = "registered at the EMS at %s" if self._carrier.answers else "tells the EMS at %s, which answers nothing"
        self._log.info(f"%s: {words}", self.name, self._carrier.address)
        self._events.session_up()
        self._desk.session_up()
        if self._config.pulls:
            self._next_poll = self._clock.monotonic()
            self._poll()

    def _poll(self) -> None:
        now = self._clock.monotonic()
        if now - self._heard > max(self._clock.patience(SILENT_S), SILENT_POLLS * self._duration_s):
            self._say_silent("polls", "does not answer polls")
            self._begin()
            return
        self._count["polls"] += 1
        self._post(self._client.poll())
        if not self._config.on_request:
            self._desk.open()
        self._next_poll = max(self._next_poll + self._duration_s, now)
        self._deadlines.after("poll", self._next_poll - now, self._poll)

    # What came in

    def _take(self, outputs: list[link.ClientOutput]) -> None:
        step = self._step
        self._step = self._client.step
        for output in outputs:
            if isinstance(output, wire.Send):
                self._post((output,))
            elif isinstance(output, link.Refused):
                self._refused(output)
            else:
                self._heard = self._clock.monotonic()
                self._happened(output)
                if self._silent:
                    self._answers_again(output)
        if self._step is not step and not self._client.up:
            self._heard = self._clock.monotonic()
            self._deadlines.answer_within("setup", ANSWER_S, self._not_set_up)

    def _happened(self, output: link.ClientOutput) -> None:
        match output:
            case link.ReportAcknowledged(request_id=number):
                self._desk.report_acknowledged(number)
            case link.ReportRejected(request_id=number, reason=reason):
                self._desk.report_rejected(number, reason)
            case link.ReportPostponed(request_id=number, reason=reason):
                self._desk.report_postponed(number)
                self._say_silent(POSTPONED, f"cannot take reports now ({reason})")
            case link.DeviceAcknowledged(number=number, connected=connected):
                self._desk.device_acknowledged(number, connected)
            case link.EventReceived() | link.DeviceControl() | link.Dimming():
                self._jobs.put(output)
            case link.EventAcknowledged(event_id=event_id):
                self._events.acknowledged(event_id)
            case link.EventAnswerRejected(event_id=event_id, reason=reason):
                self._events.rejected(event_id, reason)
            case link.ReportRequested():
                self._desk.report_now(self._inputs.report)
            case link.RdrAnswered(number=number, granted=granted, description=description):
                self._rdrs.answered(number, granted, description)
            case link.ThresholdReceived(watts=watts):
                self._inputs.threshold(float(watts), self.name)
            case link.PriceReceived():
                self._negotiations.priced(output)
            case link.Negotiated():
                self._negotiations.heard(output)
            case link.SessionUp(duration_ms=duration_ms):
                self._session_up(duration_ms / 1000)
            case _:
                pass

    def _answers_again(self, output: link.ClientOutput) -> None:
        mended = self._silent - OF_ITS_OWN
        if isinstance(output, link.ReportAcknowledged | link.ReportRejected):
            mended |= {REPORTS} if self._desk.window.reports.postponed else {REPORTS, POSTPONED}
        elif isinstance(output, link.DeviceAcknowledged):
            mended |= {DEVICES}
        if self._silent & mended:
            self._silent = self._silent - mended
            self._log.info("%s: the EMS at %s answers again", self.name, self._carrier.address)

    def _refused(self, refused: link.Refused) -> None:
        first = refused.topic not in self._refused_topics and len(self._refused_topics) < 100
        self._refused_topics.add(refused.topic) if first else None
        level = logging.WARNING if first else logging.DEBUG
        self._log.log(level, "%s: refused a message on %s: %s", self.name, refused.topic, refused.reason)

    def _pump(self) -> None:
        self._pump_due = False
        if not self._closing:
            self._desk.pump()

    def _not_acknowledged(self, kind: str) -> bool:
        """Reports or devices are not answered in time. Answers without a number could be taken for those of a second
        try: there only a new set-up clears the way."""
        if not self._desk.window.reports.postponed:
            self._say_silent(kind, f"does not acknowledge {kind}")
        silent = self._clock.monotonic() - self._heard > self._clock.patience(SILENT_S)
        if silent or (kind == REPORTS and not self._client.echoes):
            self._begin()
            return True
        return False

    def _post(self, sends: Iterable[link.ClientOutput]) -> None:
        if self._closing:
            return
        for send in sends:
            if isinstance(send, wire.Send):
                self._carrier.post(send)
