"""Client against server in memory: the whole dialogue with loss, doubles and restarts of either side."""

from __future__ import annotations

from collections import deque
from datetime import UTC

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.links.mir2017 import client as ema_side
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017 import server as ems_side
from gateway.links.mir2017.client import Client, Step
from gateway.links.mir2017.messages import Send, request_id
from gateway.links.mir2017.server import Server

V = "MIR_VEN1"
# what happens to the next message under way
DELIVER, LOSE, DOUBLE = "deliver", "lose", "double"
# or instead of it
RESTART_EMA, RESTART_EMS, RECONNECT = "restart ema", "restart ems", "reconnect"


class Pair:
    """Both ends and what is under way between them. Time passes when nothing is: then what waits is tried again."""

    def __init__(self, reports: int) -> None:
        self.client = Client(1, V, UTC)
        self.server = Server(UTC)
        self.up: deque[Send] = deque()
        self.down: deque[Send] = deque()
        self.outbox = [request_id(1, n) for n in range(1, reports + 1)]
        self.acknowledged: list[int] = []
        self.stored: list[int] = []
        self.events: set[int] = set()
        self.opts: set[int] = set()
        self.refused = 0
        self.connect()

    def connect(self) -> None:
        self.up.clear()
        self.down.clear()
        self.client.disconnected()
        self.ema(self.client.connected())

    def ema(self, outputs: list[ema_side.ClientOutput]) -> None:
        for output in outputs:
            match output:
                case Send():
                    self.up.append(output)
                case ema_side.SessionUp():
                    self.report()
                case ema_side.EventReceived(event=event):
                    self.events.add(event.event_id)
                    self.ema([*self.client.created_event(event.event_id, event.request_id, True)])
                case ema_side.ReportAcknowledged(request_id=number):
                    if number in self.outbox:
                        self.outbox.remove(number)
                        self.acknowledged.append(number)
                case ema_side.Refused():
                    self.refused += 1
                case _:
                    pass

    def report(self) -> None:
        for number in self.outbox:
            self.ema([*self.client.report(wire.UpdateReport(1, V, number))])

    def ems(self, outputs: list[ems_side.ServerOutput]) -> None:
        for output in outputs:
            match output:
                case Send():
                    self.down.append(output)
                case ems_side.Reported(ema=ema, request_id=number):
                    if number not in self.stored:
                        self.stored.append(number)
                    self.down.extend(self.server.acknowledge_report(ema, number))
                case ems_side.Polled(ema=ema):
                    event = None if self.opts else wire.DistributeEvent(17, 0, 60.0, 120.0, 800)
                    self.down.extend(self.server.answer_poll(ema, event))
                case ems_side.EventAnswered(event_id=event_id):
                    self.opts.add(event_id)
                case ems_side.Refused():
                    self.refused += 1
                case _:
                    pass

    def step(self, fate: str) -> None:
        match fate:
            case "restart ema":
                self.client = Client(1, V, UTC)
                self.connect()
            case "restart ems":
                self.server = Server(UTC)
                self.up.clear()
            case "reconnect":
                self.connect()
            case _:
                times = {DELIVER: 1, LOSE: 0, DOUBLE: 2}[fate]
                if self.up:
                    send = self.up.popleft()
                    for _ in range(times):
                        self.ems(self.server.received(send.topic, send.body))
                elif self.down:
                    send = self.down.popleft()
                    for _ in range(times):
                        self.ema(self.client.received(send.topic, send.body))
                else:
                    self.time_passes()

    def time_passes(self) -> None:
        if not self.client.up:
            self.ema(self.client.connected())
        else:
            self.report()
            self.ema([*self.client.poll()])

    def settled(self) -> bool:
        return not self.outbox and bool(self.opts) and not self.up and not self.down


FATES = st.sampled_from([DELIVER] * 6 + [LOSE, DOUBLE, RESTART_EMA, RESTART_EMS, RECONNECT])


@settings(max_examples=200)
@given(st.lists(FATES, max_size=150), st.integers(1, 8))
def test_whatever_happens_all_is_stored_and_answered_once_it_calms_down(fates: list[str], reports: int) -> None:
    pair = Pair(reports)
    for fate in fates:
        pair.step(fate)
    for _ in range(500):
        if pair.settled():
            break
        pair.step(DELIVER)
    assert pair.settled()
    numbers = [request_id(1, n) for n in range(1, reports + 1)]
    assert sorted(pair.stored) == numbers
    assert sorted(pair.acknowledged) == numbers
    assert pair.events == pair.opts == {17}
    assert pair.refused == 0


def test_a_calm_session_says_each_thing_once() -> None:
    pair = Pair(3)
    said: list[str] = []
    while pair.up or pair.down:
        said.extend(send.topic for send in (*pair.up, *pair.down)[:1])
        pair.step(DELIVER)
    assert pair.client.step is Step.UP
    assert len(said) == 6 * 2 + 2 + 3 * 2
    assert pair.stored == pair.acknowledged == [request_id(1, n) for n in (1, 2, 3)]


def test_an_ems_that_restarted_serves_what_it_does_not_know() -> None:
    pair = Pair(0)
    while pair.up or pair.down:
        pair.step(DELIVER)
    pair.server = Server(UTC)
    pair.outbox = [request_id(1, 1)]
    pair.time_passes()
    while pair.up or pair.down:
        pair.step(DELIVER)
    assert pair.stored == pair.acknowledged == [request_id(1, 1)]
    assert pair.opts == {17}
    assert not pair.server.emas[1].registered
