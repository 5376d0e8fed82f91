"""DR events, prices, and the answer to them (wire reference, sections 7 and 8)."""

from __future__ import annotations

import math
from datetime import tzinfo
from enum import StrEnum
from typing import ClassVar, Self

from gateway.errors import PeerError
from gateway.links.emap1b.messages.head import Answer, Message, read_head, read_response, text_of
from gateway.links.emap1b.messages.names import Channel
from gateway.links.emap1b.messages.times import (
    LATEST_MS,
    duration_text,
    number_of,
    read_duration,
    read_time,
    start_text,
)
from gateway.links.mir2017.messages.events import MOST_MODIFICATION, OPT_IN, OPT_OUT
from gateway.links.mir2017.messages.events import DistributeEvent as Limit
from gateway.links.mir2017.messages.fields import LARGEST_WATTS, Fields, shown
from gateway.record import record

MOST_EVENTS = 100
MOST_SIGNALS = 10
# A day of quarter hours.
MOST_INTERVALS = 96
CONTROL_NAME, CONTROL_TYPE = "Distribute", "Event"
PRICE_TYPE = "Price"
# Of the price: what it is paid for.
UNIT = "KW"
CANCELLED = ("cancelled", "canceled")

Number = int | float


class Budget(StrEnum):
    """The budget messages: signals that say a price and bind nobody."""

    INITIAL = "Initial"
    INCENTIVE = "Incentive"
    NEGOTIATION = "Negotiation"


@record
class Interval:
    """``duration`` ISO 8601; ``value`` in W for a control signal."""

    duration: str
    uid: str
    value: Number


@record
class Signal:
    """``current``, ``threshold``, ``capacity`` in W; ``price`` a ``unit``, 0: none."""

    name: str = CONTROL_NAME
    type: str = CONTROL_TYPE
    id: str = ""
    current: Number = 0
    threshold: Number | None = None
    capacity: Number = 0
    price: Number = 0
    unit: str = UNIT
    intervals: tuple[Interval, ...] = ()

    @property
    def is_budget(self) -> bool:
        """Does it say a price only."""
        return bool(self.budget)

    @property
    def budget(self) -> str:
        """Which price it is, of ``Budget``; empty for a control signal. A price of no other name is the initial one."""
        if self.name in tuple(Budget):
            return self.name
        return Budget.INITIAL if PRICE_TYPE in self.type else ""

    def keys(self) -> dict[str, object]:
        return {
            "intervals": [{"duration": i.duration, "uid": i.uid, "value": i.value} for i in self.intervals],
            "signalName": self.name,
            "signalType": self.type,
            "signalID": self.id,
            "currentValue": self.current,
            "threshold": self.threshold,
            "capacity": self.capacity,
            "price": self.price,
            "unit": self.unit,
        }

    @classmethod
    def read(cls, f: Fields) -> Self:
        intervals = f.objects("intervals", MOST_INTERVALS) if f.given("intervals") else []
        return cls(
            name=f.text_or("signalName", ""),
            type=f.text_or("signalType", ""),
            id=text_of(f, "signalID", ""),
            current=f.number_or_none("currentValue") or 0,
            threshold=f.number_or_none("threshold"),
            capacity=f.number_or_none("capacity") or 0,
            price=f.number_or_none("price") or 0,
            unit=f.text_or("unit", ""),
            intervals=tuple(
                Interval(text_of(i, "duration", ""), text_of(i, "uid", ""), i.number("value")) for i in intervals
            ),
        )


