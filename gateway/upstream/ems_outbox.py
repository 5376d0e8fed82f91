"""The records on their way to the EMS: in order, several at once, removed by the EMS's own answers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.links.mir2017.messages import split_request_id
from gateway.record import slim
from gateway.site.report import DeviceNotice, NoticeKind, Record, SiteReport

if TYPE_CHECKING:
    from gateway.upstream.base import OutboxReader

# Notices that wait for their answer at once; those of a large site that starts go together. They have room of their
# own: an EMS that answers none of them gets its reports.
MOST_NOTICES = 256
# Sent so often, and each time the EMS answered what came after it: it will not answer this one.
MOST_PASSED = 6

Place = tuple[int, int]


@slim(slots=True)
class Flight:
    """One record that was sent on this connection.

    ``before``: what stands right before it (None: it is the first). ``passed``: how often what was sent after it was
    answered, and it was not. ``postponed``: the EMS has answered that it cannot take it now.
    """

    record: Record
    before: Place | None
    passed: int = 0
    postponed: bool = False


class Lane:
    """What is under way of one kind and has an answer: the reports, or the devices that came and went."""

    def __init__(self) -> None:
        self.open: dict[Place, Flight] = {}
        self._newest: Place = (0, 0)  # answered since the last try, of either kind

    def clear(self) -> None:
        self.open.clear()
        self._newest = (0, 0)

    @property
    def oldest(self) -> Place | None:
        return next(iter(self.open), None)

    @property
    def passing(self) -> bool:
        """Since the last try the EMS has answered something that was sent after the oldest."""
        oldest = self.oldest
        return oldest is not None and oldest < self._newest

    @property
    def postponed(self) -> bool:
        """Is there one that the EMS cannot take now."""
        return any(flight.postponed for flight in self.open.values())

    def answered(self, place: Place) -> None:
        """The EMS answered what was sent at that place."""
        self._newest = max(self._newest, place)

    def given_up(self) -> list[Place]:
        """Before a next try: what the EMS passes over for ever."""
        found = []
        for place, flight in self.open.items():
            if place >= self._newest:
                break
            flight.passed += not flight.postponed
            if flight.passed >= MOST_PASSED:
                found.append(place)
        self._newest = (0, 0)
        return found


class Window:
    """What was sent and is not acknowledged, in the outbox's order.

    The outbox's cursor moves over what is done without a gap. A changed device has no answer on the wire: it counts
    as delivered once something sent after it on the same connection is acknowledged.
    """

    def __init__(self, outbox: OutboxReader) -> None:
        self.acknowledged = 0
        self.reports = Lane()
        self.notices = Lane()
        self.drained = False  # the last look found nothing more in the outbox
        self._changed: dict[Place, Flight] = {}
        self._outbox = outbox
        self._last: Place | None = None
        self._cursor: Place | None = None

    def restart(self) -> None:
        """A new session: all that is not acknowledged is sent again."""
        self.reports.clear()
        self.notices.clear()
        self._changed.clear()
        self._last = self._cursor = None

    @property
    def waiting(self) -> int:
        """How many answers are missing."""
        return len(self.reports.open) + len(self.notices.open)

    def take(self, most_reports: int) -> list[Record]:
        """The next to be sent now: none when so many reports, or too many notices, are under way."""
        self.drained = False
        room = most_reports - len(self.reports.open)
        if room <= 0 or len(self.notices.open) >= MOST_NOTICES:
            return []
        records = self._outbox.unacknowledged(self._last, room)
        self.drained = not records
        for record in records:
            place = record.boot, record.seq
            self._of(record)[place] = Flight(record, self._last)
            self._last = place
        return records

    def again(self, lane: Lane) -> list[Record]:
        """What of this kind is to be sent again, in order; changed devices go with the reports."""
        open_ = lane.open if lane is self.notices else dict(sorted((lane.open | self._changed).items()))
        return [flight.record for flight in open_.values()]

    def give_up(self, lane: Lane) -> list[Record]:
        """Before ``again``: what the EMS will not answer is taken out, and the cursor moves over it."""
        given_up = [lane.open.pop(place).record for place in lane.given_up()]
        if given_up:
            self._move()
        return given_up

    def report_acknowledged(self, number: int) -> bool:
        """The report of that RequestID is at the EMS. False when it is not under way."""
        place = self._report(number)
        return place is not None and self._done(place, self.reports)

    def report_rejected(self, number: int) -> Record | None:
        """The report of that RequestID, which the EMS will not take, is taken out (None: it is not under way)."""
        place = self._report(number)
        if place is None:
            return None
        record = self.reports.open.pop(place).record
        self._heard(place)
        self._move()
        return record

    def report_postponed(self, number: int) -> bool:
        """The EMS has answered, and the report stays under way. False when it is not."""
        place = self._report(number)
        if place is not None:
            self.reports.open[place].postponed = True
            self._heard(place)
        return place is not None

    def device_acknowledged(self, number: int, connected: bool) -> bool:
        """The EMS knows that this device came or went: the oldest notice of it. One before that says the contrary
        need not be known any more, and must not be said after it."""
        kind = NoticeKind.CONNECTED if connected else NoticeKind.DISCONNECTED
        over: list[Place] = []
        for place, flight in self.notices.open.items():
            body = flight.record.body
            if not isinstance(body, DeviceNotice) or body.device.number != number:
                continue
            if body.kind is kind:
                for past in over:
                    del self.notices.open[past]
                self.acknowledged += len(over)
                return self._done(place, self.notices)
            over.append(place)
        return False

    def _of(self, record: Record) -> dict[Place, Flight]:
        if isinstance(record.body, SiteReport):
            return self.reports.open
        return self._changed if record.body.kind is NoticeKind.CHANGED else self.notices.open

    def _report(self, number: int) -> Place | None:
        place = split_request_id(number)
        return place if place in self.reports.open else None

    def _done(self, place: Place, lane: Lane) -> bool:
        del lane.open[place]
        self.acknowledged += 1
        self._heard(place)
        self._move()
        return True

    def _heard(self, place: Place) -> None:
        """The EMS is through with everything up to there that has no answer."""
        self.reports.answered(place)
        self.notices.answered(place)
        while (first := next(iter(self._changed), None)) is not None and first < place:
            del self._changed[first]
            self.acknowledged += 1

    def _move(self) -> None:
        """The outbox's cursor, up to what is before the oldest under way."""
        firsts = [next(iter(open_.items()), None) for open_ in (self.reports.open, self.notices.open, self._changed)]
        oldest = min((first for first in firsts if first is not None), default=None, key=lambda first: first[0])
        upto = self._last if oldest is None else oldest[1].before
        if upto is not None and upto != self._cursor:
            self._cursor = upto
            self._outbox.acknowledge(*upto)
