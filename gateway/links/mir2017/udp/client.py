"""The EMA's end of the UDP link, sans-I/O, driven like ``links.mir2017.client``: reports out, event lines in.

Nothing is answered on this wire. So each ``Said`` carries what counts as happened once its datagram left: a report is
done when it was sent. Cannot do: notice that the EMS is gone, ask for power (RDR), say that a device came or went
(explicit reports show it), tell an old event line that comes late from a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client import Step
from gateway.links.mir2017.client_happenings import (
    ClientHappening,
    ClientOutput,
    DeviceAcknowledged,
    EventAcknowledged,
    EventReceived,
    RdrAnswered,
    Refused,
    ReportAcknowledged,
    SessionUp,
)
from gateway.links.mir2017.udp import messages as udp
from gateway.links.mir2017.udp.ends import Dropped, EmaEnd
from gateway.record import record

# Events whose line is remembered; of older ones the site knows the last modification.
MOST_EVENTS = 1000
NO_RDR = "over UDP nothing can be asked"


@record
class Said(wire.Send):
    """One datagram, or none where ``body`` is empty. ``then``: what counts as happened once it left."""

    then: ClientHappening | None = None


class UdpClient:
    """One EMA that tells an EMS how it is, and is pushed events.

    Send each ``Said`` in order and hand its ``then`` back; hand every datagram to ``received``. ``opted``: the
    modification of an event that was answered in an earlier start (None: never), so that a line after a restart counts
    on from there.
    """

    echoes = False  # one report at a time: nothing but its pace keeps a burst from being lost

    def __init__(self, ema: int, zone: tzinfo | None, opted: Callable[[int], int | None]) -> None:
        self.ema = ema
        self.step = Step.DOWN
        self.refused = 0
        self.stale = 0
        self._zone = zone
        self._end = EmaEnd(ema, zone)
        self._opted = opted
        self._events: dict[int, tuple[float, int, int]] = {}  # end, value, modification

    @property
    def up(self) -> bool:
        return self.step is Step.UP

    # What goes out

    def connected(self) -> list[ClientOutput]:
        """There is no set-up."""
        self.step = Step.UP
        return [_only(SessionUp(wire.DURATION_MS))]

    def disconnected(self) -> None:
        self.step = Step.DOWN

    def farewell(self) -> list[wire.Send]:
        return []

    def poll(self) -> list[wire.Send]:
        return []

    def report(self, report: wire.UpdateReport) -> list[wire.Send]:
        """The site's line, and one a device in an explicit report. A power that is not known can only be 0 there."""
        at = (report.time_ms or 0) / 1000
        lines = [udp.EiUpdate(at, report.power or 0, None, self.ema, report.threshold, report.margin)]
        lines += [
            udp.EiUpdate(at, d.watt or 0, d.device, self.ema, on=d.on, dimming=d.dimming, priority=d.priority)
            for d in report.devices or ()
        ]
        bodies = [line.encode(self._zone) for line in lines]
        done = ReportAcknowledged(report.request_id)
        return [*(Said("EiUpdate", body) for body in bodies[:-1]), Said("EiUpdate", bodies[-1], then=done)]

    def margin(self, margin: wire.PowerMargin) -> list[wire.Send]:
        """Nothing: the reports say it."""
        return []

    def created_event(self, event_id: int, request_id: int, opt_in: bool) -> list[wire.Send]:
        return [_only(EventAcknowledged(event_id))]

    def rdr(self, number: int, watts: int) -> list[wire.Send]:
        return [_only(RdrAnswered(number, False, NO_RDR))]

    def device_connect(self, device: wire.DeviceText) -> list[wire.Send]:
        return [_only(DeviceAcknowledged(device.device, True))]

    def device_disconnect(self, device: wire.DeviceText) -> list[wire.Send]:
        return [_only(DeviceAcknowledged(device.device, False))]

    def device_info(self, device: wire.DeviceText) -> list[wire.Send]:
        return []

    # What comes in

    def received(self, body: bytes) -> list[ClientOutput]:
        """One datagram of the EMS. Never raises: what is no event line is counted and one ``Refused``."""
        line = self._end.received(body)
        if isinstance(line, Dropped):
            self.refused += 1
            return [Refused("datagram", line.reason)]
        number = round(line.start // 60)  # the line has none; its times are whole minutes
        event = wire.DistributeEvent(
            event_id=number,
            modification=self._modification(number, line),
            start=line.start,
            end=line.end,
            value=line.value,
            request_id=0,
        )
        return [EventReceived(event)]

    def _modification(self, number: int, line: udp.EventLine) -> int:
        """Counted up when end or value change; the line itself is sent several times."""
        known = self._events.pop(number, None)
        if known is not None and known[:2] == (line.end, line.value):
            modification = known[2]
        else:
            before = known[2] if known is not None else self._opted(number)
            modification = 0 if before is None else before + 1
        self._events[number] = (line.end, line.value, modification)
        while len(self._events) > MOST_EVENTS:
            del self._events[next(iter(self._events))]
        return modification


def _only(then: ClientHappening) -> Said:
    return Said("", b"", then=then)
