"""What stands around an EmsUpstream in its tests: an EMS, the site, an outbox. All in memory but the broker."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import UTC

from gateway.clock import Clock, ScaledClock, SystemClock
from gateway.config.model import EmaConfig, ReportsConfig, UpstreamConfig
from gateway.links.mir2017 import server as mir
from gateway.links.mir2017.messages import EMS_SUBSCRIPTIONS, Send, UpdatedReport
from gateway.site.command import Source
from gateway.site.event import DrEvent
from gateway.site.report import DeviceLine, DeviceNotice, NoticeKind, OutboxBody, Record, SiteReport
from gateway.site.resource import Setting
from gateway.transport.mqtt import MqttLink, MqttSettings
from gateway.upstream.ems import EmsUpstream


def site_report(power_w: float, margin_w: float | None = None, at: float = 1_700_000_000.0) -> SiteReport:
    """A report of a site with one lamp."""
    lamp = DeviceLine(4, "led", True, 9, power_w, 1)
    return SiteReport(at, power_w, None if margin_w is None else power_w + margin_w, margin_w, -100.0, 50.0, (lamp,))


def notice(kind: NoticeKind, number: int = 4) -> DeviceNotice:
    return DeviceNotice(1_700_000_000.0, kind, DeviceLine(number, "led", True, 9, 60.0, 1))


class HurriedClock(ScaledClock):
    """A fast clock that gives the peer no more time than its own seconds, so that time-outs come within a test."""

    def patience(self, seconds: float) -> float:
        return seconds


class MemoryOutbox:
    """An outbox as the journal keeps it, with its cursor."""

    def __init__(self, boot: int = 1) -> None:
        self.boot = boot
        self.records: list[Record] = []
        self.cursor: tuple[int, int] = (0, 0)
        self.moves: list[tuple[int, int]] = []

    def append(self, body: OutboxBody) -> Record:
        record = Record(self.boot, len(self.records) + 1, body)
        self.records.append(record)
        return record

    def unacknowledged(self, after: tuple[int, int] | None, most: int) -> list[Record]:
        start = max(self.cursor, after or (0, 0))
        return [r for r in self.records if (r.boot, r.seq) > start][:most]

    def acknowledge(self, boot: int, seq: int) -> None:
        assert (boot, seq) > self.cursor, "the cursor never goes back"
        self.cursor = (boot, seq)
        self.moves.append(self.cursor)

    def waiting(self) -> int:
        return len(self.unacknowledged(None, 10**9))

    def lost(self) -> int:
        return 0


class SiteBelow:
    """The site as the upstream sees it; remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[DrEvent] = []
        self.settings: list[tuple[int, Setting]] = []
        self.steps: list[tuple[int, int]] = []
        self.opt: Callable[[DrEvent], bool] = lambda event: True
        self.answered: dict[int, int] = {}
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def take_event(self, event: DrEvent) -> bool:
        self.events.append(event)
        await self.may_answer.wait()
        self.answered[event.event_id] = event.modification
        return self.opt(event)

    async def take_setting(self, number: int, setting: Setting, source: Source) -> str:
        assert source is Source.EMS
        self.settings.append((number, setting))
        return "done"

    async def take_dimming(self, number: int, step: int, source: Source) -> str:
        assert source is Source.EMS
        self.steps.append((number, step))
        return "done"

    def threshold(self, watts: float, upstream: str) -> None:
        raise AssertionError("this profile has no threshold")

    def report(self) -> SiteReport:
        return site_report(77.0, 23.0)

    def opted(self, upstream: str, event_id: int) -> int | None:
        return self.answered.get(event_id)


