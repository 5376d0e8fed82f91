"""What pages and scripts are shown, made of the ``Book``."""

from __future__ import annotations

from headend.ems.book import Book
from headend.ems.events import EventDesk
from headend.ems.rdr import TOTAL
from headend.ems.state import Device, Ema, Event
from headend.ems.view_types import Alarm, DeliveryView, DeviceView, EmaView, EventView, Flow, Overview

# A site may need a pass and its devices' latency to come under a limit; then it is an alarm.
OVER_FOR_S = 30.0
_FAR_END = {"mqtt": "broker"}


def strictest(book: Book, ema: Ema) -> Event | None:
    """The running event that binds an EMA most, of those it was told."""
    wall = book.wall
    running = [
        event
        for event in book.events.values()
        if event.state(wall) == "running"
        and ema.name in event.deliveries
        and not event.deliveries[ema.name].removed
        and event.deliveries[ema.name].sent is not None
    ]
    return min(running, key=lambda event: (event.value_w, event.id), default=None)


def ema_view(book: Book, desk: EventDesk, ema: Ema) -> EmaView:
    event = strictest(book, ema)
    power = book.power(ema)
    over = event is not None and power is not None and power > event.value_w
    state = "offline" if not ema.connected else "alarm" if over else "limited" if event is not None else "normal"
    return EmaView(
        name=ema.name,
        ven_id=ema.ven_id,
        protocol=ema.protocol,
        connected=ema.connected,
        mode=str(ema.mode),
        polls=desk.polls(ema),
        power_w=power,
        limit_w=ema.threshold_w,
        margin_w=ema.margin_w,
        generate_w=ema.generate_w,
        storage_w=ema.storage_w,
        measured_at=ema.measured_at,
        own_limit_w=book.limits.get(ema.name),
        event_id=event.id if event is not None else None,
        event_w=event.value_w if event is not None else None,
        opt=event.deliveries[ema.name].opt if event is not None else "",
        last_seen=ema.last_seen,
        age_s=max(0.0, book.wall - ema.last_seen) if ema.last_seen is not None else None,
        devices=book.device_count.get(ema.name, 0),
        reports=ema.reports,
        duplicates=ema.duplicates,
        rejected=ema.rejected,
        registered_at=ema.registered_at,
        state=state,
    )


def emas(book: Book, desk: EventDesk) -> list[EmaView]:
    """All, by number."""
    ordered = sorted(book.emas.values(), key=lambda ema: (len(ema.name), ema.name))
    return [ema_view(book, desk, ema) for ema in ordered]


def device_view(device: Device) -> DeviceView:
    return DeviceView(
        device.ema,
        device.id,
        device.number,
        device.kind,
        device.connected,
        device.on,
        device.dimming,
        device.watt,
        device.priority,
        device.updated_at,
        dict(device.details),
    )


def devices(book: Book, ema: str | None = None, kind: str | None = None) -> list[DeviceView]:
    """All, or those of an EMA or kind."""
    found = [
        device_view(device)
        for device in book.devices.values()
        if (ema is None or device.ema == ema) and (kind is None or device.kind == kind)
    ]
    return sorted(found, key=lambda d: (len(d.ema), d.ema, d.number is None, d.number or 0, d.id))


def event_view(book: Book, desk: EventDesk, event: Event) -> EventView:
    deliveries = []
    for delivery in sorted(event.deliveries.values(), key=lambda d: (len(d.ema), d.ema)):
        if delivery.answered == event.modification:
            state = "answered"
        elif not desk.wanted(event, delivery):
            state = "not needed"
        elif desk.given_up(event, delivery):
            state = "unanswered"
        else:
            state = "sent" if delivery.sent == event.modification else "waiting"
        deliveries.append(
            DeliveryView(
                delivery.ema,
                state,
                delivery.opt,
                delivery.removed,
                delivery.sent,
                delivery.attempts,
                delivery.sent_at,
                delivery.answered,
                delivery.answered_at,
            )
        )
    meant = [d for d in deliveries if not d.removed]
    return EventView(
        id=event.id,
        modification=event.modification,
        state=event.state(book.wall),
        start=event.start,
        end=event.end,
        value_w=event.value_w,
        everyone=event.everyone,
        targets=[d.ema for d in meant],
        created_at=event.created_at,
        created_by=event.created_by,
        changed_at=event.changed_at,
        opted_in=sum(d.opt == "in" for d in meant),
        opted_out=sum(d.opt == "out" for d in meant),
        deliveries=deliveries,
    )


