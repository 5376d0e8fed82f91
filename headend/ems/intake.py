"""What EMAs say of themselves and their devices: stored before it is acknowledged, and refused so that nobody waits.

The state is that of the newest report, in whatever order reports arrive: after an outage or a restart of the EMS an EMA
sends again what was not acknowledged, behind newer ones that were.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from headend.ems.book import Book
from headend.ems.commands import CommandDesk
from headend.ems.head import CANNOT, NOT_NOW, NOT_SERVED
from headend.ems.records import NewReport
from headend.ems.state import Device, Ema
from headend.ems.store import cannot_ever

# A report dated further ahead, or further back than any outbox reaches, is filed under the time it came.
FUTURE_S = 3600.0
PAST_S = 60 * 86_400.0
# A notice of a device bears no time, so one that was sent again may be older than the report that named the device: for
# so long after it (some periods of reports) what the notice says of its state does not count.
STATED_S = 60.0


class Intake:
    """Reports, margins and devices. ``seen(name, protocol)``: the EMA that speaks, None when it is one too many."""

    def __init__(self, book: Book, commands: CommandDesk, seen: Callable[[str, str], Ema | None]) -> None:
        self.deferred = 0
        self._book = book
        self._commands = commands
        self._seen = seen
        self._wanted: set[str] = set()
        self._due: dict[str, float] = {}  # monotonic seconds; an EMA of mode 3 sends no report unasked
        self._newest: dict[str, tuple[int, int]] = {}
        self._timed: set[str] = set()
        self._stated: dict[tuple[str, str], float] = {}  # monotonic seconds of the last report that named the device

    def session_begins(self, name: str) -> None:
        """It may count its reports anew."""
        self._newest.pop(name, None)

    # Reports

    def want(self, name: str) -> None:
        """Ask for a report with the answer to its next poll (DR mode 3). Raise ``Unknown``."""
        self._book.ema(name)
        self._wanted.add(name)

    def ask_with_poll(self, name: str, free: bool) -> bool:
        """Is the answer to its poll to ask for a report. ``free``: nothing else is answered."""
        # Until the report is here: neither the question nor its answer is sure to arrive.
        now, half = self._book.clock.monotonic(), self._book.settings.report_s / 2
        due = self._due.setdefault(name, now + half)
        wanted = free and (name in self._wanted or now >= due)
        if wanted:
            self._due[name] = now + half
        return wanted

    def reported(
        self,
        name: str,
        protocol: str,
        request_id: str,
        at: float | None,
        power: dict[str, float | None],
        devices: Sequence[Device] = (),
        order: tuple[int, int] | None = None,
    ) -> None:
        """A report: stored once, acknowledged after its commit, and acknowledged again when it came again.

        ``power``: ``power_w threshold_w margin_w generate_w storage_w``. ``order``: its place among the reports of
        this session, where its RequestID says that; else ``at`` (wall seconds by the EMA's clock) does. One that is
        older than what is known goes into the series by its own time, and changes nothing of now.
        """
        book, head = self._book, self._book.heads[protocol]
        ema = self._seen(name, protocol)
        if ema is None:
            head.refuse_report(name, request_id, NOT_SERVED, f"{book.settings.most_emas} EMAs are known already")
            return
        self._wanted.discard(name)
        self._due[name] = book.clock.monotonic() + book.settings.report_s
        wall = book.wall
        when = at if at is not None and wall - PAST_S <= at <= wall + FUTURE_S else wall
        watts = power.get("power_w")
        sample = {"ema": name, "at": when, **power} if watts is not None else None
        lines = [[d.number, d.on, d.dimming, d.watt, d.priority] for d in devices]
        said = json.dumps(lines, separators=(",", ":"))
        mark = round(at * 1000) if at is not None else zlib.crc32(f"{sorted(power.items())}{said}".encode())
        report = NewReport(name, request_id, mark, when, wall, said, sample)

        def stored(fresh: bool | None, error: Exception | None) -> None:
            if error is None:
                if fresh:
                    ema.reports += 1
                else:
                    ema.duplicates += 1
                head.acknowledge_report(name, request_id)
            elif cannot_ever(error):
                why = f"report {request_id} cannot be stored: {str(error).splitlines()[0]}"
                self.refused(name, why)
                head.refuse_report(name, request_id, CANNOT, why)
            else:
                self.deferred += 1
                head.refuse_report(name, request_id, NOT_NOW, "the EMS cannot write now")

        if not book.store.add_report(report, stored):
            self.deferred += 1
            head.refuse_report(name, request_id, NOT_NOW, "too many reports wait at the EMS")
            return
        if self._is_news(ema, when, order):
            self._apply(ema, protocol, when, power, devices)
        if at is not None and watts is not None:
            self._timed.add(name)

    def _is_news(self, ema: Ema, when: float, order: tuple[int, int] | None) -> bool:
        newest = self._newest.get(ema.name)
        if order is not None and newest is not None:
            news = order >= newest
        else:
            news = ema.measured_at is None or when >= ema.measured_at
        if news and order is not None:
            self._newest[ema.name] = order
        return news

    def _apply(
        self, ema: Ema, protocol: str, at: float, power: dict[str, float | None], devices: Sequence[Device]
    ) -> None:
        if power.get("power_w") is not None:
            self._power(ema, min(at, self._book.wall), power)
        now = self._book.clock.monotonic()
        for device in devices:
            known = self._book.devices.get((device.ema, device.id))
            if known is not None and not known.connected and at < (known.updated_at or 0.0):
                continue  # of the time before it went
            known = self._merge(device, protocol)
            if known is None:
                continue
            self._stated[device.ema, device.id] = now
            if device.watt is None:
                known.watt = None  # the report says: not known

    def refused(self, name: str, why: str) -> None:
        """A report that will never be taken: counted with its EMA."""
        ema = self._book.emas.get(name)
        if ema is not None:
            ema.rejected += 1
        self._book.refusals.add(name, why)

    def margin(self, name: str, protocol: str, power_w: float, margin_w: float) -> None:
        """Its power and what is left under its limit, where its reports do not say that with their time: a margin
        bears none, and may be that of a report that waited."""
        ema = self._seen(name, protocol)
        if ema is None or name in self._timed:
            return
        values: dict[str, float | None] = {
            "power_w": power_w,
            "threshold_w": power_w + margin_w,
            "margin_w": margin_w,
            "generate_w": ema.generate_w,
            "storage_w": ema.storage_w,
        }
        self._book.store.add_sample({"ema": name, "at": self._book.wall, **values})
        self._power(ema, self._book.wall, values)

    def _power(self, ema: Ema, at: float, values: dict[str, float | None]) -> None:
        for key, value in values.items():
            setattr(ema, key, value)
        ema.measured_at = at
        self._book.dirty(ema)
        self._book.changed("power", ema.name, {"at": at, **values})

    # Devices

    def device(self, device: Device, protocol: str, acknowledge: bool = False) -> None:
        """A device came, went or changed. What is None in it is as before.

        ``acknowledge``: its head tells the EMA, after the commit; at once where the device will never be kept, for the
        wire has no word for that and the EMA would say it for ever.
        """
        stated = self._stated.get((device.ema, device.id))
        if stated is not None and self._book.clock.monotonic() - stated < STATED_S:
            device = replace(device, on=None, dimming=None, watt=None)
        known = self._merge(device, protocol)
        if not acknowledge or device.number is None:
            return
        head, number, connected = self._book.heads[protocol], device.number, device.connected
        if known is None:
            head.acknowledge_device(device.ema, number, connected)
            return

        def stored(_: None, error: Exception | None) -> None:
            if error is None or cannot_ever(error):
                head.acknowledge_device(device.ema, number, connected)

        self._book.store.save([known], stored)

    def _merge(self, device: Device, protocol: str) -> Device | None:
        """Put into the picture what is said of a device. None: it is one too many, or its EMA is."""
        book = self._book
        if self._seen(device.ema, protocol) is None:
            return None
        key = (device.ema, device.id)
        known = book.devices.get(key)
        if known is None:
            why = self._no_room(device.ema)
            if why:
                book.refusals.add(device.ema, f"{device.id}: {why}")
                return None
            book.device_count[device.ema] = book.device_count.get(device.ema, 0) + 1
            known = book.devices[key] = Device(device.ema, device.id)
        before = (known.connected, known.on, known.dimming, known.watt, known.priority, known.details)
        for name in ("kind", "number", "on", "dimming", "watt", "priority"):
            value = getattr(device, name)
            if value is not None and value != "":
                setattr(known, name, value)
        known.details = {**known.details, **device.details}
        known.connected = device.connected
        known.updated_at = book.wall
        book.dirty(known)
        self._commands.reported(known)
        if before != (known.connected, known.on, known.dimming, known.watt, known.priority, known.details):
            book.changed("device", device.ema, known)
        return known

    def _no_room(self, ema: str) -> str:
        settings = self._book.settings
        if self._book.device_count.get(ema, 0) >= settings.most_devices:
            return f"most_devices: it has {settings.most_devices} devices already"
        if len(self._book.devices) >= settings.most_devices_all:
            return f"most_devices_all: {settings.most_devices_all} devices are known already"
        return ""
