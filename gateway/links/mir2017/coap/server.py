"""The EMS's end of the CoAP link, for many EMAs, sans-I/O: requests in, answers and happenings out.

Gives the same happenings as ``links.mir2017.server``. Cannot do: know where an EMA listens (who wraps it keeps the
address that an EMA asks from), tell a report that came twice, keep time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import tzinfo

from gateway.errors import PeerError
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.coap import messages as coap
from gateway.links.mir2017.coap.messages import Up
from gateway.links.mir2017.messages import modules, negotiation
from gateway.links.mir2017.messages.budget import Budget, BudgetMessage, budget_keys
from gateway.links.mir2017.messages.fields import shown
from gateway.links.mir2017.messages.negotiation import LabAnswer, Negotiation
from gateway.links.mir2017.salvage import named_device, named_report
from gateway.links.mir2017.server import CANNOT, MOST_EMAS, NOT_SERVED
from gateway.record import changed, record

MOST_OPTS = 100
LONGEST_REASON = 200


class _NotServed(PeerError):
    """Its EMA is one too many."""


@record
class Answer:
    """The answer to the request that ``key`` names. ``key`` None: the request that is being handled."""

    key: Hashable
    body: bytes


@record
class Write:
    """A PUT to an EMA. ``path`` empty: a notification of its observed resource."""

    ema: int
    path: str
    body: bytes


ServerOutput = Answer | h.ServerHappening

# What is answered at once, and what the registration's answers are called.
_SETUP: dict[str, str] = {
    Up.QUERY_REGISTRATION: "CreatedPartyRegistration",
    Up.CREATE_PARTY_REGISTRATION: "CreatedPartyRegistration2",
    Up.REGISTER_REPORT: "RegisteredReport",
    Up.REGISTERED_REPORT: "Response",
    Up.REQUEST_EVENT: "DistributeEvent",
}


@dataclass(slots=True)
class EmaSession:
    """What this end knows of one EMA. ``request_id``: of its last poll. ``opts``: CreatedEvents without an answer."""

    ven_id: str
    registered: bool = False
    set_up_polled: bool = False
    request_id: int = coap.REQUEST_ID
    opts: deque[tuple[Hashable, int]] = field(default_factory=lambda: deque(maxlen=MOST_OPTS))


class Server:
    """All EMAs below one EMS.

    Hand every PUT to ``requested``: (key, outputs). Where no ``Answer`` with ``key`` None is among the outputs, the
    request waits for a later ``Answer`` with that key, made by ``answer_poll``, ``acknowledge_report``,
    ``acknowledge_device``, ``acknowledge_opt`` or ``answer_rdr``; several requests may wait for one key (a double),
    all get it. An EMA that registered before this server started is served. ``admit``: may this EMA be served.
    """

    def __init__(
        self,
        zone: tzinfo | None = None,
        duration_ms: int = wire.DURATION_MS,
        vtn_name: str = wire.VTN_NAME,
        ems_name: str = wire.EMS_NAME,
        admit: Callable[[int], bool] | None = None,
        prices: Callable[[int], tuple[Budget, ...]] | None = None,
    ) -> None:
        self.zone = zone
        self.duration_ms = duration_ms
        self.refused = 0
        # May whoever sent what is handled now speak for this EMA; who knows keys replaces it.
        self.speaks: Callable[[int], bool] = lambda number: True
        self._vtn = vtn_name
        self._ems = ems_name
        self._admit = admit or (lambda number: len(self._emas) < MOST_EMAS)
        self._prices = prices
        self._emas: dict[int, EmaSession] = {}
        self._handlers: dict[str, Callable[[bytes], tuple[Hashable, list[ServerOutput]]]] = {
            Up.POLL: self._poll,
            Up.CREATED_EVENT: self._created_event,
            Up.UPDATE_REPORT: self._update_report,
            Up.DEVICE_INFO: self._device_info,
            Up.DEVICE_CONNECT: lambda body: self._device(body, True),
            Up.DEVICE_DISCONNECT: lambda body: self._device(body, False),
            Up.POWER_MARGIN: self._margin,
            Up.RDR: self._rdr,
            Up.NEGOTIATION: self._negotiation,
            Up.DISCONNECTED: self._disconnected,
        }

    @property
    def emas(self) -> dict[int, EmaSession]:
        """The EMAs heard of since this server started, by number. Read only."""
        return self._emas

    @property
    def paths(self) -> list[str]:
        """Every resource that an EMA writes to."""
        return [*_SETUP, *self._handlers, *coap.MODULE_PATHS]

    # What came in

    def requested(self, path: str, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        """One PUT. Never raises: what the profile does not allow is counted and one ``Refused``, without answer."""
        try:
            if path in _SETUP:
                return None, self._setup(path, body)
            if path in coap.MODULE_PATHS:
                return None, self._module(*coap.MODULE_PATHS[path], body)
            handler = self._handlers.get(path)
            if handler is None:
                raise PeerError(f"path {shown(path)}: is not in the profile")
            return handler(body)
        except PeerError as err:
            self.refused += 1
            return None, [Refused(path[:128], str(err))]

    def observed(self, rest: str) -> int:
        """The EMA that observes ``obs/<rest>``; answer ``Initial_Success``. Raise ``PeerError``."""
        try:
            ema = coap.observed_ema(rest)
            self._ema(ema)
        except PeerError:
            self.refused += 1
            raise
        return ema

    def _ema(self, number: int, ven_id: str = "") -> EmaSession:
        if not self.speaks(number):
            raise PeerError(f"gw/{number}: is not spoken for by its own key")
        session = self._emas.get(number)
        if session is None:
            if not self._admit(number):
                raise _NotServed(f"gw/{number}: as many EMAs as may be are served already")
            session = self._emas[number] = EmaSession(ven_id or coap.ven_name(number, ""))
        elif ven_id:
            session.ven_id = ven_id
        return session

    def _setup(self, path: str, body: bytes) -> list[ServerOutput]:
        hello = coap.Hello.decode(body, path)
        ema, ven = hello.ema, hello.ven_id
        session = self._ema(ema, ven)
        outputs: list[ServerOutput] = [Answer(None, self._registration(_SETUP[path], session, hello))]
        if path == Up.QUERY_REGISTRATION:
            session.registered = False
            session.set_up_polled = False
            outputs.append(h.EmaRegistering(ema, ven))
        elif path == Up.REQUEST_EVENT:
            session.registered = True
            outputs += [h.EmaRegistered(ema, ven), h.EmaConnected(ema)]
        return outputs

    def _registration(self, service: str, session: EmaSession, hello: coap.Hello) -> bytes:
        told = self._prices is not None and service == _SETUP[Up.REQUEST_EVENT]
        more = budget_keys(self._prices(hello.ema)) if told and self._prices is not None else None
        return coap.setup_answer(
            service, session.ven_id, hello.ema, hello.request_id, self.duration_ms, self._vtn, more
        )

    def _poll(self, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        """The first one of a session belongs to the set-up."""
        hello = coap.Hello.decode(body, Up.POLL)
        known = hello.ema in self._emas
        session = self._ema(hello.ema, hello.ven_id)
        if known and not session.registered and not session.set_up_polled:
            session.set_up_polled = True
            return None, [Answer(None, self._registration("RegisterReport", session, hello))]
        session.request_id = hello.request_id
        return ("poll", hello.ema), [h.Polled(hello.ema, hello.ven_id)]

    def _created_event(self, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        m = coap.read_created_event(body)
        session = self._ema(m.ema, m.ven_id)
        key = ("opt", m.ema, m.event_id, m.request_id)
        session.opts.append((key, m.request_id))
        return key, [h.EventAnswered(m.ema, m.event_id, m.request_id, m.opt_in)]

    def _update_report(self, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        try:
            hello = coap.Hello.decode(body, Up.UPDATE_REPORT)
            report = wire.UpdateReport.decode(body)
            self._ema(hello.ema, hello.ven_id)
        except PeerError as err:
            return None, self._report_refused(body, err)
        return ("report", hello.ema, report.request_id), [h.Reported(hello.ema, report.request_id, report)]

    def _report_refused(self, body: bytes, err: PeerError) -> list[ServerOutput]:
        """Without an answer its EMA would send it for ever, and nothing behind it."""
        named = named_report(body)
        if named is None or not self.speaks(named[0]):
            raise err
        self.refused += 1
        code = NOT_SERVED if isinstance(err, _NotServed) else CANNOT
        answer = coap.updated_report(self._ven(named[0]), named[1], code, str(err)[:LONGEST_REASON])
        return [Answer(None, answer), h.ReportRefused(*named, str(err))]

    def _device_info(self, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        device = wire.DeviceText.decode(body)
        self._ema(device.ema)
        return None, [h.DeviceInfo(device.ema, device), Answer(None, Up.DEVICE_INFO.encode("ascii"))]

    def _device(self, body: bytes, connected: bool) -> tuple[Hashable, list[ServerOutput]]:
        try:
            device = wire.DeviceText.decode(body)
            self._ema(device.ema)
        except PeerError as err:
            named = named_device(body)
            if named is None or not self.speaks(named[0]):
                raise
            self.refused += 1
            return None, [Answer(None, b"DR " + wire.DeviceAck(*named).encode()), Refused("device", str(err))]
        kind = h.DeviceConnected if connected else h.DeviceDisconnected
        return ("device", device.ema, device.device, connected), [kind(device.ema, device)]

    def _margin(self, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        m = coap.Margin.decode(body)
        self._ema(m.ema)
        margin = wire.PowerMargin(m.power, m.threshold - m.power)
        return None, [h.MarginReported(m.ema, margin), Answer(None, wire.EmaAck(m.ema).encode())]

    def _rdr(self, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        m = wire.RdrRequest.decode(body)
        self._ema(m.ema)
        return ("rdr", m.ema, m.device), [h.RdrAsked(m.ema, m.device, m.value)]

    def _negotiation(self, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        message = negotiation.upwards(body)
        self._ema(message.ema)
        return None, [h.NegotiationHeard(message.ema, message), Answer(None, Up.NEGOTIATION.encode("ascii"))]

    def _disconnected(self, body: bytes) -> tuple[Hashable, list[ServerOutput]]:
        ema = wire.Presence.decode(body).ema
        self._ema(ema).registered = False
        return None, [h.EmaDisconnected(ema), Answer(None, wire.EmaAck(ema).encode())]

    def _module(self, module: wire.Module, phase: wire.Phase, body: bytes) -> list[ServerOutput]:
        report = modules.ModuleReport.decode(module, body)
        self._ema(report.ema)
        return [h.FieldModuleReported(report.ema, phase, report), Answer(None, f"{module}ACK".encode("ascii"))]

    # What goes out

    def distribute(self, ema: int, event: wire.DistributeEvent, observed: bool = False) -> Write:
        """An event for one EMA: written to it, or a notification where it observes."""
        pushed = changed(event, pulled=False, target=event.target or self._ven(ema))
        code = coap.NOTIFIED if observed else coap.PUSHED_RESPONSE
        return Write(ema, "" if observed else coap.Down.PUSHED_EVENT, coap.write_event(pushed, self.zone, code))

    def answer_poll(self, ema: int, event: wire.DistributeEvent | None = None, want_report: bool = False) -> Answer:
        """Answer a ``Polled``: with the oldest event that this EMA has not answered, or without one.

        ``want_report`` has no word here: over CoAP an EMA reports with each poll.
        """
        session = self._emas.get(ema) or EmaSession(self._ven(ema))
        if event is None:
            body = coap.response(coap.Word.NO_EVENT, session.ven_id, session.request_id)
        else:
            pulled = changed(event, pulled=True, target=event.target or session.ven_id)
            body = b"%s %s" % (
                coap.Word.EVENT.encode("ascii"),
                coap.write_event(pulled, self.zone, coap.PULLED_RESPONSE),
            )
        return Answer(("poll", ema), body)

    def acknowledge_report(self, ema: int, request_id: int, code: int = 200, description: str = "") -> Answer:
        """Only after the report is stored durably, or ``code`` 4xx: never to be, 5xx: not now."""
        text = description or coap.REPORT_DESCRIPTION
        return Answer(("report", ema, request_id), coap.updated_report(self._ven(ema), request_id, code, text))

    def refuse_report(self, ema: int, request_id: int, code: int, why: str) -> Answer:
        """The report is not taken, ever (4xx) or now (5xx)."""
        return self.acknowledge_report(ema, request_id, code, why[:LONGEST_REASON])

    def acknowledge_opt(self, ema: int, code: int = 200) -> Answer | None:
        """The oldest CreatedEvent of that EMA without an answer is on disk, or never will be."""
        session = self._emas.get(ema)
        if session is None or not session.opts:
            return None
        key, request_id = session.opts.popleft()
        return Answer(key, coap.response(coap.Word.ANSWER, session.ven_id, request_id, code))

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> Answer:
        """Only after a ``DeviceConnected`` or ``DeviceDisconnected`` is stored durably."""
        keys = wire.DeviceAck(ema, device).encode()
        return Answer(("device", ema, device, connected), b"DR " + keys)

    def answer_rdr(self, ema: int, number: int, granted: bool, description: str = "") -> Answer:
        """Grant or refuse the power that a device asked back; the answer has no word (section 3)."""
        body = wire.RdrResponse(number, granted, wire.ema_name(ema), description).encode()
        return Answer(("rdr", ema, number), body)

    def control(self, ema: int, device: int, on: bool) -> Write:
        """Switch a device."""
        return Write(ema, wire.device_down(ema, device, wire.DeviceDown.CONTROL), wire.Control(on).encode())

    def dim(self, ema: int, device: int, up: bool) -> Write:
        """One dimming step. Relative: never send it again on a doubt."""
        return Write(ema, wire.device_down(ema, device, wire.DeviceDown.DIMMING), wire.Dimming(up).encode())

    def negotiate(self, ema: int, message: Negotiation | LabAnswer) -> Write:
        """A word of the coordinator of negotiations to a member."""
        return Write(ema, coap.Down.NEGOTIATED, message.encode())

    def tell_prices(self, ema: int, budgets: tuple[Budget, ...]) -> Write:
        """Prices that changed. Absolute: what is lost is said with the next set-up."""
        return Write(ema, coap.Down.BUDGET, BudgetMessage(self._ven(ema), budgets).encode())

    def threshold(self, ema: int, watts: int) -> Write:
        """A new default threshold."""
        return Write(ema, coap.Down.THRESHOLD, str(watts).encode("ascii"))

    def _ven(self, ema: int) -> str:
        session = self._emas.get(ema)
        return session.ven_id if session is not None else coap.ven_name(ema, "")
