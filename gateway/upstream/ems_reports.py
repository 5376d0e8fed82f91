"""Reports, device notices and margins towards an EMS: when they leave, and again until its application has them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from gateway.clock import Clock
from gateway.config.model import EmaConfig
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client import Client, ClientOutput
from gateway.site.report import DeviceNotice, NoticeKind, Record, SiteReport
from gateway.transport.backoff import Backoff
from gateway.upstream.base import OutboxReader
from gateway.upstream.ems_deadlines import Deadlines
from gateway.upstream.ems_outbox import Window
from gateway.upstream.ems_translate import device_text, margin_of, update_report

# Reports under way at once: hides the EMS's commit behind the next reports, and is soon sent again.
WINDOW = 16
# An EMS commits within milliseconds; slower than this it has not got it, or it is restarting.
ANSWER_S = 5.0
AGAIN_MOST_S = 60.0


class ReportDesk:
    """Sends what the outbox holds, in order. ``gated``: only after ``open``, until the outbox is empty (modes 2, 3).

    ``unanswered`` is called when an answer is missing for too long: True when the session was begun anew, which is
    the only way where answers are not numbered.
    """

    def __init__(
        self,
        ema: EmaConfig,
        explicit: bool,
        gated: bool,
        client: Client,
        outbox: OutboxReader,
        deadlines: Deadlines,
        clock: Clock,
        rng: random.Random,
        post: Callable[[Iterable[ClientOutput]], None],
        unanswered: Callable[[], bool],
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
        self._wait = Backoff(rng, ANSWER_S, AGAIN_MOST_S)
        self._post = post
        self._unanswered = unanswered
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
        while (room := most - self.window.waiting) > 0:
            records = self.window.take(room)
            if not records:
                self.is_open = not self._gated
                break
            for record in records:
                self._send(record)
            last = records[-1]
        if self.window.waiting and "report" not in self._deadlines:
            self._deadlines.answer_within("report", self._wait.next(), self._not_acknowledged)
        if last is not None and isinstance(last.body, SiteReport):
            self._send_margin(last.body)

    def report_now(self, report: Callable[[], SiteReport]) -> None:
        """The EMS asks (mode 3): all that waits, or else how the site is now, outside the outbox and said once."""
        self.open()
        if not self.window.reporting:
            now = report()
            number = wire.unstored_id(self._clock.now().wall, self._rng.getrandbits(9))
            self._post(self._client.report(update_report(self._ema, number, now, self._explicit)))
            self._send_margin(now)

    def report_acknowledged(self, number: int) -> None:
        self._progress(self.window.acknowledged, self.window.report_acknowledged(number))

    def device_acknowledged(self, number: int, connected: bool) -> None:
        self._progress(self.window.acknowledged, self.window.device_acknowledged(number, connected))

    def _progress(self, before: int, counted: bool) -> None:
        if not counted:
            return
        if self.window.acknowledged > before:
            # The oldest was answered. Answers to newer ones alone do not help it: its deadline goes on, or what an
            # EMS missed while it was restarted would wait for ever behind what it has answered since.
            self._wait.reset()
            self._deadlines.cancel("report")
        self.pump()

    def _not_acknowledged(self) -> None:
        """An answer is missing: again from the oldest on."""
        if self._unanswered():
            return
        for record in self.window.again():
            self.resent += 1
            self._send(record)
        self._deadlines.answer_within("report", self._wait.next(), self._not_acknowledged)

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