class Ems:
    """An EMS over a real broker, around the Server half: stores, then acknowledges; knows doubles by RequestID."""

    def __init__(self, port: int, username: str | None = None, password: str | None = None) -> None:
        self.server = mir.Server(UTC, duration_ms=100)
        self.happened: list[mir.ServerOutput] = []
        self.topics: list[str] = []
        self.stored: list[int] = []  # RequestIDs, each once, in the order they first came
        self.doubles = 0
        self.event: mir.wire.DistributeEvent | None = None  # waits for a poll
        self.want_report = False
        self.grant: bool | None = True
        self.deaf = False  # takes nothing, as a stopped process
        self.mute: set[type[object]] = set()  # happenings it does not acknowledge
        self.lab = False  # always RequestID 1
        self.lose = 0  # so many reports never arrive
        self.answers_lost = False  # stores a report, and the answer never arrives
        self.refusals: dict[int, int] = {}  # what it answers to the report of that RequestID, instead of storing it
        settings = MqttSettings(
            "127.0.0.1",
            port,
            username=username,
            password=password,
            subscriptions=tuple((t, 1) for t in EMS_SUBSCRIPTIONS),
        )
        self.link = MqttLink(settings, SystemClock(), random.Random(2), self._received)

    def of(self, kind: type) -> list:
        return [h for h in self.happened if isinstance(h, kind)]

    def publish(self, sends: list[Send]) -> None:
        for send in sends:
            self.link.post(send.topic, send.body, send.qos)

    def _received(self, topic: str, body: bytes) -> None:
        if self.deaf:
            return
        if self.lose and topic == "EMS/UpdateReport":
            self.lose -= 1
            return
        self.topics.append(topic)
        for output in self.server.received(topic, body):
            if isinstance(output, Send):
                self.publish([output])
                continue
            self.happened.append(output)
            if type(output) not in self.mute:
                self._answer(output)

    def _answer(self, output: mir.ServerOutput) -> None:
        match output:
            case mir.Polled(ema=ema):
                self.publish(self.server.answer_poll(ema, self.event, self.want_report))
                self.want_report = False
            case mir.EventAnswered():
                self.event = None
            case mir.Reported(ema=ema, request_id=number) if number in self.refusals:
                answer = UpdatedReport("MIR_VEN1", 1 if self.lab else number, self.refusals[number], "no such key")
                self.publish([Send(f"gw/{ema}/oadrUpdatedReport", answer.encode())])
            case mir.Reported(ema=ema, request_id=number):
                if number in self.stored:
                    self.doubles += 1
                else:
                    self.stored.append(number)
                if not self.answers_lost:
                    self.publish(self.server.acknowledge_report(ema, 1 if self.lab else number))
            case mir.DeviceConnected(ema=ema, device=device):
                self.publish(self.server.acknowledge_device(ema, device.device, True))
            case mir.DeviceDisconnected(ema=ema, device=device):
                self.publish(self.server.acknowledge_device(ema, device.device, False))
            case mir.RdrAsked(ema=ema, number=number) if self.grant is not None:
                self.publish(self.server.answer_rdr(ema, number, self.grant))
            case _:
                pass


class Rig:
    """One upstream, its site and outbox, one EMS, all on one broker; ends everything it started."""

    def __init__(
        self,
        port: int,
        mode: int = 1,
        clock: Clock | None = None,
        explicit: bool = True,
        config: UpstreamConfig | None = None,
        password: str | None = None,
        ems: Ems | None = None,
    ) -> None:
        self.port = port
        self._config = config or UpstreamConfig(host="127.0.0.1", port=port, mode=mode, timezone="UTC")
        self._password = password
        self.outbox = MemoryOutbox()
        self.site = SiteBelow()
        self.ems = ems or Ems(port)
        self._clock = clock or SystemClock()
        self._explicit = explicit
        self.upstream = self.new_upstream()
        self._tasks: dict[object, asyncio.Task[None]] = {}

    def new_upstream(self) -> EmsUpstream:
        return EmsUpstream(
            self._config,
            EmaConfig(number=1),
            ReportsConfig(explicit=self._explicit),
            self.site,
            self.outbox,
            self._clock,
            random.Random(1),
            self._password,
        )

    def report(self, *bodies: OutboxBody) -> None:
        for body in bodies:
            self.outbox.append(body)
        self.upstream.wake()

    def start(self, part: object, run: Callable[[], object]) -> None:
        self._tasks[part] = asyncio.ensure_future(run())  # type: ignore[arg-type]

    async def end(self, part: object) -> None:
        """As kill -9 would for that side: nothing is said."""
        task = self._tasks.pop(part)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def __aenter__(self) -> Rig:
        self.start(self.ems, self.ems.link.run)
        while not self.ems.link.up:
            await asyncio.sleep(0.01)
        self.start(self.upstream, self.upstream.run)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for part in list(self._tasks):
            await self.end(part)
