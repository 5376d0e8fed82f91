"""Client against server in memory over both carriers: the whole dialogue with loss, doubles and restarts."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.client import Client
from gateway.links.emap1b.coap import CoapClient
from gateway.links.emap1b.coap_server import CoapServer
from gateway.links.emap1b.server import Server
from gateway.links.mir2017 import client_happenings as told
from gateway.links.mir2017 import happenings as heard
from gateway.links.mir2017 import messages as neutral
from gateway.links.mir2017.coap.server import Answer, Write
from gateway.links.mir2017.messages import Send, request_id
from tests.gateway.links.emap1b.vectors import EMA, START, limit

# what happens to the next message under way
DELIVER, LOSE, DOUBLE = "deliver", "lose", "double"
# or instead of it
RESTART_EMA, RESTART_EMS, RECONNECT = "restart ema", "restart ems", "reconnect"
CHANGED = neutral.DeviceText(1, 5, True, 3, 20, 1)

Step = Callable[[], None]


class Pair:
    """Both ends and what is under way between them. Time passes when nothing is: then what waits is tried again."""

    def __init__(self, reports: int, pull: bool) -> None:
        self.pull = pull
        self.runs = 0
        self.way: deque[Step] = deque()
        self.outbox = [request_id(1, n) for n in range(1, reports + 1)]
        self.acknowledged: list[int] = []
        self.stored: dict[int, neutral.UpdateReport] = {}
        self.devices = {4: False}  # known at the EMS
        self.device_told = False
        self.rdr_answers: set[bool] = set()
        self.prices: set[float] = set()
        self.events: set[tuple[int, int]] = set()
        self.opts: set[tuple[int, int]] = set()
        self.request_ids: dict[str, bytes] = {}
        self.refused = 0
        self.restart_ems()
        self.restart_ema()

    def next_run(self) -> int:
        self.runs += 1
        return self.runs

    # To be made by each carrier

    def restart_ema(self) -> None:
        raise NotImplementedError

    def restart_ems(self) -> None:
        raise NotImplementedError

    def say(self, send: Send) -> None:
        """The EMA's message is under way."""
        raise NotImplementedError

    def push(self, modification: int) -> None:
        raise NotImplementedError

    client: Client

    # Both

    def connect(self) -> None:
        self.way.clear()
        self.client.disconnected()
        self.ema(self.client.connected())

    def ema(self, outputs: list[told.ClientOutput]) -> None:
        for output in outputs:
            match output:
                case Send():
                    self.said(output)
                    self.say(output)
                case told.SessionUp():
                    self.report()
                case told.EventReceived(event=event):
                    self.events.add((event.event_id, event.modification))
                    self.ema([*self.client.created_event(event.event_id, event.request_id, True)])
                case told.PriceReceived(price=price):
                    self.prices.add(price)
                case told.ReportAcknowledged(request_id=number):
                    if number in self.outbox:
                        self.outbox.remove(number)
                        self.acknowledged.append(number)
                case told.DeviceAcknowledged(number=number):
                    self.device_told = self.device_told or number == 4
                case told.RdrAnswered(number=number, granted=granted):
                    assert number == 4
                    self.rdr_answers.add(granted)
                case told.Refused():
                    self.refused += 1
                case _:
                    pass

    def said(self, send: Send) -> None:
        """A requestID is used again for the same report or opt alone."""
        service = json.loads(send.body)["service"]
        read = emap.TO_EMS[service].decode(send.body)
        key = f"{read.service} {read.request_id}"
        assert read.request_id
        if read.service in ("UpdateReport", "CreatedEvent"):
            return
        assert key not in self.request_ids
        self.request_ids[key] = send.body

    def report(self) -> None:
        for number in self.outbox:
            self.ema([*self.client.report(neutral.UpdateReport(1, EMA, number, number % 10**12, 612))])
        if not self.device_told:
            self.ema([*self.client.device_connect(neutral.DeviceText(1, 4, True, 9, 60, 1))])
        self.ema([*self.client.device_info(CHANGED)])

    def wanted(self) -> int | None:
        """The modification of the event that was not answered yet."""
        return next((modification for modification in (0, 1) if (17, modification) not in self.opts), None)

    def happened(self, happening: object, answer: Callable[[str, tuple[object, ...]], None]) -> None:
        """What an EMS does with it; ``answer``: the server's call of that name."""
        match happening:
            case heard.Reported(ema, number, report):
                known = self.stored.setdefault(number, report)
                assert known == report
                answer("acknowledge_report", (ema, number))
            case heard.DeviceConnected(ema, device):
                self.devices[device.device] = True
                answer("acknowledge_device", (ema, device.device, True))
            case heard.DeviceInfo(_, device):
                assert device == CHANGED
            case heard.RdrAsked(ema, number, watts):
                assert watts == 60
                answer("answer_rdr", (ema, number, True))
            case heard.Polled(ema):
                wanted = self.wanted() if self.pull else None
                answer("answer_poll", (ema, None if wanted is None else self.event(wanted)))
            case heard.EventAnswered(_, event_id, number, opt_in):
                assert opt_in
                self.opts.add((event_id, number - event_id * 4096))
            case told.Refused():
                self.refused += 1
            case _:
                pass

    def event(self, modification: int) -> neutral.DistributeEvent:
        return limit(modification, 600 + modification, 17 * 4096 + modification)

    def step(self, fate: str) -> None:
        match fate:
            case "restart ema":
                self.restart_ema()
            case "restart ems":
                self.restart_ems()
            case "reconnect":
                self.connect()
            case _:
                if not self.way:
                    self.time_passes()
                    return
                deliver = self.way.popleft()
                for _ in range({DELIVER: 1, LOSE: 0, DOUBLE: 2}[fate]):
                    deliver()

    def time_passes(self) -> None:
        if not self.client.up:
            self.ema(self.client.connected())
            return
        self.report()
        self.ema([*self.client.poll()])
        if not self.rdr_answers:
            self.ema([*self.client.rdr(4, 60)])
        wanted = self.wanted()
        if wanted is not None and not self.pull:
            self.push(wanted)

    def settled(self) -> bool:
        done = not self.outbox and self.device_told and self.rdr_answers and self.wanted() is None
        return bool(done) and not self.way


