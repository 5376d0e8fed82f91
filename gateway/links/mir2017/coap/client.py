"""The EMA's end of the CoAP link, sans-I/O: questions out, answers and what the EMS writes in, happenings out.

Gives the same happenings as ``links.mir2017.client``. Cannot do: keep time; notice that the EMS is gone (CoAP has no
connection: who wraps it counts unanswered questions).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import TYPE_CHECKING

from gateway.errors import PeerError
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client import FOR_GOOD, FOR_NOW, Step, prices_of, told_prices
from gateway.links.mir2017.client_happenings import (
    ClientOutput,
    DeviceAcknowledged,
    DeviceControl,
    Dimming,
    EventAcknowledged,
    EventAnswerRejected,
    EventReceived,
    MarginAcknowledged,
    Negotiated,
    PollAnswered,
    RdrAnswered,
    Refused,
    ReportAcknowledged,
    ReportPostponed,
    ReportRejected,
    SessionUp,
    ThresholdReceived,
)
from gateway.links.mir2017.coap import messages as coap
from gateway.links.mir2017.coap.messages import Ask, Up
from gateway.links.mir2017.messages.fields import accepted, shown

if TYPE_CHECKING:
    from gateway.links.mir2017.messages.negotiation import LabAsk, Negotiation

# Each step of the set-up: what is asked, what the answer is called, what is asked next.
_SETUP: dict[Step, tuple[Up, str, Step]] = {
    Step.QUERY_REGISTRATION: (Up.QUERY_REGISTRATION, "CreatedPartyRegistration", Step.CREATE_PARTY_REGISTRATION),
    Step.CREATE_PARTY_REGISTRATION: (
        Up.CREATE_PARTY_REGISTRATION,
        "CreatedPartyRegistration2",
        Step.REGISTER_REPORT,
    ),
    Step.REGISTER_REPORT: (Up.REGISTER_REPORT, "RegisteredReport", Step.POLL),
    Step.POLL: (Up.POLL, "RegisterReport", Step.REGISTERED_REPORT),
    Step.REGISTERED_REPORT: (Up.REGISTERED_REPORT, "Response", Step.REQUEST_EVENT),
    Step.REQUEST_EVENT: (Up.REQUEST_EVENT, "DistributeEvent", Step.UP),
}


class Client:
    """One EMA below one EMS.

    PUT each ``Ask`` and hand its answer to ``answered``, whatever the order; hand what the EMS PUTs to
    ``requested`` and, in mode OBSERVE, each notification of ``observes`` to ``notified``. None of them raises: what
    the profile does not allow is counted and one ``Refused``. ``zone``: of the HHMM times, None is this machine's.
    """

    echoes = True  # CoAP pairs an answer with its question, whatever RequestID the EMS writes

    def __init__(self, ema: int, ven_id: str, zone: tzinfo | None = None) -> None:
        self.ema = ema
        self.ven_id = coap.ven_name(ema, ven_id)
        self.zone = zone
        self.step = Step.DOWN
        self.refused = 0
        self.stale = 0  # answers to a set-up that was begun anew
        self._duration_ms = wire.DURATION_MS
        self._answers: dict[str, Callable[[Ask, bytes], list[ClientOutput]]] = {
            Up.CREATED_EVENT: self._event_answered,
            Up.UPDATE_REPORT: self._report_answered,
            Up.RDR: self._rdr_answered,
            Up.DEVICE_CONNECT: lambda ask, _: [DeviceAcknowledged(ask.number, True)],
            Up.DEVICE_DISCONNECT: lambda ask, _: [DeviceAcknowledged(ask.number, False)],
            Up.POWER_MARGIN: lambda *_: [MarginAcknowledged()],
        }

    @property
    def up(self) -> bool:
        return self.step is Step.UP

    @property
    def observes(self) -> str:
        """The resource of the EMS to observe in mode OBSERVE."""
        return coap.observe_path(self.ema)

    # What goes out

    def connected(self) -> list[ClientOutput]:
        """Begin the set-up (again)."""
        self.step = Step.QUERY_REGISTRATION
        return [self._hello(Up.QUERY_REGISTRATION)]

    def disconnected(self) -> None:
        """The transport ended."""
        self.step = Step.DOWN

    def farewell(self) -> list[wire.Send]:
        """``disconnected`` (ours), before an orderly end."""
        return [Ask(Up.DISCONNECTED, wire.Presence(self.ema).encode())]

    def poll(self) -> list[wire.Send]:
        return [self._hello(Up.POLL)]

    def report(self, report: wire.UpdateReport) -> list[wire.Send]:
        """A report, first or again; answered by ``ReportAcknowledged``, ``ReportRejected`` or ``ReportPostponed``."""
        return [Ask(Up.UPDATE_REPORT, coap.write_report(report, self.ven_id), number=report.request_id)]

    def margin(self, margin: wire.PowerMargin) -> list[wire.Send]:
        text = coap.write_margin(self.ema, margin.power, margin.power + margin.margin)
        return [Ask(Up.POWER_MARGIN, text)]

    def created_event(self, event_id: int, request_id: int, opt_in: bool) -> list[wire.Send]:
        """The opt answer; answered by ``EventAcknowledged`` or ``EventAnswerRejected``."""
        body = coap.write_created_event(self.ven_id, event_id, request_id, opt_in)
        return [Ask(Up.CREATED_EVENT, body, number=event_id)]

    def rdr(self, number: int, watts: int) -> list[wire.Send]:
        """Ask power back for a device; answered by ``RdrAnswered``."""
        return [Ask(Up.RDR, wire.RdrRequest(self.ema, number, watts).encode(), number=number)]

    def negotiate(self, message: Negotiation | LabAsk) -> list[wire.Send]:
        """A word to the coordinator of negotiations; what it says comes as ``Negotiated``."""
        return [Ask(Up.NEGOTIATION, message.encode())]

    def device_connect(self, device: wire.DeviceText) -> list[wire.Send]:
        """Answered by ``DeviceAcknowledged``."""
        return [Ask(Up.DEVICE_CONNECT, device.encode(), number=device.device)]

    def device_disconnect(self, device: wire.DeviceText) -> list[wire.Send]:
        """Answered by ``DeviceAcknowledged``."""
        return [Ask(Up.DEVICE_DISCONNECT, device.encode(), number=device.device)]

    def device_info(self, device: wire.DeviceText) -> list[wire.Send]:
        return [Ask(Up.DEVICE_INFO, device.encode(), number=device.device)]

    def _hello(self, path: Up) -> Ask:
        return Ask(path, coap.hello(path, self.ven_id, self.ema))

    # What came in

    def answered(self, ask: wire.Send, body: bytes, failure: str = "") -> list[ClientOutput]:
        """The answer to one ``Ask``. ``failure``: the error code's words where it was none of 2.xx."""
        try:
            assert isinstance(ask, Ask)
            if failure:
                raise PeerError(f"answer: {failure}")
            if self.step is not Step.UP and self.step is not Step.DOWN:
                return self._setup(ask, body)
            if ask.topic == Up.POLL:
                return self._polled(body)
            handler = self._answers.get(ask.topic)
            return handler(ask, body) if handler is not None else []
        except PeerError as err:
            return self._refuse(ask.topic, str(err))

    def requested(self, path: str, body: bytes) -> tuple[bool, list[ClientOutput]]:
        """The EMS PUTs. (is there such a resource and was its body right, what happened)."""
        try:
            return True, self._requested(path, body)
        except PeerError as err:
            return False, self._refuse(path, str(err))

    def notified(self, body: bytes) -> list[ClientOutput]:
        """A notification of ``observes``: ``Initial_Success`` first, an event each time after that."""
        if body == coap.INITIAL:
            return []
        try:
            rest = coap.read_answer(body)[1]
            return [EventReceived(coap.read_event(rest, self.zone))]
        except PeerError as err:
            return self._refuse(self.observes, str(err))

    def _refuse(self, path: str, reason: str) -> list[ClientOutput]:
        self.refused += 1
        return [Refused(path[:128], reason)]

    def _requested(self, path: str, body: bytes) -> list[ClientOutput]:
        if path == coap.Down.PUSHED_EVENT:
            return [EventReceived(coap.read_event(coap.read_answer(body)[1], self.zone))]
        if path == coap.Down.THRESHOLD:
            return [ThresholdReceived(coap.read_threshold(body))]
        if path == coap.Down.NEGOTIATED:
            from gateway.links.mir2017.messages import negotiation

            return [Negotiated(negotiation.downwards(body))]
        if path == coap.Down.BUDGET:
            from gateway.links.mir2017.messages.budget import BudgetMessage

            return prices_of(BudgetMessage.decode(body).budgets)
        at = wire.parse_down(path)
        if at.ema != self.ema or at.device is None:
            raise PeerError(f"path {shown(path)}: is not one of gw/{self.ema}")
        if at.what is wire.DeviceDown.CONTROL:
            return [DeviceControl(at.device, wire.Control.decode(body).on)]
        if at.what is wire.DeviceDown.DIMMING:
            return [Dimming(at.device, wire.Dimming.decode(body).step)]
        raise PeerError(f"path {shown(path)}: is not in the profile")

    def _setup(self, ask: Ask, body: bytes) -> list[ClientOutput]:
        path, service, following = _SETUP[self.step]
        if ask.topic != path:
            self.stale += 1
            return []
        _, rest = coap.read_answer(body)
        answer = coap.SetupAnswer.decode(rest, service)
        if answer.response is not None and not accepted(answer.response):
            raise PeerError(f"{self.step} Response: {shown(answer.response)} is not 200 or ACK_SUCCESS")
        self._duration_ms = answer.duration_ms or self._duration_ms
        self.step = following
        if following is Step.UP:
            return [*told_prices(rest), SessionUp(self._duration_ms)]
        return [self._hello(_SETUP[following][0])]

    def _polled(self, body: bytes) -> list[ClientOutput]:
        word, rest = coap.read_answer(body)
        if word is coap.Word.EVENT:
            return [EventReceived(coap.read_event(rest, self.zone))]
        answer = wire.Response.decode(rest)
        if not answer.ok:
            raise PeerError(f"poll Response: {shown(answer.response)} is not 200")
        return [PollAnswered()]

    def _event_answered(self, ask: Ask, body: bytes) -> list[ClientOutput]:
        answer = wire.Response.decode(coap.read_answer(body)[1])
        if answer.response in FOR_GOOD:
            return [EventAnswerRejected(ask.number, str(answer.response))]
        if not answer.ok:
            raise PeerError(f"createdEvent Response: {shown(answer.response)} is not 200")
        return [EventAcknowledged(ask.number)]

    def _report_answered(self, ask: Ask, body: bytes) -> list[ClientOutput]:
        answer = wire.UpdatedReport.decode(coap.read_answer(body)[1])
        if accepted(answer.response):
            return [ReportAcknowledged(ask.number)]
        reason = f"{answer.response} {answer.description}".rstrip()
        if answer.response in FOR_NOW:
            return [ReportPostponed(ask.number, reason)]
        if answer.response in FOR_GOOD:
            return [ReportRejected(ask.number, reason)]
        raise PeerError(f"UpdateReport Response: {shown(answer.response)} is not 200, 4xx or 5xx")

    def _rdr_answered(self, ask: Ask, body: bytes) -> list[ClientOutput]:
        answer = wire.RdrResponse.decode(coap.read_answer(body)[1])
        return [RdrAnswered(ask.number, answer.granted, answer.description)]
