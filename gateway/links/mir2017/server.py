"""The EMS's end of the link, for many EMAs, sans-I/O: bytes in, bytes and happenings out.

Cannot do: recognise a report that came twice (who stores it does, by ``(ema, request_id)``), tell one EMA from
another that speaks in its name (the numbers stand in the bodies: a limit of this profile), keep time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
    Polled,
    RdrAsked,
    Reported,
    ServerOutput,
)
from gateway.links.mir2017.messages import modules
from gateway.links.mir2017.messages.fields import shown
from gateway.record import changed

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
    "Polled",
    "RdrAsked",
    "Refused",
    "Reported",
    "Server",
    "ServerOutput",
]

MOST_EMAS = 10_000


def _to(ema: int, what: wire.Down, body: bytes) -> wire.Send:
    return wire.Send(wire.down(ema, what), body)


@dataclass(slots=True)
class EmaSession:
    """What this end knows of one EMA. ``report_wanted``: its next poll without an event asks for a report."""

    ven_id: str
    registered: bool = False
    connected: bool = False
    report_wanted: bool = False


class Server:
    """All EMAs below one EMS.

    Subscribe to ``messages.EMS_SUBSCRIPTIONS`` and hand every message to ``received``; publish each ``Send`` it
    returns, in order. A server that was restarted serves EMAs that registered before: it lets them poll and report,
    and registers them when they ask. ``zone``: of the HHMM times, None is this machine's. ``duration_ms``: the poll
    interval asked for.
    """

    def __init__(
        self,
        zone: tzinfo | None = None,
        duration_ms: int = wire.DURATION_MS,
        vtn_name: str = wire.VTN_NAME,
        ems_name: str = wire.EMS_NAME,
        most_emas: int = MOST_EMAS,
    ) -> None:
        self.zone = zone
        self.duration_ms = duration_ms
        self.refused = 0
        self._vtn = vtn_name
        self._ems = ems_name
        self._most = most_emas
        self._emas: dict[int, EmaSession] = {}
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
            if len(self._emas) >= self._most:
                raise PeerError(f"gw/{number}: {self._most} EMAs are served already")
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
                    _to(ema, wire.Down.CREATED_PARTY_REGISTRATION, created.encode()),
                    EmaRegistering(ema, ven),
                ]
            case wire.Up.CREATE_PARTY_REGISTRATION:
                created = wire.CreatedPartyRegistration(ven, self._vtn, self._vtn, self.duration_ms, 200)
                return [_to(ema, wire.Down.CREATED_PARTY_REGISTRATION, created.encode())]
            case wire.Up.REGISTER_REPORT:
                registered = wire.EmsRegisteredReport(ven, self._vtn, self._vtn)
                return [_to(ema, wire.Down.REGISTERED_REPORT, registered.encode())]
            case wire.Up.SETUP_POLL:
                wanted = wire.EmsRegisterReport(ven, self._vtn, self._vtn, duration_ms=self.duration_ms)
                return [_to(ema, wire.Down.REGISTER_REPORT, wanted.encode())]
            case wire.Up.REGISTERED_REPORT:
                return [_to(ema, wire.Down.SETUP_RESPONSE, wire.Response(ven).encode())]
            case wire.Up.REQUEST_EVENT:
                session.registered = True
                answer = wire.Response(ven, "ACK_SUCCESS")
                return [_to(ema, wire.Down.SETUP_EVENT, answer.encode()), EmaRegistered(ema, ven)]
            case _:
                return [Polled(ema, ven)]

    def _created_event(self, body: bytes) -> list[ServerOutput]:
        m = wire.CreatedEvent.decode(body)
        self._ema(m.ema, m.ven_id)
        answer = _to(m.ema, wire.Down.EVENT_RESPONSE, wire.Response(m.ven_id).encode())
        return [EventAnswered(m.ema, m.event_id, m.request_id, m.opt_in), answer]

    def _update_report(self, body: bytes) -> list[ServerOutput]:
        m = wire.UpdateReport.decode(body)
        self._ema(m.ema, m.ven_id)
        return [Reported(m.ema, m.request_id, m)]

    def _margin(self, ema: int, body: bytes) -> list[ServerOutput]:
        margin = wire.PowerMargin.decode(body)
        self._ema(ema)
        return [
            MarginReported(ema, margin),
            _to(ema, wire.Down.POWER_MARGIN_ACK, wire.EmaAck(ema).encode()),
        ]

    def _connected(self, body: bytes) -> list[ServerOutput]:
        ema = wire.Presence.decode(body).ema
        self._ema(ema).connected = True
        return [EmaConnected(ema), _to(ema, wire.Down.CONNECT_ACK, wire.EmaAck(ema).encode())]

    def _disconnected(self, body: bytes) -> list[ServerOutput]:
        ema = wire.Presence.decode(body).ema
        self._ema(ema).connected = False
        return [EmaDisconnected(ema), _to(ema, wire.Down.DISCONNECT_ACK, wire.EmaAck(ema).encode())]

    def _device_connect(self, body: bytes) -> list[ServerOutput]:
        device = self._device(body)
        return [DeviceConnected(device.ema, device)]

    def _device_disconnect(self, body: bytes) -> list[ServerOutput]:
        device = self._device(body)
        return [DeviceDisconnected(device.ema, device)]

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

    # What goes out

    def distribute(self, ema: int, event: wire.DistributeEvent) -> list[wire.Send]:
        """Push an event to one EMA (unicast)."""
        pushed = changed(event, pulled=False, target=event.target or self._ven(ema))
        return [_to(ema, wire.Down.PUSHED_EVENT, pushed.encode(self.zone))]

    def multicast(self, emas: Iterable[int], event: wire.DistributeEvent) -> list[wire.Send]:
        """Push an event to several EMAs: one message each."""
        return [send for ema in emas for send in self.distribute(ema, event)]

    def broadcast(self, event: wire.DistributeEvent) -> list[wire.Send]:
        """Push an event to every EMA by one message."""
        return [wire.Send(wire.PUSH_ALL, changed(event, pulled=False).encode(self.zone))]

    def answer_poll(
        self, ema: int, event: wire.DistributeEvent | None = None, want_report: bool = False
    ) -> list[wire.Send]:
        """Answer one ``Polled``: with the oldest event that this EMA has not answered, or without one.

        ``want_report``: ask it for a report (mode 3); with an event waiting the next poll without one asks.
        """
        session = self._emas.get(ema) or EmaSession(self._ven(ema))
        session.report_wanted = session.report_wanted or want_report
        if event is not None:
            pulled = changed(event, pulled=True, target=event.target or session.ven_id)
            return [_to(ema, wire.Down.PULLED_EVENT, pulled.encode(self.zone))]
        service = wire.REPORT_WANTED if session.report_wanted else ""
        session.report_wanted = False
        return [_to(ema, wire.Down.POLL_RESPONSE, wire.Response(session.ven_id, 200, service).encode())]

    def acknowledge_report(self, ema: int, request_id: int) -> list[wire.Send]:
        """Only after the report is stored durably: the EMA deletes it on this answer. A double is acknowledged too."""
        return [_to(ema, wire.Down.UPDATED_REPORT, wire.UpdatedReport(self._ven(ema), request_id).encode())]

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> list[wire.Send]:
        """Only after a ``DeviceConnected`` or ``DeviceDisconnected`` is stored durably; the EMA waits for it."""
        what = wire.DeviceDown.CONNECT_ACK if connected else wire.DeviceDown.DISCONNECT_ACK
        return [wire.Send(wire.device_down(ema, device, what), wire.DeviceAck(ema, device).encode())]

    def answer_rdr(self, ema: int, number: int, granted: bool, description: str = "") -> list[wire.Send]:
        """Grant or refuse the power that a device asked back; ``description`` empty: the lab's "OK", our "Deny"."""
        answer = wire.RdrResponse(number, granted, self._ems, description)
        return [_to(ema, wire.Down.RDR_RESPONSE, answer.encode())]

    def control(self, ema: int, device: int, on: bool) -> list[wire.Send]:
        """Switch a device."""
        return [wire.Send(wire.device_down(ema, device, wire.DeviceDown.CONTROL), wire.Control(on).encode())]

    def dim(self, ema: int, device: int, up: bool) -> list[wire.Send]:
        """One dimming step up or down. Relative: never send it again on a doubt."""
        return [wire.Send(wire.device_down(ema, device, wire.DeviceDown.DIMMING), wire.Dimming(up).encode())]

    def _ven(self, ema: int) -> str:
        session = self._emas.get(ema)
        return session.ven_id if session is not None else f"MIR_VEN{ema}"