class MqttPair(Pair):
    """One message each way."""

    def restart_ema(self) -> None:
        self.client = Client(1, EMA, wall=lambda: START, run=self.next_run(), pull=self.pull)
        self.connect()

    def restart_ems(self) -> None:
        self.server = Server(wall=lambda: START, run=self.next_run())
        self.way.clear()

    def say(self, send: Send) -> None:
        self.way.append(lambda: self.ems(self.server.received(send.topic, send.body)))

    def ems(self, outputs: list[heard.ServerOutput]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.back(output)
            else:
                self.happened(output, lambda name, args: [self.back(s) for s in getattr(self.server, name)(*args)])

    def back(self, send: Send) -> None:
        self.way.append(lambda: self.ema(self.client.received(send.topic, send.body)))

    def push(self, modification: int) -> None:
        for send in self.server.distribute(1, self.event(modification)):
            self.back(send)
        for send in self.server.budget(1, emap.Signal("Incentive", "Price", price=12)):
            self.back(send)


class CoapPair(Pair):
    """A question and its answer."""

    def restart_ema(self) -> None:
        self.client: CoapClient = CoapClient(1, EMA, wall=lambda: START, run=self.next_run(), pull=self.pull)
        self.connect()

    def restart_ems(self) -> None:
        self.server = CoapServer(Server(wall=lambda: START, run=self.next_run()))
        self.open: dict[Hashable, list[Send]] = {}
        self.way.clear()

    def say(self, send: Send) -> None:
        self.way.append(lambda: self.put(send))

    def put(self, ask: Send) -> None:
        key, outputs = self.server.requested(ask.topic, ask.body)
        at_once = [output for output in outputs if isinstance(output, Answer)]
        if key is not None and not at_once:
            self.open.setdefault(key, []).append(ask)
        for answer in at_once:
            self.back(ask, answer.body)
        for output in outputs:
            if not isinstance(output, Answer):
                self.happened(output, self.answer)

    def answer(self, name: str, args: tuple[object, ...]) -> None:
        answer = getattr(self.server, name)(*args)
        for ask in self.open.pop(answer.key, []):
            self.back(ask, answer.body)

    def back(self, ask: Send, body: bytes) -> None:
        client = self.client
        self.way.append(lambda: self.ema(client.answered(ask, body)))

    def push(self, modification: int) -> None:
        pushed = self.server.distribute(1, self.event(modification))
        observed = self.server.budget(1, emap.Signal("Incentive", "Price", price=12), observed=True)
        self.way.append(lambda: self.write(pushed))
        self.way.append(lambda: self.write(observed))

    def write(self, write: Write) -> None:
        if write.path:
            right, outputs = self.client.requested(write.path, write.body)
            assert right
            self.ema(outputs)
        else:
            self.ema(self.client.notified(write.body))


FATES = st.sampled_from([DELIVER] * 6 + [LOSE, DOUBLE, RESTART_EMA, RESTART_EMS, RECONNECT])
PAIRS = {"mqtt": MqttPair, "coap": CoapPair}


@pytest.mark.parametrize("carrier", PAIRS)
@settings(max_examples=150)
@given(st.lists(FATES, max_size=150), st.integers(1, 6), st.booleans())
def test_whatever_happens_all_is_stored_and_answered_once_it_calms_down(
    carrier: str, fates: list[str], reports: int, pull: bool
) -> None:
    pair = PAIRS[carrier](reports, pull)
    for fate in fates:
        pair.step(fate)
    for _ in range(1500):
        if pair.settled():
            break
        pair.step(DELIVER)
    assert pair.settled()
    numbers = [request_id(1, n) for n in range(1, reports + 1)]
    assert sorted(pair.stored) == sorted(pair.acknowledged) == numbers
    assert pair.events == pair.opts == {(17, 0), (17, 1)}
    assert pair.devices[4]
    assert pair.rdr_answers == {True}
    assert pair.prices <= {12.0}
    assert pair.refused == 0


@pytest.mark.parametrize("carrier", PAIRS)
def test_a_calm_session_needs_one_pass(carrier: str) -> None:
    pair = PAIRS[carrier](3, pull=False)
    steps = 0
    while not pair.client.up:
        pair.step(DELIVER)
        steps += 1
    assert steps == 8  # four questions, four answers
    while pair.way:
        pair.step(DELIVER)
    assert pair.acknowledged == [request_id(1, n) for n in (1, 2, 3)]
    assert pair.device_told
    pair.time_passes()
    while pair.way:
        pair.step(DELIVER)
    assert pair.opts == {(17, 0)}
    assert pair.prices == {12.0}
    assert pair.client.stale == 0


@pytest.mark.parametrize("carrier", PAIRS)
def test_an_ems_that_restarted_serves_what_it_does_not_know(carrier: str) -> None:
    pair = PAIRS[carrier](0, pull=True)
    while pair.way:
        pair.step(DELIVER)
    pair.restart_ems()
    pair.outbox = [request_id(1, 1)]
    pair.time_passes()
    while pair.way:
        pair.step(DELIVER)
    assert pair.acknowledged == [request_id(1, 1)]
    assert pair.opts == {(17, 0)}
    assert pair.client.up
