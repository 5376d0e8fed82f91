"""The records on their way to the EMS: in order, several at once, removed by the EMS's own answers alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.links.mir2017.messages import request_id
from gateway.site.report import DeviceNotice, NoticeKind, Record, SiteReport
from gateway.upstream.base import OutboxReader


@dataclass(slots=True)
class Flight:
    """One record that was sent on this connection. ``answerable``: the wire has an answer to it."""

    record: Record
    answerable: bool
    done: bool = False


class Window:
    """What was sent and is not acknowledged, in the outbox's order.

    The outbox's cursor moves over what is done without a gap. A changed device has no answer on the wire: it counts
    as delivered once something sent after it on the same connection is acknowledged.
    """

    def __init__(self, outbox: OutboxReader) -> None:
        self.acknowledged = 0
        self._outbox = outbox
        self._flights: deque[Flight] = deque()
        self._last: tuple[int, int] | None = None

    def restart(self) -> None:
        """A new session: all that is not acknowledged is sent again."""
        self._flights.clear()
        self._last = None

    @property
    def waiting(self) -> int:
        """How many answers are missing."""
        return sum(flight.answerable and not flight.done for flight in self._flights)

    @property
    def reporting(self) -> bool:
        """Is a report among what is under way."""
        return any(isinstance(flight.record.body, SiteReport) for flight in self._flights)

    def take(self, room: int) -> list[Record]:
        """Up to ``room`` more records to be sent now; empty when the outbox has no more."""
        records = self._outbox.unacknowledged(self._last, room)
        for record in records:
            changed = isinstance(record.body, DeviceNotice) and record.body.kind is NoticeKind.CHANGED
            self._flights.append(Flight(record, not changed))
            self._last = (record.boot, record.seq)
        return records

    def again(self) -> list[Record]:
        """What is to be sent again, in order."""
        return [flight.record for flight in self._flights if not flight.done]

    def report_acknowledged(self, number: int) -> bool:
        """The report of that RequestID is at the EMS. False when it is not under way."""
        for flight in self._flights:
            record = flight.record
            if isinstance(record.body, SiteReport) and request_id(record.boot, record.seq) == number:
                return self._done(flight)
        return False

    def device_acknowledged(self, number: int, connected: bool) -> bool:
        """The EMS knows that this device came or went: the oldest notice of it."""
        kind = NoticeKind.CONNECTED if connected else NoticeKind.DISCONNECTED
        for flight in self._flights:
            body = flight.record.body
            if flight.done or not isinstance(body, DeviceNotice):
                continue
            if body.kind is kind and body.device.number == number:
                return self._done(flight)
        return False

    def _done(self, acknowledged: Flight) -> bool:
        if acknowledged.done:
            return False
        acknowledged.done = True
        for flight in self._flights:
            if flight is acknowledged:
                break
            if not flight.answerable:
                flight.done = True
        last: Record | None = None
        while self._flights and self._flights[0].done:
            last = self._flights.popleft().record
            self.acknowledged += 1
        if last is not None:
            self._outbox.acknowledge(last.boot, last.seq)
        return True
