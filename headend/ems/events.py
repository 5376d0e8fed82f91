"""DR events: made, changed, cancelled, and brought to every EMA that is meant, until it answered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from gateway.clock import EARLIEST_TRUSTED_WALL
from headend.ems.book import EVENT_MEMORY_S, Book, check_watts
from headend.ems.errors import Conflict, Refused, Unknown
from headend.ems.head import EventBody, Head
from headend.ems.state import Delivery, Ema, Event, Mode

EVERYONE = "all"
# The wire's times are whole minutes: what is stored and shown is what the EMAs hold.
MINUTE = 60.0
# A page that plans further ahead has mistyped a year.
LONGEST_EVENT_S = 31 * 86_400.0
FURTHEST_START_S = 366 * 86_400.0
# An EMA that polled within so many of the intervals asked for gets its events with its polls.
POLLS_MISSED = 5
# Modifications of one event; RequestIDs on the wire are made of both numbers.
MOST_MODIFICATIONS = 4095
LONGEST_WAIT_S = 60.0


class EventDesk:
    """Keeps the events of a ``Book`` on their way."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._last = 0
        self._polled: dict[str, float] = {}
        self._one_at_a_time = asyncio.Lock()

    def load(self, last_event: int) -> None:
        """Ids go on after ``last_event``; what was not answered is due when its EMA is heard of."""
        self._last = last_event

    def _next_id(self) -> int:
        """Seconds since 2025, or one more than the last: EMAs remember ids, so none is used twice, not even by a
        database that was erased, pruned or restored from an older copy."""
        now = self._book.clock.now()
        self._last = max(self._last + 1, int(now.wall - EARLIEST_TRUSTED_WALL) if now.trusted else 0)
        return self._last

    # What an operator does

    async def create(
        self, value_w: float, start: float, end: float, targets: Sequence[str] | str, by: str = "ems"
    ) -> Event:
        """A new event for EMAs (``["gw/1"]``) or ``"all"``; returned after it is on disk and was sent.

        Times in wall seconds; a start is rounded down to the minute, an end up. Raise ``Refused``.
        """
        book = self._book
        check_watts("value_w", value_w)
        start, end = self._span(start, end)
        everyone = targets == EVERYONE
        names = self._names(targets)
        now = book.wall
        event = Event(self._next_id(), 0, start, end, float(round(value_w)), everyone, False, now, by, now, end)
        event.deliveries = {name: Delivery(name) for name in names}
        await book.store.save_now(event)
        for name in book.emas if everyone else ():  # who came while it was written
            event.deliveries.setdefault(name, Delivery(name))
        book.events[event.id] = event
        self._send_new(event)
        return event

    async def change(
        self,
        event_id: int,
        value_w: float | None = None,
        start: float | None = None,
        end: float | None = None,
        targets: Sequence[str] | str | None = None,
    ) -> Event:
        """The same event with a higher modification. Raise ``Refused``, ``Unknown`` or ``Conflict``."""
        async with self._one_at_a_time:
            event = self._open(event_id)
            watts = event.value_w if value_w is None else float(round(check_watts("value_w", value_w)))
            first, last = event.start, event.end
            if start is not None or end is not None:
                first, last = self._span(event.start if start is None else start, event.end if end is None else end)
            planned = max(last, event.planned_end)
            new = self._next_form(event, value_w=watts, start=first, end=last, planned_end=planned)
            if targets is not None:
                names = self._names(targets)
                new.everyone = targets == EVERYONE
                for name in names:
                    new.deliveries.setdefault(name, Delivery(name)).removed = False
                for name, delivery in new.deliveries.items():
                    delivery.removed = name not in names and not new.everyone
            return await self._take(event, new)

    async def cancel(self, event_id: int) -> Event:
        """End = Start: who was told of it is told that it is none. Raise ``Unknown`` or ``Conflict``."""
        async with self._one_at_a_time:
            event = self._open(event_id)
            return await self._take(event, self._next_form(event, cancelled=True))

    def _next_form(self, event: Event, **changes: object) -> Event:
        deliveries = {name: replace(delivery) for name, delivery in event.deliveries.items()}
        more = {"modification": event.modification + 1, "changed_at": self._book.wall, "deliveries": deliveries}
        return replace(event, **{**changes, **more})  # type: ignore[arg-type]

    async def _take(self, event: Event, new: Event) -> Event:
        """To disk, then in force: what cannot be kept did not happen, and nobody is told of it before."""
        await self._book.store.save_now(new)
        for name in ("modification", "start", "end", "value_w", "everyone", "cancelled", "changed_at", "planned_end"):
            setattr(event, name, getattr(new, name))
        for name, delivery in new.deliveries.items():
            event.deliveries.setdefault(name, delivery).removed = delivery.removed
        for delivery in event.deliveries.values():
            delivery.attempts, delivery.due = 0, 0.0
            self._book.dirty((event.id, delivery))
        self._send_new(event)
        return event

    def _open(self, event_id: int) -> Event:
        event = self._book.events.get(event_id)
        if event is None:
            raise Unknown("id", f"event {event_id} is not known, or was over a day ago")
        state = event.state(self._book.wall)
        if state in ("ended", "cancelled"):
            raise Conflict("id", f"event {event_id} is {'over' if state == 'ended' else 'cancelled'} already")
        if event.modification >= MOST_MODIFICATIONS:
            raise Conflict("id", f"event {event_id} was changed {MOST_MODIFICATIONS} times; make a new one")
        return event

    def _span(self, start: float, end: float) -> tuple[float, float]:
        now = self._book.wall
        if not (math.isfinite(start) and math.isfinite(end)):
            raise Refused("start", "start and end have to be times")
        first, last = math.floor(start / MINUTE) * MINUTE, math.ceil(end / MINUTE) * MINUTE
        if end <= start:
            raise Refused("end", "the end is not after the start")
        if end <= now:
            raise Refused("end", "the end is in the past")
        if start > now + FURTHEST_START_S:
            raise Refused("start", "the start is more than a year ahead")
        if end - start > LONGEST_EVENT_S:
            raise Refused("end", "an event lasts 31 days at most")
        return first, last

    def _names(self, targets: Sequence[str] | str) -> list[str]:
        if targets == EVERYONE:
            return list(self._book.emas)
        if isinstance(targets, str) or not targets:
            raise Refused("targets", 'targets are a list of EMAs, such as ["gw/1"], or "all"')
        return [self._book.ema(name, "targets").name for name in dict.fromkeys(targets)]

    # On its way

    def wanted(self, event: Event, delivery: Delivery) -> bool:
        """Has the EMA still to be told the event as it is now."""
        if delivery.answered == event.modification or self._book.wall >= event.planned_end:
            return False
        # Who never heard of it need not hear that it is gone.
        return delivery.sent is not None or not (event.cancelled or delivery.removed)

    def given_up(self, event: Event, delivery: Delivery) -> bool:
        """Sent as often as allowed, and not answered by who could."""
        if not self.wanted(event, delivery) or delivery.attempts < self._book.settings.resend_most:
            return False
        ema = self._book.emas.get(delivery.ema)
        head = self._book.heads.get(ema.protocol) if ema is not None else None
        return head is None or head.answers

    @staticmethod
    def body(event: Event, delivery: Delivery | None) -> EventBody:
        """What the EMA is told: cancelled for those who are not meant any more."""
        gone = event.cancelled or (delivery is not None and delivery.removed)
        return EventBody(event.id, event.modification, event.start, event.start if gone else event.end, event.value_w)

    def polls(self, ema: Ema) -> bool:
        """Does it fetch its events, so that none is pushed to it."""
        if ema.mode is not Mode.AUTO:
            return ema.mode is Mode.POLL
        at = self._polled.get(ema.name)
        interval = self._book.settings.duration_ms / 1000
        return at is not None and self._book.clock.monotonic() - at <= POLLS_MISSED * interval

    def forget_polls(self, name: str) -> None:
        """A new session: whether it polls is seen anew."""
        self._polled.pop(name, None)

    def _send_new(self, event: Event) -> None:
        """To all that can be reached now: by one message when everybody is meant and nobody is left out."""
        book = self._book
        for name in book.emas if event.everyone else ():
            if name not in event.deliveries:  # it came while the event was being written
                delivery = event.deliveries[name] = Delivery(name)
                book.dirty((event.id, delivery))
        self._changed(event)
        ready: dict[str, list[tuple[Delivery, Head]]] = {}
        for delivery in event.deliveries.values():
            ema = book.emas.get(delivery.ema)
            head = book.head(ema) if ema is not None else None
            if ema is not None and head is not None and self.wanted(event, delivery) and not self.polls(ema):
                ready.setdefault(head.name, []).append((delivery, head))
        for deliveries in ready.values():
            if event.everyone and len(deliveries) > 1:
                deliveries[0][1].broadcast(self.body(event, None))
                for delivery, _ in deliveries:
                    self._sent(event, delivery)
            else:
                for delivery, head in deliveries:
                    self._push(event, delivery, head)
        book.wake()

    def _push(self, event: Event, delivery: Delivery, head: Head) -> None:
        self._sent(event, delivery)
        head.push(delivery.ema, self.body(event, delivery))

    def _sent(self, event: Event, delivery: Delivery) -> None:
        book = self._book
        delivery.sent = event.modification
        wait = min(book.settings.resend_s * 2**delivery.attempts, LONGEST_WAIT_S)
        delivery.attempts += 1
        delivery.sent_at = book.wall
        delivery.due = book.clock.monotonic() + wait
        book.dirty((event.id, delivery))

    def came(self, ema: Ema) -> None:
        """It registered, or is heard of again after it was away: it gets everything that still holds, now.

        What it answered before is told again: a site that lost its memory must not run free in an event.
        """
        for event in self._book.events.values():
            if self._book.wall >= event.planned_end:
                continue
            delivery = event.deliveries.get(ema.name)
            if delivery is None:
                if not event.everyone or event.cancelled:
                    continue
                delivery = event.deliveries[ema.name] = Delivery(ema.name)
            delivery.attempts, delivery.due = 0, 0.0
            if not event.cancelled and not delivery.removed:
                delivery.answered = None
            head = self._book.head(ema)
            if head is not None and self.wanted(event, delivery) and not self.polls(ema):
                self._push(event, delivery, head)
            self._book.dirty((event.id, delivery))
        self._book.wake()

    def polled(self, ema: Ema) -> EventBody | None:
        """What its poll is answered with: the first event it has not answered, or none."""
        self._polled[ema.name] = self._book.clock.monotonic()
        for event in sorted(self._book.events.values(), key=lambda e: (e.start, e.id)):
            delivery = event.deliveries.get(ema.name)
            if delivery is None or not self.wanted(event, delivery) or self.given_up(event, delivery):
                continue
            if delivery.sent == event.modification and delivery.due > self._book.clock.monotonic():
                continue
            self._sent(event, delivery)
            return self.body(event, delivery)
        return None

    def answered(self, ema: Ema, event_id: int, modification: int | None, opt_in: bool) -> tuple[Delivery | None, str]:
        """Its opt. ``modification`` None: not said, the last one sent. Returns the delivery, which is to be saved, or
        why the opt is of no use."""
        event = self._book.events.get(event_id)
        delivery = event.deliveries.get(ema.name) if event is not None else None
        if event is None or delivery is None or delivery.sent is None:
            return None, f"event {event_id} was never sent to it"
        answered = delivery.sent if modification is None else modification
        if answered > delivery.sent:
            return None, f"event {event_id} has no modification {answered}"
        if delivery.answered is None or answered >= delivery.answered:
            delivery.answered = answered
            delivery.opt = "in" if opt_in else "out"
            delivery.answered_at = self._book.wall
            self._changed(event)
        return delivery, ""

    def tick(self) -> float | None:
        """Send what is due again; monotonic seconds of the next (None: nothing waits)."""
        book = self._book
        now, wall = book.clock.monotonic(), book.wall
        next_due: float | None = None
        for event in list(book.events.values()):
            if wall >= event.planned_end + EVENT_MEMORY_S:
                del book.events[event.id]
                continue
            if wall >= event.planned_end:
                continue
            for delivery in event.deliveries.values():
                if not self.wanted(event, delivery) or delivery.attempts >= book.settings.resend_most:
                    continue
                ema = book.emas.get(delivery.ema)
                head = book.head(ema) if ema is not None else None
                if ema is None or head is None or self.polls(ema):
                    continue
                if delivery.due <= now:
                    self._push(event, delivery, head)
                    if self.given_up(event, delivery):
                        book.log.warning("%s does not answer event %d", ema.name, event.id)
                        self._changed(event)
                next_due = delivery.due if next_due is None else min(next_due, delivery.due)
        return next_due

    def _changed(self, event: Event) -> None:
        self._book.changed("event", None, event)
