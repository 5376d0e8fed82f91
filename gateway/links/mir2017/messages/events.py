"""DR events and the answer to them (wire reference, section 2)."""

from __future__ import annotations

from datetime import tzinfo
from typing import ClassVar, Self

from gateway.links.mir2017.messages.fields import LARGEST_WATTS, Fields, ema_name, read_json, write_json
from gateway.links.mir2017.messages.times import Span, read_span, write_span
from gateway.links.mir2017.messages.topics import Up
from gateway.record import record

PULLED = "oadrDistributeEvent"
PUSHED = "DistributeEvent"
OPT_IN = "optIn"
OPT_OUT = "optOut"
MOST_MODIFICATION = 2**31 - 1


@record
class DistributeEvent:
    """Hold ``value`` W from ``start`` to ``end`` (wall seconds; on the wire whole minutes of the zone).

    ``pulled``: the answer to a poll on ``gw/<n>/drevent/oadrDistributeEvent``, with ``Response:2`` (*sic*); else
    pushed on ``gw/<n>/oadr/DistributeEvent`` or ``gw/pushall/DistributeEvent``, with ``Response:200``.
    The same ``event_id`` with a higher ``modification`` changes; with End = Start it cancels.
    """

    event_id: int
    modification: int
    start: float
    end: float
    value: int
    request_id: int = 1
    target: str = ""
    pulled: bool = False
    description: str = "OK"

    @property
    def cancelled(self) -> bool:
        return self.end <= self.start

    def encode(self, zone: tzinfo | None) -> bytes:
        """``zone`` None: this machine's."""
        span = write_span(self.start, self.end, zone)
        return write_json(
            {
                "Service": PULLED if self.pulled else PUSHED,
                "StartYMD": span.start_day,
                "StartTime": span.start_minute,
                "EndYMD": span.end_day,
                "EndTime": span.end_minute,
                "Value": self.value,
                "Response": 2 if self.pulled else 200,
                "RequestID": self.request_id,
                "EventID": self.event_id,
                "ModificationNumber": self.modification,
                "TargetVEN": self.target,
                "Responsedescription": self.description,
                "OptType": OPT_IN,
            }
        )

    @classmethod
    def decode(cls, body: bytes, zone: tzinfo | None) -> Self:
        """Raise ``PeerError``. An end before its start is an error, not a cancel."""
        f = read_json(body, cls.__name__)
        service = f.text("Service")
        if service not in (PULLED, PUSHED):
            raise f.wrong("Service", f"{PULLED} or {PUSHED}")
        span = Span(
            _digits(f, "StartYMD", 8), _digits(f, "StartTime", 4), _digits(f, "EndYMD", 8), _digits(f, "EndTime", 4)
        )
        start, end = read_span(span, zone)
        return cls(
            event_id=f.whole("EventID"),
            modification=f.whole("ModificationNumber", 0, MOST_MODIFICATION),
            start=start,
            end=end,
            value=f.whole("Value", 0, LARGEST_WATTS),
            request_id=f.whole("RequestID"),
            target=f.text_or("TargetVEN", ""),
            pulled=service == PULLED,
            description=f.text_or("Responsedescription", ""),
        )


def _digits(f: Fields, key: str, width: int) -> str:
    """Text, or a number whose leading zeros JSON could not keep."""
    value = f.scalar(key)
    if isinstance(value, str):
        return value
    return str(f.whole(key, 0, 10**width - 1)).rjust(width, "0")


@record
class CreatedEvent:
    """``EMS/oadrPoll/CreatedEvent``: the opt answer; ``request_id`` is the event's own."""

    topic: ClassVar[str] = Up.CREATED_EVENT

    ema: int
    ven_id: str
    event_id: int
    request_id: int
    opt_in: bool

    def encode(self) -> bytes:
        return write_json(
            {
                "GW": ema_name(self.ema),
                "VENID": self.ven_id,
                "EventID": self.event_id,
                "RequestID": self.request_id,
                "OptType": OPT_IN if self.opt_in else OPT_OUT,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        opt = f.text("OptType")
        if opt not in (OPT_IN, OPT_OUT):
            raise f.wrong("OptType", f"{OPT_IN} or {OPT_OUT}")
        return cls(f.ema("GW"), f.text("VENID"), f.whole("EventID"), f.whole("RequestID"), opt == OPT_IN)
