"""What the EMS does, independent of MQTT and of HTTP: a ``Head`` tells it what EMAs say, operators call its methods."""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Sequence
from typing import Any

from gateway.clock import Clock
from headend.ems.book import EVENT_MEMORY_S, Book, check_watts
from headend.ems.commands import CommandDesk
from headend.ems.errors import Refused
from headend.ems.events import EventDesk
from headend.ems.head import Head
from headend.ems.rdr import TOTAL, RdrDesk
from headend.ems.records import NewReport
from headend.ems.settings import EmsSettings
from headend.ems.state import Device, Ema, Event, Mode
from headend.ems.store import Store

# An EMA reports every 10 s by default and says good-bye by its last will; one that is silent for this long is gone.
SILENT_S = 120.0
PRUNE_EVERY_S = 3600.0
LONGEST_SLEEP_S = 30.0
# A report dated further ahead, or further back than any outbox reaches, is filed under the time it came.
FUTURE_S = 3600.0
PAST_S = 60 * 86_400.0


class EmsService:
    """The EMS. ``start`` before anything else; ``run`` keeps its times; ``stop`` writes what is left."""

    def __init__(self, settings: EmsSettings, store: Store, clock: Clock, log: logging.Logger | None = None) -> None:
        self.log = log or logging.getLogger("smartema.ems")
        self.book = Book(settings, store, clock, self.log)
        self.events = EventDesk(self.book)
        self.rdr = RdrDesk(self.book)
        self.commands = CommandDesk(self.book)
        self.refused = 0
        self.deferred = 0
        self._wanted: set[str] = set()
        self._report_due: dict[str, float] = {}  # monotonic seconds; an EMA of mode 3 sends none unasked
        self._refusers: set[str] = set()
        self._woken = asyncio.Event()
        self.book.wake = self._woken.set
        self._prune_at = 0.0

    async def start(self) -> None:
        """Take up what the store holds."""
        loaded = await self.book.store.load(self.book.wall - EVENT_MEMORY_S)
        self.book.load(loaded)
        self.events.load(loaded.last_event)
        self.rdr.load(loaded.last_rdr, loaded.meta.get("rdr_policy"))
        self.commands.load(loaded.last_command)

    async def stop(self) -> None:
        self.book.flush()

    async def run(self) -> None:
        """Send again, meet deadlines, write through, until cancelled."""
        clock = self.book.clock
        while True:
            self._woken.clear()
            wait = self.tick()
            if clock.monotonic() >= self._prune_at:
                self._prune_at = clock.monotonic() + PRUNE_EVERY_S
                await self._prune()
            sleep = asyncio.ensure_future(clock.sleep(wait))
            woken = asyncio.ensure_future(self._woken.wait())
            try:
                await asyncio.wait((sleep, woken), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleep.cancel()
                woken.cancel()

    def tick(self) -> float:
        """Do what is due now; seconds until it is to be called again."""
        book = self.book
        now = book.clock.monotonic()
        dues = [self.events.tick(), self.rdr.tick(), self.commands.tick()]
        for ema in book.emas.values():
            if ema.connected and ema.last_seen is not None and book.wall - ema.last_seen > SILENT_S:
                self._gone(ema, f"silent for {SILENT_S:.0f} s")
        due = min((due for due in dues if due is not None), default=now + LONGEST_SLEEP_S)
        return min(max(due - now, 0.0), LONGEST_SLEEP_S)

    async def _prune(self) -> None:
        settings, wall = self.book.settings, self.book.wall
        if not self.book.clock.now().trusted:
            return
        reports_before, samples_before = wall - settings.report_days * 86_400, wall - settings.sample_days * 86_400
        try:
            more = True
            while more:
                more = bool(await self.book.store.prune(reports_before, samples_before))
        except Exception as err:
            self.log.warning("old rows stay: %s", str(err).splitlines()[0])

    # What EMAs say, told by a head

    def attach(self, head: Head) -> None:
        """A way to EMAs."""
        self.book.heads[head.name] = head

    def link_changed(self, head: Head) -> None:
        """Its session came up or broke: what waits is sent."""
        self.book.changed("link", None, {"name": head.name, "up": head.up})
        self._woken.set()

    def registering(self, name: str, protocol: str) -> None:
        """It begins its set-up (again): until that is through nothing is pushed to it."""
        ema = self._ema(name, protocol)
        if ema is None:
            return
        ema.connected, ema.last_seen = False, self.book.wall
        self.events.forget_polls(name)
        self.book.dirty(ema)

    def registered(self, name: str, ven_id: str, protocol: str) -> None:
        """Its set-up is through."""
        ema = self._ema(name, protocol)
        if ema is None:
            return
        ema.ven_id, ema.registered_at, ema.last_seen, ema.connected = ven_id, self.book.wall, self.book.wall, True
        self.book.dirty(ema)
        self.book.changed("ema", name, ema)
        self.log.info("%s registered (%s over %s)", name, ven_id, protocol)
        self.events.came(ema)

    def seen(self, name: str, protocol: str) -> Ema | None:
        """It said something. One that was away is back, and gets what waits for it. None: it is one too many."""
        ema = self._ema(name, protocol)
        if ema is None:
            return None
        ema.last_seen = self.book.wall
        self.book.dirty(ema)
        if not ema.connected:
            ema.connected = True
            self.book.changed("ema", name, ema)
            self.events.came(ema)
        return ema

    def disconnected(self, name: str) -> None:
        """It said good-bye, or its last will did."""
        ema = self.book.emas.get(name)
        if ema is not None and ema.connected:
            self._gone(ema, "it said good-bye or its last will did")

    def _gone(self, ema: Ema, why: str) -> None:
        ema.connected = False
        self.book.dirty(ema)
        self.book.changed("ema", ema.name, ema)
        self.log.info("%s is gone: %s", ema.name, why)

    def _ema(self, name: str, protocol: str) -> Ema | None:
        ema = self.book.emas.get(name)
        if ema is None:
            if len(self.book.emas) >= self.book.settings.most_emas:
                self.refuse(name, f"most_emas: {self.book.settings.most_emas} EMAs are known already")
                return None
            ema = self.book.emas[name] = Ema(name)
        ema.protocol = protocol
        return ema

    def polled(self, name: str, protocol: str) -> None:
        """It waits for the answer of its head."""
        ema = self.seen(name, protocol)
        if ema is None:
            return
        event = self.events.polled(ema)
        # Until the report is here: neither the question nor its answer is sure to arrive.
        now = self.book.clock.monotonic()
        due = self._report_due.setdefault(name, now + self.book.settings.report_s / 2)
        wanted = event is None and (name in self._wanted or now >= due)
        if wanted:
            self._report_due[name] = now + self.book.settings.report_s / 2
        self.book.heads[protocol].answer_poll(name, event, wanted)

    def want_report(self, name: str) -> None:
        """Ask for a report with the answer to its next poll (DR mode 3). Raise ``Unknown``."""
        self.book.ema(name)
        self._wanted.add(name)

    def answered(self, name: str, protocol: str, event_id: int, modification: int | None, opt_in: bool) -> None:
        """Its opt to an event."""
        ema = self.seen(name, protocol)
        if ema is not None:
            useless = self.events.answered(ema, event_id, modification, opt_in)
            if useless:
                self.refuse(name, useless)

    def reported(
        self,
        name: str,
        protocol: str,
        request_id: str,
        at: float | None,
        power: dict[str, float | None],
        devices: Sequence[Device] = (),
    ) -> None:
        """A report: stored once, acknowledged after its commit, and acknowledged again when it came again.

        ``power``: ``power_w threshold_w margin_w generate_w storage_w``. A report that was kept through an outage
        goes into the series by its own time, and does not replace what is known of now.
        """
        ema = self.seen(name, protocol)
        if ema is None:
            return
        self._wanted.discard(name)
        self._report_due[name] = self.book.clock.monotonic() + self.book.settings.report_s
        wall = self.book.wall
        when = at if at is not None and wall - PAST_S <= at <= wall + FUTURE_S else wall
        watts = power.get("power_w")
        sample = {"ema": name, "at": when, **power} if watts is not None else None
        lines = [[d.number, d.on, d.dimming, d.watt, d.priority] for d in devices]
        said = json.dumps(lines, separators=(",", ":"))
        mark = round(at * 1000) if at is not None else zlib.crc32(f"{sorted(power.items())}{said}".encode())
        report = NewReport(name, request_id, mark, when, wall, said, sample)
        head = self.book.heads[protocol]

        def stored(fresh: bool | None, error: Exception | None) -> None:
            if error is not None:
                return
            if fresh:
                ema.reports += 1
            else:
                ema.duplicates += 1
            head.acknowledge_report(name, request_id)

        if not self.book.store.add_report(report, stored):
            self.deferred += 1
            return
        if watts is not None and (ema.measured_at is None or when >= ema.measured_at):
            self._power(ema, when, power)
        if ema.measured_at is None or when >= ema.measured_at:
            for device in devices:
                self.device(device, protocol)
                if device.watt is None and (name, device.id) in self.book.devices:
                    self.book.devices[name, device.id].watt = None  # the report says: not known

    def margin(self, name: str, protocol: str, power_w: float, margin_w: float) -> None:
        """Its power and what is left under its limit."""
        ema = self.seen(name, protocol)
        if ema is None:
            return
        values: dict[str, float | None] = {
            "power_w": power_w,
            "threshold_w": power_w + margin_w,
            "margin_w": margin_w,
            "generate_w": ema.generate_w,
            "storage_w": ema.storage_w,
        }
        self.book.store.add_sample({"ema": name, "at": self.book.wall, **values})
        self._power(ema, self.book.wall, values)

    def _power(self, ema: Ema, at: float, values: dict[str, float | None]) -> None:
        for key, value in values.items():
            setattr(ema, key, value)
        ema.measured_at = at
        self.book.dirty(ema)
        self.book.changed("power", ema.name, {"at": at, **values})

    def device(self, device: Device, protocol: str, acknowledge: bool = False) -> None:
        """A device came, went, changed, or stood in a report. What is None in it is as before.

        ``acknowledge``: its head tells the EMA, after the commit.
        """
        book = self.book
        if self.seen(device.ema, protocol) is None:
            return
        key = (device.ema, device.id)
        known = book.devices.get(key)
        if known is None:
            if book.device_count.get(device.ema, 0) >= book.settings.most_devices:
                self.refuse(device.ema, f"most_devices: it has {book.settings.most_devices} devices already")
                return
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
        if acknowledge and device.number is not None:
            head, number = book.heads[protocol], device.number

            def stored(_: None, error: Exception | None) -> None:
                if error is None:
                    head.acknowledge_device(device.ema, number, device.connected)

            book.store.save([known], stored)
        else:
            book.dirty(known)
        self.commands.reported(known)
        if before != (known.connected, known.on, known.dimming, known.watt, known.priority, known.details):
            book.changed("device", device.ema, known)

    def asked(self, name: str, protocol: str, number: int, watts: float) -> None:
        """A device of it asks its power back."""
        ema = self.seen(name, protocol)
        if ema is not None:
            self.rdr.asked(ema, number, watts)

    def refuse(self, who: str, why: str) -> None:
        """Something that a peer must not: counted, and logged once a peer."""
        self.refused += 1
        level = logging.DEBUG
        if who not in self._refusers and len(self._refusers) < self.book.settings.most_emas:
            self._refusers.add(who)
            level = logging.WARNING
        self.log.log(level, "refused from %s: %s", who, why)

    # What operators set

    async def set_limit(self, scope: str, watts: float | None) -> None:
        """A limit for ``total`` or one EMA, in W; None removes it. Raise ``Refused`` or ``Unknown``."""
        if scope != TOTAL:
            self.book.ema(scope, "scope")
        if watts is not None:
            check_watts("watts", watts)
        await self.book.store.set_limit(scope, watts)
        if watts is None:
            self.book.limits.pop(scope, None)
        else:
            self.book.limits[scope] = watts
        self.book.changed("limit", None if scope == TOTAL else scope, {"scope": scope, "watts": watts})

    async def set_mode(self, name: str, mode: str) -> Ema:
        """How events reach an EMA. Raise ``Refused`` or ``Unknown``."""
        ema = self.book.ema(name)
        if mode not in tuple(Mode):
            raise Refused("mode", f"{mode!r} is none of {', '.join(Mode)}")
        ema.mode = Mode(mode)
        await self.book.store.save_now(ema)
        self.book.changed("ema", name, ema)
        self._woken.set()
        return ema

    def event_line(self, event: Event) -> dict[str, Any]:
        """For logs and audit."""
        targets = "all" if event.everyone else sorted(event.deliveries)
        return {"id": event.id, "modification": event.modification, "value_w": event.value_w, "targets": targets}