@record
class Event:
    """``start`` is ``dtStart`` as it stands there, empty: not given; ``duration`` ISO 8601, of zero: cancelled.

    The same ``event_id`` with a higher ``modification`` changes.
    """

    event_id: str
    modification: int
    start: str
    duration: str
    signals: tuple[Signal, ...]
    status: str = ""

    @classmethod
    def of(cls, limit: Limit) -> Self:
        """The event that holds a limit; a start is rounded down to the second, an end up."""
        begin = math.floor(limit.start)
        lasts = duration_text(0 if limit.cancelled else (math.ceil(limit.end) - begin) * 1000)
        number = str(limit.event_id)
        signal = Signal(id=number, threshold=limit.value, intervals=(Interval(lasts, "0", limit.value),))
        return cls(number, limit.modification, start_text(begin), lasts, (signal,))

    def limit(self, signal: Signal, zone: tzinfo | None, said: float, request_id: int) -> Limit:
        """What it asks for. ``zone``: of a start without an offset; ``said``: wall seconds of the message, where an
        event without a start begins. Raise ``PeerError``."""
        name = f"DistributeEvent event {shown(self.event_id)}"
        watts = signal.threshold
        if watts is None and signal.intervals:
            watts = signal.intervals[0].value
        if watts is None or not 0 <= watts <= LARGEST_WATTS:
            raise PeerError(f"{name} threshold: {shown(watts)} is not from 0 to {LARGEST_WATTS} W")
        begin = read_time(self.start, zone) if self.start else round(said * 1000)
        if begin is None:
            raise PeerError(f"{name} dtStart: {shown(self.start)} is not a time such as 2017-10-17T01:57:00Z")
        if self.duration:
            lasts = read_duration(self.duration, f"{name} duration")
        else:
            lasts = sum(read_duration(i.duration, f"{name} intervals duration") for i in signal.intervals)
        if self.status.lower() in CANCELLED:
            lasts = 0
        end = min(begin + lasts, LATEST_MS)
        return Limit(
            event_id=number_of(self.event_id),
            modification=self.modification,
            start=begin / 1000,
            end=end / 1000,
            value=math.floor(watts),
            request_id=request_id,
        )

    def keys(self) -> dict[str, object]:
        keys: dict[str, object] = {
            "eventID": self.event_id,
            "modificationNumber": self.modification,
            "dtStart": self.start,
            "duration": self.duration,
            "eventSignals": [signal.keys() for signal in self.signals],
        }
        return {**keys, "eventStatus": self.status} if self.status else keys

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(
            event_id=text_of(f, "eventID", ""),
            modification=f.whole_or("modificationNumber", 0, 0, MOST_MODIFICATION) or 0,
            start=f.text_or("dtStart", ""),
            duration=f.text_or("duration", ""),
            signals=tuple(Signal.read(signal) for signal in f.objects("eventSignals", MOST_SIGNALS)),
            status=f.text_or("eventStatus", ""),
        )


@record
class DistributeEvent(Message):
    """Answers a poll, ``code`` 200 then; pushed it is no answer, ``code`` None. Its own requestID in both cases, which
    CreatedEvent repeats."""

    service: ClassVar[str] = "DistributeEvent"
    channel: ClassVar[Channel] = Channel.EVENT

    events: tuple[Event, ...] = ()
    code: int | None = None
    description: str = ""

    def rest(self) -> dict[str, object]:
        events: dict[str, object] = {"event": [event.keys() for event in self.events]}
        if self.code is None:
            return events
        return {"responseCode": self.code, "responseDescription": self.description, **events}

    @classmethod
    def read(cls, f: Fields) -> Self:
        events = tuple(Event.read(event) for event in f.objects("event", MOST_EVENTS))
        if f.given("responseCode"):
            return cls(*read_head(f), events, *read_response(f))
        return cls(*read_head(f), events)


@record
class CreatedEvent(Answer):
    """The opt answer to one event, with the requestID of its DistributeEvent."""

    service: ClassVar[str] = "CreatedEvent"
    channel: ClassVar[Channel] = Channel.EVENT

    opt_in: bool = True
    event_id: str = ""
    modification: int = 0

    def rest(self) -> dict[str, object]:
        return {
            "optType": OPT_IN if self.opt_in else OPT_OUT,
            "eventID": self.event_id,
            "modificationNumber": self.modification,
        }

    @classmethod
    def read(cls, f: Fields) -> Self:
        opt = f.text("optType")
        if opt not in (OPT_IN, OPT_OUT):
            raise f.wrong("optType", f"{OPT_IN} or {OPT_OUT}")
        return cls(
            *read_head(f),
            *read_response(f),
            opt == OPT_IN,
            text_of(f, "eventID"),
            f.whole("modificationNumber", 0, MOST_MODIFICATION),
        )
