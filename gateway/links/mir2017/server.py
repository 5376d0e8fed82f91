"""The EMS's end of the link, for many EMAs, sans-I/O: bytes in, bytes and happenings out.

Cannot do: recognise a report that came twice (who stores it does, by ``(ema, request_id)``), tell one EMA from
another that speaks in its name (the numbers stand in the bodies: a limit of this profile), keep time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from gateway.errors import PeerError
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.happenings import (
    DeviceConnected,
    DeviceDisconnected,
    DeviceInfo,
    EmaConnected,
    EmaDisconnected,
    EmaRegistered,
    EmaRegistering,
    EventAnswered,
    FieldModuleReported,
    MarginReported,
    MeterReported,
    NegotiationHeard,
    Polled,
    RdrAsked,
    Reported,
    ReportRefused,
    ServerOutput,
)
from gateway.links.mir2017.messages import modules, negotiation
from gateway.links.mir2017.messages.budget import Budget, budget_keys
from gateway.links.mir2017.messages.fields import shown
from gateway.links.mir2017.salvage import named_device, named_report
from gateway.links.mir2017.server_says import EmaSession, Says, to

__all__ = [
    "DeviceConnected",
    "DeviceDisconnected",
    "DeviceInfo",
    "EmaConnected",
    "EmaDisconnected",
    "EmaRegistered",
    "EmaRegistering",
    "EmaSession",
    "EventAnswered",
    "FieldModuleReported",
    "MarginReported",
    "MeterReported",
    "NegotiationHeard",
    "Polled",
    "RdrAsked",
    "Refused",
    "ReportRefused",
    "Reported",
    "Server",
    "ServerOutput",
]

MOST_EMAS = 10_000
# A report that will never be taken, for what it says is wrong; and one whose EMA is one too many, until there is room.
CANNOT, NOT_SERVED = 400, 503


class _NotServed(PeerError):
    """Its EMA is one too many."""


class Server(Says):
    """All EMAs below one EMS.

    Subscribe to ``messages.EMS_SUBSCRIPTIONS`` and hand every message to ``received``; publish each ``Send`` it
    returns, in order. A server that was restarted serves EMAs that registered before: it lets them poll and report,
    and registers them when they ask. ``zone``: of the HHMM times, None is this machine's. ``duration_ms``: the poll
    interval asked for. ``admit``: may this EMA be served (None: ``most_emas`` of them may). ``opts_at_once``: answer
    CreatedEvent as it comes; else each ``EventAnswered`` waits for ``acknowledge_opt``. ``prices``: what an EMA is told
    with the last answer of its set-up.
    """

    def __init__(
        self,
        zone: tzinfo | None = None,
        duration_ms: int = wire.DURATION_MS,
        vtn_name: str = wire.VTN_NAME,
        ems_name: str = wire.EMS_NAME,
        most_emas: int = MOST_EMAS,
        admit: Callable[[int], bool] | None = None,
        opts_at_once: bool = True,
        prices: Callable[[int], tuple[Budget, ...]] | None = None,
    ) -> None:
        super().__init__(zone, ems_name)
        self.duration_ms = duration_ms
        self.refused = 0
        self._vtn = vtn_name
        self._admit = admit or (lambda number: len(self._emas) < most_emas)
        self._opts_at_once = opts_at_once
        self._prices = prices
        self._handlers: dict[str, Callable[[bytes], list[ServerOutput]]] = {
            wire.Up.CREATED_EVENT: self._created_event,
            wire.Up.UPDATE_REPORT: self._update_report,
            wire.Up.CONNECTED: self._connected,
            wire.Up.DISCONNECTED: self._disconnected,
            wire.Up.DEVICE_CONNECT: self._device_connect,
            wire.Up.DEVICE_DISCONNECT: self._device_disconnect,
            wire.Up.DEVICE_INFO: self._device_info,
            wire.Up.RDR_REQUEST: self._rdr_request,
            wire.Up.ACTIVE_ENERGY: self._active_energy,
            wire.Up.LOAD_PROFILE: self._load_profile,
            wire.Up.NEGOTIATION: self._negotiation,
        }

    @property
    def emas(self) -> dict[int, EmaSession]:
        """The EMAs heard of since this server started, by number. Read only."""
        return self._emas

    # What came in

    def received(self, topic: str, body: bytes) -> list[ServerOutput]:
        """One message of an EMA. Never raises: what the profile does not allow is counted and one ``Refused``."""
        try:
            return self._dispatch(topic, body)
        except PeerError as err:
            self.refused += 1
            return [Refused(topic[:128], str(err))]

    def _dispatch(self, topic: str, body: bytes) -> list[ServerOutput]:
        if topic in wire.EMA_MESSAGES:
            return self._session_message(topic, body)
        handler = self._handlers.get(topic)
        if handler is not None:
            return handler(body)
        if topic in wire.MODULE_TOPICS:
            return self._module(*wire.MODULE_TOPICS[topic], body)
        if topic.startswith(f"{wire.Up.POWER_MARGIN}/"):
            return self._margin(wire.margin_ema(topic), body)
        raise PeerError(f"topic {shown(topic)}: is not in the profile")

    def _ema(self, number: int, ven_id: str = "") -> EmaSession:
        session = self._emas.get(number)
        if session is None:
            if not self._admit(number):
                raise _NotServed(f"gw/{number}: as many EMAs as may be are served already")
            session = self._emas[number] = EmaSession(ven_id or f"MIR_VEN{number}")
        elif ven_id:
            session.ven_id = ven_id
        return session

    def _session_message(self, topic: str, body: bytes) -> list[ServerOutput]:
        message = wire.EMA_MESSAGES[topic].decode(body)
        ema, ven = message.ema, message.ven_id
        session = self._ema(ema, ven)
        match topic:
            case wire.Up.QUERY_REGISTRATION:
                session.registered = session.connected = False
                created = wire.CreatedPartyRegistration(ven, self._vtn, self._vtn, self.duration_ms)
                return [
                    to(ema, wire.Down.CREATED_PARTY_REGISTRATION, created.encode()),
                    EmaRegistering(ema, ven),
                ]
            case wire.Up.CREATE_PARTY_REGISTRATION:
                created = wire.CreatedPartyRegistration(ven, self._vtn, self._vtn, self.duration_ms, 200)
                return [to(ema, wire.Down.CREATED_PARTY_REGISTRATION, created.encode())]
            case wire.Up.REGISTER_REPORT:
                registered = wire.EmsRegisteredReport(ven, self._vtn, self._vtn)
                return [to(ema, wire.Down.REGISTERED_REPORT, registered.encode())]
            case wire.Up.SETUP_POLL:
                wanted = wire.EmsRegisterReport(ven, self._vtn, self._vtn, duration_ms=self.duration_ms)
                return [to(ema, wire.Down.REGISTER_REPORT, wanted.encode())]
            case wire.Up.REGISTERED_REPORT:
                return [to(ema, wire.Down.SETUP_RESPONSE, wire.Response(ven).encode())]
            case wire.Up.REQUEST_EVENT:
                session.registered = True
                budgets = self._prices(ema) if self._prices is not None else ()
                answer = wire.Response(ven, "ACK_SUCCESS", more=budget_keys(budgets))
                return [to(ema, wire.Down.SETUP_EVENT, answer.encode()), EmaRegistered(ema, ven)]
            case _:
                return [Polled(ema, ven)]

    def _created_event(self, body: bytes) -> list[ServerOutput]:
        m = wire.CreatedEvent.decode(body)
        self._ema(m.ema, m.ven_id)
        answered = EventAnswered(m.ema, m.event_id, m.request_id, m.opt_in)
        return [answered, *(self.acknowledge_opt(m.ema) if self._opts_at_once else ())]

    def _update_report(self, body: bytes) -> list[ServerOutput]:
        try:
            m = wire.UpdateReport.decode(body)
            self._ema(m.ema, m.ven_id)
        except PeerError as err:
            return self._report_refused(body, err)
        return [Reported(m.ema, m.request_id, m)]

    def _report_refused(self, body: bytes, err: PeerError) -> list[ServerOutput]:
        """Without an answer its EMA would send it for ever, and nothing behind it."""
        named = named_report(body)
        if named is None:
            raise err
        self.refused += 1
        ema, number = named
        code = NOT_SERVED if isinstance(err, _NotServed) else CANNOT
        return [*self.refuse_report(ema, number, code, str(err)), ReportRefused(ema, number, str(err))]

    def _margin(self, ema: int, body: bytes) -> list[ServerOutput]:
        margin = wire.PowerMargin.decode(body)
        self._ema(ema)
        return [
            MarginReported(ema, margin),
            to(ema, wire.Down.POWER_MARGIN_ACK, wire.EmaAck(ema).encode()),
        ]

    def _connected(self, body: bytes) -> list[ServerOutput]:
        ema = wire.Presence.decode(body).ema
        self._ema(ema).connected = True
        return [EmaConnected(ema), to(ema, wire.Down.CONNECT_ACK, wire.EmaAck(ema).encode())]

    def _disconnected(self, body: bytes) -> list[ServerOutput]:
        ema = wire.Presence.decode(body).ema
        self._ema(ema).connected = False
        return [EmaDisconnected(ema), to(ema, wire.Down.DISCONNECT_ACK, wire.EmaAck(ema).encode())]

    def _device_connect(self, body: bytes) -> list[ServerOutput]:
        try:
            device = self._device(body)
        except PeerError as err:
            return self._device_refused(wire.Up.DEVICE_CONNECT, body, True, err)
        return [DeviceConnected(device.ema, device)]

    def _device_disconnect(self, body: bytes) -> list[ServerOutput]:
        try:
            device = self._device(body)
        except PeerError as err:
            return self._device_refused(wire.Up.DEVICE_DISCONNECT, body, False, err)
        return [DeviceDisconnected(device.ema, device)]

    def _device_refused(self, topic: str, body: bytes, connected: bool, err: PeerError) -> list[ServerOutput]:
        """The wire has no refusal here, and without an answer its EMA would say it for ever: it is answered."""
        named = named_device(body)
        if named is None:
            raise err
        self.refused += 1
        return [*self.acknowledge_device(*named, connected), Refused(topic, str(err))]

    def _device_info(self, body: bytes) -> list[ServerOutput]:
        device = self._device(body)
        return [DeviceInfo(device.ema, device)]

    def _device(self, body: bytes) -> wire.DeviceText:
        device = wire.DeviceText.decode(body)
        self._ema(device.ema)
        return device

    def _rdr_request(self, body: bytes) -> list[ServerOutput]:
        m = wire.RdrRequest.decode(body)
        self._ema(m.ema)
        return [RdrAsked(m.ema, m.device, m.value)]

    def _negotiation(self, body: bytes) -> list[ServerOutput]:
        message = negotiation.upwards(body)
        self._ema(message.ema)
        return [NegotiationHeard(message.ema, message)]

    def _module(self, module: wire.Module, phase: wire.Phase, body: bytes) -> list[ServerOutput]:
        report = modules.ModuleReport.decode(module, body)
        self._ema(report.ema)
        echo = wire.Send(wire.module_ack(report.ema, module, phase), report.encode())
        return [FieldModuleReported(report.ema, phase, report), echo]

    def _active_energy(self, body: bytes) -> list[ServerOutput]:
        energy = modules.ActiveEnergy.decode(body)
        self._ema(energy.ema)
        return [MeterReported(energy.ema, energy)]

    def _load_profile(self, body: bytes) -> list[ServerOutput]:
        profile = modules.LoadProfile.decode(body)
        self._ema(profile.ema)
        return [MeterReported(profile.ema, profile)]
