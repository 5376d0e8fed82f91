"""The EMA's end of the link, sans-I/O: bytes in, bytes and happenings out.

Cannot do: keep time (who wraps it calls ``connected`` again when a step of the set-up is not answered, and sends
again what was not acknowledged).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.errors import PeerError
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import (
    ClientOutput,
    DeviceAcknowledged,
    DeviceControl,
    Dimming,
    EmaAcknowledged,
    EventAcknowledged,
    EventAnswerRejected,
    EventReceived,
    MarginAcknowledged,
    Negotiated,
    PollAnswered,
    PriceReceived,
    RdrAnswered,
    Refused,
    ReportAcknowledged,
    ReportPostponed,
    ReportRejected,
    ReportRequested,
    SessionUp,
)
from gateway.links.mir2017.messages import Down, Send, Up
from gateway.links.mir2017.messages.fields import accepted, shown

if TYPE_CHECKING:
    from gateway.links.mir2017.messages.budget import Budget
    from gateway.links.mir2017.messages.negotiation import LabAsk, Negotiation

__all__ = [
    "Client",
    "ClientOutput",
    "DeviceAcknowledged",
    "DeviceControl",
    "Dimming",
    "EmaAcknowledged",
    "EventAcknowledged",
    "EventAnswerRejected",
    "EventReceived",
    "MarginAcknowledged",
    "Negotiated",
    "PollAnswered",
    "PriceReceived",
    "RdrAnswered",
    "Refused",
    "ReportAcknowledged",
    "ReportPostponed",
    "ReportRejected",
    "ReportRequested",
    "SessionUp",
    "Step",
]

# What was sent and waits for an unnumbered answer; far more than any window.
MOST_WAITING = 10_000
# Answers that refuse: for good, and for now.
FOR_GOOD, FOR_NOW = range(400, 500), range(500, 600)


class Step(StrEnum):
    """Which answer of the set-up is waited for (wire reference, sections 1, 2 and 8), by the message it answers."""

    DOWN = "down"
    CONNECT_REGISTRATION = "ConnectRegistration"  # profile emap1b
    QUERY_REGISTRATION = "QueryRegistration"
    CREATE_PARTY_REGISTRATION = "CreatePartyRegistration"
    REGISTER_REPORT = "RegisterReport"
    POLL = "Poll"
    REGISTERED_REPORT = "RegisteredReport"
    REQUEST_EVENT = "RequestEvent"
    UP = "up"


class Client:
    """One EMA below one EMS.

    Subscribe to ``subscriptions`` and hand every message to ``received``; publish each ``Send`` in order.
    ``zone``: of the HHMM times, None is this machine's.
    """

    def __init__(self, ema: int, ven_id: str, zone: tzinfo | None = None) -> None:
        self.ema = ema
        self.ven_id = ven_id
        self.zone = zone
        self.step = Step.DOWN
        self.echoes = False  # this session's EMS answers reports by their own RequestID, not by the lab's eternal 1
        self.refused = 0
        self.stale = 0  # answers to nothing that waits: doubles, or late
        self._duration_ms = wire.DURATION_MS
        self._reports: deque[int] = deque(maxlen=MOST_WAITING)
        self._opts: deque[int] = deque(maxlen=MOST_WAITING)

    @property
    def up(self) -> bool:
        return self.step is Step.UP

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return wire.ema_subscriptions(self.ema)

    @property
    def will(self) -> Send:
        """The last will."""
        return Send(Up.DISCONNECTED, wire.Presence(self.ema).encode())

    # What goes out

    def connected(self) -> list[ClientOutput]:
        """The transport stands, or a step was not answered: begin the set-up (again)."""
        self.disconnected()
        self.step = Step.QUERY_REGISTRATION
        return [self._hello(wire.QueryRegistration)]

    def disconnected(self) -> None:
        """The transport broke: nothing that was sent can be answered any more."""
        self.step = Step.DOWN
        self.echoes = False
        self._reports.clear()
        self._opts.clear()

    def farewell(self) -> list[Send]:
        """``EMS/disconnected``, before an orderly end."""
        return [self.will]

    def poll(self) -> list[Send]:
        return [self._hello(wire.Poll)]

    def report(self, report: wire.UpdateReport) -> list[Send]:
        """A report, first or again; answered by ``ReportAcknowledged``, ``ReportRejected`` or ``ReportPostponed``."""
        self._reports.append(report.request_id)
        return [Send(report.topic, report.encode())]

    def margin(self, margin: wire.PowerMargin) -> list[Send]:
        return [Send(wire.margin_topic(self.ema), margin.encode())]

    def created_event(self, event_id: int, request_id: int, opt_in: bool) -> list[Send]:
        """The opt answer; answered by ``EventAcknowledged`` or ``EventAnswerRejected``."""
        self._opts.append(event_id)
        created = wire.CreatedEvent(self.ema, self.ven_id, event_id, request_id, opt_in)
        return [Send(created.topic, created.encode())]

    def rdr(self, number: int, watts: int) -> list[Send]:
        """Ask power back for a device; answered by ``RdrAnswered``, which names the device alone."""
        request = wire.RdrRequest(self.ema, number, watts)
        return [Send(request.topic, request.encode())]

    def negotiate(self, message: Negotiation | LabAsk) -> list[Send]:
        """A word to the coordinator of negotiations; what it answers comes as ``Negotiated``."""
        return [Send(Up.NEGOTIATION, message.encode())]

    def device_connect(self, device: wire.DeviceText) -> list[Send]:
        """Answered by ``DeviceAcknowledged``."""
        return [Send(Up.DEVICE_CONNECT, device.encode())]

    def device_disconnect(self, device: wire.DeviceText) -> list[Send]:
        """Answered by ``DeviceAcknowledged``."""
        return [Send(Up.DEVICE_DISCONNECT, device.encode())]

    def device_info(self, device: wire.DeviceText) -> list[Send]:
        """The wire has no answer to it."""
        return [Send(Up.DEVICE_INFO, device.encode())]

    def _hello(self, kind: type[wire.EmaMessage]) -> Send:
        return Send(kind.topic, kind(self.ema, self.ven_id).encode())

    # What came in

    def received(self, topic: str, body: bytes) -> list[ClientOutput]:
        """One message of the EMS. Never raises: what the profile does not allow is counted and one ``Refused``."""
        try:
            return self._dispatch(topic, body)
        except PeerError as err:
            self.refused += 1
            return [Refused(topic[:128], str(err))]

    def _dispatch(self, topic: str, body: bytes) -> list[ClientOutput]:
        at = wire.parse_down(topic)
        if at.ema is not None and at.ema != self.ema:
            raise PeerError(f"topic {shown(topic)}: is for another EMA than gw/{self.ema}")
        match at.what:
            case Down.PUSHED_EVENT | Down.PULLED_EVENT:
                return [EventReceived(wire.DistributeEvent.decode(body, self.zone))]
            case Down.UPDATED_REPORT:
                return self._updated_report(wire.UpdatedReport.decode(body))
            case Down.POLL_RESPONSE:
                return self._poll_response(wire.Response.decode(body))
            case Down.EVENT_RESPONSE:
                return self._event_response(wire.Response.decode(body))
            case Down.RDR_RESPONSE:
                answer = wire.RdrResponse.decode(body)
                return [RdrAnswered(answer.device, answer.granted, answer.description)]
            case Down.NEGOTIATED:
                from gateway.links.mir2017.messages import negotiation

                return [Negotiated(negotiation.downwards(body))]
            case Down.BUDGET:
                from gateway.links.mir2017.messages.budget import BudgetMessage

                return prices_of(BudgetMessage.decode(body).budgets)
            case Down.POWER_MARGIN_ACK:
                wire.EmaAck.decode(body)
                return [MarginAcknowledged()]
            case Down.CONNECT_ACK | Down.DISCONNECT_ACK:
                wire.EmaAck.decode(body)
                return [EmaAcknowledged(at.what is Down.CONNECT_ACK)]
            case wire.DeviceDown():
                assert at.device is not None
                return self._device(at.what, at.device, body)
            case None:
                return []  # the echo of an OpenFMB report
            case _:
                return self._setup(at.what, body)

    def _setup(self, what: Down, body: bytes) -> list[ClientOutput]:
        """An answer of the set-up. One that is not waited for is a double, or late."""
        match what:
            case Down.CREATED_PARTY_REGISTRATION:
                created = wire.CreatedPartyRegistration.decode(body)
                if self.step is Step.QUERY_REGISTRATION:
                    return self._next(created.response, Step.CREATE_PARTY_REGISTRATION, wire.CreatePartyRegistration)
                # The second answer is the one with a Response; the first may come twice.
                if self.step is Step.CREATE_PARTY_REGISTRATION and created.response is not None:
                    self._duration_ms = created.duration_ms
                    return self._next(created.response, Step.REGISTER_REPORT, wire.EmaRegisterReport)
            case Down.REGISTERED_REPORT:
                registered = wire.EmsRegisteredReport.decode(body)
                if self.step is Step.REGISTER_REPORT:
                    return self._next(registered.response, Step.POLL, wire.SetupPoll)
            case Down.REGISTER_REPORT:
                wanted = wire.EmsRegisterReport.decode(body)
                if self.step is Step.POLL:
                    self._duration_ms = wanted.duration_ms
                    return self._next(wanted.response, Step.REGISTERED_REPORT, wire.EmaRegisteredReport)
            case Down.SETUP_RESPONSE:
                answer = wire.Response.decode(body)
                if self.step is Step.REGISTERED_REPORT:
                    return self._next(answer.response, Step.REQUEST_EVENT, wire.RequestEvent)
            case _:
                answer = wire.Response.decode(body)
                if self.step is Step.REQUEST_EVENT:
                    self._agreed(answer.response)
                    self.step = Step.UP
                    connected = Send(Up.CONNECTED, wire.Presence(self.ema).encode())
                    return [connected, *told_prices(body), SessionUp(self._duration_ms)]
        self.stale += 1
        return []

    def _next(self, response: int | str | None, step: Step, message: type[wire.EmaMessage]) -> list[ClientOutput]:
        self._agreed(response)
        self.step = step
        return [self._hello(message)]

    def _agreed(self, response: int | str | None) -> None:
        if response is not None and not accepted(response):
            raise PeerError(f"{self.step} Response: {shown(response)} is not 200 or ACK_SUCCESS")

    def _updated_report(self, answer: wire.UpdatedReport) -> list[ClientOutput]:
        response = answer.response
        postponed = response in FOR_NOW
        if not (accepted(response) or postponed or response in FOR_GOOD):
            raise PeerError(f"UpdatedReport Response: {shown(response)} is not 200, 4xx or 5xx")
        number = answer.request_id
        if number in self._reports:
            self.echoes = True
            if not postponed:
                self._reports = deque((n for n in self._reports if n != number), MOST_WAITING)
        elif number == wire.LAB_REQUEST_ID and not self.echoes and self._reports:
            number = self._reports.popleft()
        else:
            self.stale += 1
            return []
        if accepted(response):
            return [ReportAcknowledged(number)]
        reason = f"{response} {answer.description}".rstrip()
        return [ReportPostponed(number, reason) if postponed else ReportRejected(number, reason)]

    def _poll_response(self, answer: wire.Response) -> list[ClientOutput]:
        if not answer.ok:
            raise PeerError(f"poll Response: {shown(answer.response)} is not 200")
        return [ReportRequested() if answer.service == wire.REPORT_WANTED else PollAnswered()]

    def _event_response(self, answer: wire.Response) -> list[ClientOutput]:
        if not self._opts:
            self.stale += 1
            return []
        event_id = self._opts.popleft()
        if answer.response in FOR_GOOD:
            return [EventAnswerRejected(event_id, str(answer.response))]
        if not answer.ok:
            raise PeerError(f"CreatedEvent Response: {shown(answer.response)} is not 200")
        return [EventAcknowledged(event_id)]

    def _device(self, what: wire.DeviceDown, number: int, body: bytes) -> list[ClientOutput]:
        match what:
            case wire.DeviceDown.CONTROL:
                return [DeviceControl(number, wire.Control.decode(body).on)]
            case wire.DeviceDown.DIMMING:
                return [Dimming(number, wire.Dimming.decode(body).step)]
            case _:
                wire.DeviceAck.decode(body)
                return [DeviceAcknowledged(number, what is wire.DeviceDown.CONNECT_ACK)]


def told_prices(body: bytes) -> list[ClientOutput]:
    """The prices in the answer to RequestEvent, where it has any."""
    if b"EMADRPriceInformation" not in body:
        return []
    from gateway.links.mir2017.messages.budget import BudgetMessage

    return prices_of(BudgetMessage.decode(body).budgets)


def prices_of(budgets: Iterable[Budget]) -> list[ClientOutput]:
    """What budget messages say, one happening a price."""
    return [
        PriceReceived(0, b.signal, b.price, b.unit, b.current_w, b.threshold_w, b.capacity_w)  # event 0: of none
        for b in budgets
    ]
