"""An EMS without wires for the tests of its service, and an EMA of few lines for the tests of the whole."""

from __future__ import annotations

import logging
import random
from pathlib import Path

from gateway.clock import ManualClock, SystemClock
from gateway.links.mir2017 import client_happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client import Client
from gateway.transport.mqtt import MqttLink, MqttSettings, Will
from headend.ems.head import EventBody
from headend.ems.service import EmsService
from headend.ems.settings import EmsSettings
from headend.ems.state import Device
from headend.ems.store import Store
from headend.ems.view_types import LinkView
from tests.support.wait import until

LOG = logging.getLogger("tests.ems")


class FakeHead:
    """Writes down what would be sent, one line a message."""

    def __init__(self) -> None:
        self.name = "mqtt"
        self.up = True
        self.controls_devices = self.answers = self.negotiates = self.prices = True
        self.said: list[tuple[str, object]] = []  # of loans
        self.told_prices: list[tuple[str, object]] = []
        self.sent: list[str] = []
        self.opts: list[str] = []  # answers to opts
        self.ids: list[int] = []  # of events, as they are told first

    def link(self) -> LinkView:
        return LinkView(self.name, self.up, "nowhere", 0, 0, 0, 0)

    def take(self) -> list[str]:
        """What was sent since the last look."""
        sent, self.sent = self.sent, []
        return sent

    def _words(self, event: EventBody | None) -> str:
        """The first event that was told is 1."""
        if event is None:
            return "nothing"
        if event.id not in self.ids:
            self.ids.append(event.id)
        number = self.ids.index(event.id) + 1
        return f"{number}.{event.modification} " + ("cancel" if event.end <= event.start else f"{event.value_w:.0f}")

    def push(self, ema: str, event: EventBody) -> None:
        self.sent.append(f"push {ema} {self._words(event)}")

    def broadcast(self, event: EventBody) -> None:
        self.sent.append(f"broadcast {self._words(event)}")

    def answer_poll(self, ema: str, event: EventBody | None, want_report: bool) -> None:
        self.sent.append(f"poll {ema} {'report!' if want_report else self._words(event)}")

    def acknowledge_report(self, ema: str, request_id: str) -> None:
        self.sent.append(f"report {ema} {request_id}")

    def refuse_report(self, ema: str, request_id: str, code: int, why: str) -> None:
        self.sent.append(f"refuse {ema} {request_id} {code}")

    def acknowledge_opt(self, ema: str, code: int) -> None:
        self.opts.append(f"{ema} {code}")

    def acknowledge_device(self, ema: str, number: int, connected: bool) -> None:
        self.sent.append(f"device {ema} {number} {'came' if connected else 'went'}")

    def answer_rdr(self, ema: str, number: int, granted: bool, why: str) -> None:
        self.sent.append(f"rdr {ema} {number} {'granted' if granted else 'denied'}")

    def negotiate(self, ema: str, message: object) -> None:
        self.said.append((ema, message))

    def answer_ask(self, ema: str, accepted: bool, margin_w: int) -> None:
        self.said.append((ema, ("ACCEPTED" if accepted else "Reject", margin_w)))

    def tell_prices(self, ema: str, budgets: object) -> None:
        self.told_prices.append((ema, budgets))

    def control(self, ema: str, number: int, on: bool) -> None:
        self.sent.append(f"control {ema} {number} {'on' if on else 'off'}")

    def dim(self, ema: str, number: int, up: bool) -> None:
        self.sent.append(f"dim {ema} {number} {'up' if up else 'down'}")


class Bench:
    """A service on a clock moved by hand, with a store in memory and a head that writes down."""

    def __init__(self, store: Store | None = None, **keys: object) -> None:
        self.clock = ManualClock()
        self.head = FakeHead()
        self.store = store or Store("sqlite://", LOG)
        self.settings = EmsSettings(**{"zone": "UTC", **keys})  # type: ignore[arg-type]
        self.service = EmsService(self.settings, self.store, self.clock, LOG)
        self.service.attach(self.head)

    async def start(self) -> Bench:
        await self.store.open()
        await self.service.start()
        return self

    async def stop(self) -> None:
        await self.service.stop()
        await self.store.close()

    @property
    def now(self) -> float:
        return self.clock.now().wall

    async def pass_time(self, seconds: float) -> None:
        """Move the clock in steps, calling ``tick`` as its runner would."""
        end = self.clock.monotonic() + seconds
        while True:
            wait = self.service.tick()
            left = end - self.clock.monotonic()
            if left <= 0:
                return
            await self.clock.advance(min(max(wait, 0.01), left))

    def register(self, *names: str) -> None:
        for name in names:
            self.service.registering(name, "mqtt")
            self.service.registered(name, f"MIR_VEN{name[3:]}", "mqtt")

    def report(self, name: str, request_id: str, power: float, at: float | None = None, **more: float | None) -> None:
        keys = dict.fromkeys(("threshold_w", "margin_w", "generate_w", "storage_w"))
        self.service.intake.reported(name, "mqtt", request_id, at, {"power_w": power, **keys, **more})

    def device(self, ema: str, number: int, acknowledge: bool = False, connected: bool = True, **keys: object) -> None:
        device = Device(ema, f"dev/{number}", number=number, connected=connected, **keys)  # type: ignore[arg-type]
        self.service.intake.device(device, "mqtt", acknowledge)


class ScriptedEma:
    """The client half over a real broker. Answers each event, unless told not to."""

    def __init__(self, port: int, number: int, username: str | None = None, password: str | None = None) -> None:
        self.number = number
        self.client = Client(number, f"MIR_VEN{number}")
        self.events: list[wire.DistributeEvent] = []
        self.acknowledged: list[int] = []
        self.happened: list[object] = []
        self.opt_in: bool | None = True
        will = self.client.will
        settings = MqttSettings(
            host="127.0.0.1",
            port=port,
            username=username,
            password=password,
            will=Will(will.topic, will.body),
            subscriptions=tuple((topic, 1) for topic in self.client.subscriptions),
        )
        self.link = MqttLink(settings, SystemClock(), random.Random(number), self._received, self._up, self._down)

    async def run(self) -> None:
        await self.link.run()

    async def _up(self) -> None:
        self._put(self.client.connected())

    def _down(self) -> None:
        self.client.disconnected()

    def _put(self, outputs: object) -> None:
        for output in outputs:  # type: ignore[attr-defined]
            if isinstance(output, wire.Send):
                self.link.post(output.topic, output.body, output.qos)
                continue
            self.happened.append(output)
            match output:
                case h.EventReceived(event):
                    self.events.append(event)
                    if self.opt_in is not None:
                        self._put(self.client.created_event(event.event_id, event.request_id, self.opt_in))

    def _received(self, topic: str, body: bytes) -> None:
        if topic.endswith(wire.Down.UPDATED_REPORT):
            # All of them: the client half takes the second answer to a report that came twice for a stale one.
            self.acknowledged.append(wire.UpdatedReport.decode(body).request_id)
        self._put(self.client.received(topic, body))

    async def session(self) -> None:
        """Return when the set-up is through."""
        await until(lambda: self.client.up, what=f"session of gw/{self.number}")

    def report(self, request_id: int, power: int, **keys: object) -> None:
        report = wire.UpdateReport(self.number, self.client.ven_id, request_id, power=power, **keys)  # type: ignore[arg-type]
        self._put(self.client.report(report))

    def send(self, outputs: object) -> None:
        self._put(outputs)


def sqlite_url(directory: Path) -> str:
    return f"sqlite:///{directory / 'ems.db'}"
