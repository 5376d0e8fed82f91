"""Reports, device notices and margins towards an EMS: when they leave, and again until its application has them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.links.mir2017 import messages as wire
from gateway.site.report import DeviceNotice, NoticeKind, Record, SiteReport
from gateway.transport.backoff import Backoff
from gateway.upstream.ems_outbox import Lane, Window
from gateway.upstream.ems_translate import device_text, margin_of, update_report

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config.model import EmaConfig
    from gateway.links.mir2017.client import ClientOutput
    from gateway.upstream.base import OutboxReader
    from gateway.upstream.carrier import UpperClient
    from gateway.upstream.ems_deadlines import Deadlines

# Reports under way at once: hides the EMS's commit behind the next reports, and is soon sent again.
WINDOW = 16
# An EMS commits within milliseconds; slower than this it has not got it, or it is restarting.
ANSWER_S = 5.0
AGAIN_MOST_S = 60.0
REPORTS, DEVICES = "reports", "devices"


class ReportDesk:
    """Sends what the outbox holds, in order. ``gated``: only after ``open``, until the outbox is empty (modes 2, 3).

    ``unanswered`` is called when nothing is answered for too long ("reports" or "devices"): True when the session was
    begun anew, which is the only way where answers are not numbered. ``dropped`` is told of each record that the EMS
    will never take, and why: it is out of the outbox.
    """

    def __init__(
        self,
        ema: EmaConfig,
        explicit: bool,
        gated: bool,
        client: UpperClient,
        outbox: OutboxReader,
        deadlines: Deadlines,
        clock: Clock,
        rng: random.Random,
        post: Callable[[Iterable[ClientOutput]], None],
        unanswered: Callable[[str], bool],
        dropped: Callable[[str], None],
    ) -> None:
        self.sent = 0
        self.resent = 0
        self.is_open = not gated
        self.window = Window(outbox)
        self._ema = ema
        self._explicit = explicit
        self._gated = gated
        self._client = client
        self._deadlines = deadlines
        self._clock = clock
        self._rng = rng
        self._waits = {kind: Backoff(rng, ANSWER_S, AGAIN_MOST_S) for kind in (REPORTS, DEVICES)}
        self._lanes = {REPORTS: self.window.reports, DEVICES: self.window.notices}
        self._post = post
        self._unanswered = unanswered
        self._dropped = dropped
        self._margin: wire.PowerMargin | None = None

    def begin(self) -> None:
        """A new session begins: what was under way in the last goes again when it is up, whatever the mode."""
        if self.window.waiting:
            self.is_open = True
        self.window.restart()

    def session_up(self) -> None:
        self._margin = None
        self.pump()

    def open(self) -> None:
        """Let all leave that waits now."""
        self.is_open = True
        self.pump()

    def pump(self) -> None:
        """Send what the outbox has, as far as the window allows."""
        if not self.is_open or not self._client.up:
            return
        # Answers may be without a number until the EMS has shown that it echoes ours: one at a time then.
        most = WINDOW if self._client.echoes else 1
        last: Record | None = None
        while records := self.window.take(most):
            for record in records:
                self._send(record)
            last = records[-1]
        if self.window.drained:
            self.is_open = not self._gated
        for kind, lane in self._lanes.items():
            if lane.open and kind not in self._deadlines:
                self._watch(kind)
        if last is not None and isinstance(last.body, SiteReport):
            self._send_margin(last.body)

    def report_now(self, report: Callable[[], SiteReport]) -> None:
        """The EMS asks (mode 3): all that waits, or else how the site is now, outside the outbox and said once."""
        self.open()
        if not self.window.reports.open:
            now = report()
            number = wire.unstored_id(self._clock.now().wall, self._rng.getrandbits(9))
            self._post(self._client.report(update_report(self._ema, number, now, self._explicit)))
            self._send_margin(now)

    def report_acknowledged(self, number: int) -> None:
        oldest = self.window.reports.oldest
        if self.window.report_acknowledged(number):
            self._progress(REPORTS, oldest)

    def report_rejected(self, number: int, reason: str) -> None:
        """The EMS will never take it: to send it again would hold up those behind it for ever."""
        oldest = self.window.reports.oldest
        record = self.window.report_rejected(number)
        if record is not None:
            self._dropped(f"{_words(record)}: {reason}")
            self._progress(REPORTS, oldest)

    def report_postponed(self, number: int) -> None:
        """It stays, and goes again when its deadline ends, each time later."""
        self.window.report_postponed(number)

    def device_acknowledged(self, number: int, connected: bool) -> None:
        oldest = self.window.notices.oldest
        if self.window.device_acknowledged(number, connected):
            self._progress(DEVICES, oldest)

    def _progress(self, kind: str, before: tuple[int, int] | None) -> None:
        if self._lanes[kind].oldest != before:
            # The oldest was answered. Answers to newer ones alone do not help it: its deadline goes on, or what an
            # EMS missed while it was restarted would wait for ever behind what it has answered since.
            self._waits[kind].reset()
            self._deadlines.cancel(kind)
        self.pump()

    def _watch(self, kind: str) -> None:
        wait = self._waits[kind].next()
        self._deadlines.answer_within(kind, wait, lambda: self._not_acknowledged(kind, self._lanes[kind]))

    def _not_acknowledged(self, kind: str, lane: Lane) -> None:
        """An answer is missing: again from the oldest on."""
        unnumbered = kind == REPORTS and not self._client.echoes
        if (unnumbered or not lane.passing) and self._unanswered(kind):
            return
        for record in self.window.give_up(lane):
            self._dropped(f"{_words(record)}: never answered, though what came after it was")
        for record in self.window.again(lane):
            self.resent += 1
            self._send(record)
        if lane.open:
            self._watch(kind)
        self.pump()

    def _send(self, record: Record) -> None:
        self.sent += 1
        match record.body:
            case SiteReport() as report:
                number = wire.request_id(record.boot, record.seq)
                self._post(self._client.report(update_report(self._ema, number, report, self._explicit)))
            case DeviceNotice(kind=kind, device=line):
                text = device_text(self._ema.number, line)
                if kind is NoticeKind.CONNECTED:
                    self._post(self._client.device_connect(text))
                elif kind is NoticeKind.DISCONNECTED:
                    self._post(self._client.device_disconnect(text))
                else:
                    self._post(self._client.device_info(text))

    def _send_margin(self, report: SiteReport) -> None:
        margin = margin_of(report)
        if margin is not None and margin != self._margin:
            self._margin = margin
            self._post(self._client.margin(margin))


def _words(record: Record) -> str:
    """One record for the log."""
    body = record.body
    what = "report" if isinstance(body, SiteReport) else f"dev/{body.device.number} {body.kind}"
    return f"{what} {record.boot}.{record.seq}"
