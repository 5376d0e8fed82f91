"""What an EMS says, sans-I/O: the half of ``Server`` that turns what is to be told into messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo

from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.messages.budget import Budget, BudgetMessage
from gateway.links.mir2017.messages.negotiation import LabAnswer, Negotiation
from gateway.record import changed

LONGEST_REASON = 200


def to(ema: int, what: wire.Down, body: bytes) -> wire.Send:
    """A message for one EMA."""
    return wire.Send(wire.down(ema, what), body)


@dataclass(slots=True)
class EmaSession:
    """What this end knows of one EMA. ``report_wanted``: its next poll without an event asks for a report."""

    ven_id: str
    registered: bool = False
    connected: bool = False
    report_wanted: bool = False


class Says:
    """Publish each ``Send``, in order."""

    def __init__(self, zone: tzinfo | None, ems_name: str) -> None:
        self.zone = zone
        self._ems = ems_name
        self._emas: dict[int, EmaSession] = {}

    def distribute(self, ema: int, event: wire.DistributeEvent) -> list[wire.Send]:
        """Push an event to one EMA (unicast)."""
        pushed = changed(event, pulled=False, target=event.target or self._ven(ema))
        return [to(ema, wire.Down.PUSHED_EVENT, pushed.encode(self.zone))]

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
            return [to(ema, wire.Down.PULLED_EVENT, pulled.encode(self.zone))]
        service = wire.REPORT_WANTED if session.report_wanted else ""
        session.report_wanted = False
        return [to(ema, wire.Down.POLL_RESPONSE, wire.Response(session.ven_id, 200, service).encode())]

    def acknowledge_report(self, ema: int, request_id: int) -> list[wire.Send]:
        """Only after the report is stored durably: the EMA deletes it on this answer. A double is acknowledged too."""
        return [to(ema, wire.Down.UPDATED_REPORT, wire.UpdatedReport(self._ven(ema), request_id).encode())]

    def refuse_report(self, ema: int, request_id: int, code: int, reason: str) -> list[wire.Send]:
        """``code`` 4xx: it will never be taken, the EMA drops it; 5xx: not now, the EMA sends it again."""
        said = reason if reason.isprintable() else ascii(reason)
        answer = wire.UpdatedReport(self._ven(ema), request_id, code, said[:LONGEST_REASON])
        return [to(ema, wire.Down.UPDATED_REPORT, answer.encode())]

    def acknowledge_opt(self, ema: int, code: int = 200) -> list[wire.Send]:
        """Only after an ``EventAnswered`` is stored durably; 4xx: it will never be taken."""
        return [to(ema, wire.Down.EVENT_RESPONSE, wire.Response(self._ven(ema), code).encode())]

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> list[wire.Send]:
        """Only after a ``DeviceConnected`` or ``DeviceDisconnected`` is stored durably; the EMA waits for it."""
        what = wire.DeviceDown.CONNECT_ACK if connected else wire.DeviceDown.DISCONNECT_ACK
        return [wire.Send(wire.device_down(ema, device, what), wire.DeviceAck(ema, device).encode())]

    def answer_rdr(self, ema: int, number: int, granted: bool, description: str = "") -> list[wire.Send]:
        """Grant or refuse the power that a device asked back; ``description`` empty: the lab's "OK", our "Deny"."""
        answer = wire.RdrResponse(number, granted, self._ems, description)
        return [to(ema, wire.Down.RDR_RESPONSE, answer.encode())]

    def negotiate(self, ema: int, message: Negotiation | LabAnswer) -> list[wire.Send]:
        """A word of the coordinator of negotiations to a member."""
        return [to(ema, wire.Down.NEGOTIATED, message.encode())]

    def tell_prices(self, ema: int, budgets: tuple[Budget, ...]) -> list[wire.Send]:
        """Prices that changed, while a session stands. Absolute: what is lost is said with the next set-up."""
        return [to(ema, wire.Down.BUDGET, BudgetMessage(self._ven(ema), budgets).encode())]

    def control(self, ema: int, device: int, on: bool) -> list[wire.Send]:
        """Switch a device."""
        return [wire.Send(wire.device_down(ema, device, wire.DeviceDown.CONTROL), wire.Control(on).encode())]

    def dim(self, ema: int, device: int, up: bool) -> list[wire.Send]:
        """One dimming step up or down. Relative: never send it again on a doubt."""
        return [wire.Send(wire.device_down(ema, device, wire.DeviceDown.DIMMING), wire.Dimming(up).encode())]

    def _ven(self, ema: int) -> str:
        session = self._emas.get(ema)
        return session.ven_id if session is not None else f"MIR_VEN{ema}"