def flow(book: Book) -> Flow:
    """Sums over the EMAs whose power is known now."""
    grid, unknown = book.total()
    known = [ema for ema in book.emas.values() if book.power(ema) is not None]
    if not known:
        return Flow(None, None, None, None, book.limits.get(TOTAL), unknown)
    generate = sum(ema.generate_w or 0.0 for ema in known)
    storage = sum(ema.storage_w or 0.0 for ema in known)
    return Flow(grid, generate, storage, grid - generate - storage, book.limits.get(TOTAL), unknown)


def alarms(book: Book, desk: EventDesk) -> list[Alarm]:
    """What is wrong now, the gravest first."""
    down = {head.link().address: head.name for head in reversed(book.heads.values()) if not head.up}  # one an address
    found = [Alarm("link", None, None, f"{name}: no {_FAR_END.get(name, 'socket')}") for name in down.values()]
    if book.store.writer.failing:
        found.append(Alarm("database", None, None, f"database: {book.store.writer.failing}"))
    wall = book.wall
    for ema in book.emas.values():
        event = strictest(book, ema)
        power = book.power(ema)
        if event is not None and power is not None and power > event.value_w and wall - event.start > OVER_FOR_S:
            text = f"{ema.name}: {power:.0f} W, over the {event.value_w:.0f} W of event {event.id}"
            found.append(Alarm("over", ema.name, event.id, text))
        if ema.connected and event is not None and power is None:
            found.append(Alarm("unknown", ema.name, event.id, f"{ema.name}: power not known in event {event.id}"))
    for event in book.events.values():
        if event.state(wall) not in ("running", "upcoming"):
            continue
        for delivery in event.deliveries.values():
            ema_ = book.emas.get(delivery.ema)
            if delivery.removed:
                continue
            if delivery.opt == "out":
                found.append(Alarm("optout", delivery.ema, event.id, f"{delivery.ema}: opted out of event {event.id}"))
            elif desk.given_up(event, delivery):
                text = f"{delivery.ema}: does not answer event {event.id}"
                found.append(Alarm("unanswered", delivery.ema, event.id, text))
            elif ema_ is not None and not ema_.connected and delivery.answered != event.modification:
                text = f"{delivery.ema}: away, event {event.id} waits for it"
                found.append(Alarm("offline", delivery.ema, event.id, text))
    total = flow(book)
    if total.limit_w is not None and total.grid_w is not None and total.grid_w > total.limit_w:
        found.append(Alarm("over", None, None, f"total: {total.grid_w:.0f} W, over the {total.limit_w:.0f} W limit"))
    return found


def overview(book: Book, desk: EventDesk, zone: str, policy: str) -> Overview:
    """The first screen."""
    wall = book.wall
    shown = [event for event in book.events.values() if event.state(wall) in ("running", "upcoming")]
    shown.sort(key=lambda event: (event.start, event.id))
    return Overview(
        at=wall,
        zone=zone,
        links=[head.link() for head in book.heads.values()],
        flow=flow(book),
        emas=emas(book, desk),
        running=[event_view(book, desk, event) for event in shown if event.state(wall) == "running"],
        upcoming=[event_view(book, desk, event) for event in shown if event.state(wall) == "upcoming"],
        alarms=alarms(book, desk),
        rdr_policy=policy,
    )
