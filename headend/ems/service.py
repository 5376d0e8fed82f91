"""What the EMS does, independent of MQTT and of HTTP: a ``Head`` tells it what EMAs say, operators call its methods."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from gateway.clock import Clock
from gateway.control.negotiation.messages import FromMember
from headend.ems.allocation import AllocationDesk
from headend.ems.book import EVENT_MEMORY_S, Book, check_watts
from headend.ems.commands import CommandDesk
from headend.ems.errors import Refused
from headend.ems.events import EventDesk
from headend.ems.head import CANNOT, TAKEN, Head
from headend.ems.intake import Intake
from headend.ems.negotiation import NegotiationDesk, load_loans
from headend.ems.prices import PriceDesk
from headend.ems.rdr import TOTAL, RdrDesk
from headend.ems.settings import EmsSettings
from headend.ems.state import Ema, Event, Mode
from headend.ems.store import Store
from headend.ems.vtns import VtnDesk

# An EMA reports every 10 s by default and says good-bye by its last will; one that is silent for this long is gone.
SILENT_S = 120.0
PRUNE_EVERY_S = 3600.0
LONGEST_SLEEP_S = 30.0


class EmsService:
    """The EMS. ``start`` before anything else; ``run`` keeps its times; ``stop`` writes what is left."""

    def __init__(self, settings: EmsSettings, store: Store, clock: Clock, log: logging.Logger | None = None) -> None:
        self.log = log or logging.getLogger("smartema.ems")
        self.book = Book(settings, store, clock, self.log)
        self.events = EventDesk(self.book)
        self.rdr = RdrDesk(self.book)
        self.vtns = VtnDesk(self.book)
        self.commands = CommandDesk(self.book)
        self.intake = Intake(self.book, self.commands, self.seen)
        self.prices = PriceDesk(self.book)
        self.allocation = AllocationDesk(self.book, self.events)
        self.negotiation = NegotiationDesk(self.book, self.events)
        self.started_at = 0.0
        self._woken = asyncio.Event()
        self.book.wake = self._woken.set
        self._prune_at = 0.0

    async def start(self) -> None:
        """Take up what the store holds."""
        self.started_at = self.book.wall
        loaded = await self.book.store.load(self.book.wall - EVENT_MEMORY_S)
        self.book.load(loaded)
        self.events.load(loaded.last_event)
        self.rdr.load(loaded.last_rdr, loaded.meta.get("rdr_policy"))
        self.commands.load(loaded.last_command)
        self.prices.load(loaded.meta)
        self.negotiation.load(await self.book.store.read(load_loans), self.prices.prices["negotiation"])

    async def stop(self) -> None:
        self.book.flush()
        self.book.closed = True

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
        dues = [self.events.tick(), self.rdr.tick(), self.commands.tick(), self.negotiation.tick()]
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
        self.intake.session_begins(name)
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
        self.negotiation.came(name)

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
            self.negotiation.came(name)
        return ema

    def disconnected(self, name: str) -> None:
        """It said good-bye, or its last will did."""
        ema = self.book.emas.get(name)
        if ema is not None and ema.connected:
            self._gone(ema, "it said good-bye or its last will did")

    def _gone(self, ema: Ema, why: str) -> None:
        ema.connected = False
        self.negotiation.gone(ema.name)
        self.book.dirty(ema)
        self.book.changed("ema", ema.name, ema)
        self.log.info("%s is gone: %s", ema.name, why)

    def admits(self, name: str) -> bool:
        """Is it known, or is there room for one more."""
        return name in self.book.emas or len(self.book.emas) < self.book.settings.most_emas

    def _ema(self, name: str, protocol: str) -> Ema | None:
        ema = self.book.emas.get(name)
        if ema is None:
            if not self.admits(name):
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
        self.book.heads[protocol].answer_poll(name, event, self.intake.ask_with_poll(name, event is None))

    def want_report(self, name: str) -> None:
        """Ask for a report with the answer to its next poll (DR mode 3). Raise ``Unknown``."""
        self.intake.want(name)

    def answered(self, name: str, protocol: str, event_id: int, modification: int | None, opt_in: bool) -> None:
        """Its opt to an event: acknowledged after the commit; refused where it belongs to no event that it was sent."""
        ema = self.seen(name, protocol)
        if ema is None:
            return
        head = self.book.heads[protocol]
        delivery, useless = self.events.answered(ema, event_id, modification, opt_in)
        if delivery is None:
            self.refuse(name, useless)
            head.acknowledge_opt(name, CANNOT)
            return

        def stored(_: None, error: Exception | None) -> None:
            if error is None:
                head.acknowledge_opt(name, TAKEN)
            else:
                self.book.dirty((event_id, delivery))

        self.book.store.save([(event_id, delivery)], stored)

    def asked(self, name: str, protocol: str, number: int, watts: float) -> None:
        """A device of it asks its power back."""
        ema = self.seen(name, protocol)
        if ema is not None:
            self.rdr.asked(ema, number, watts)

    def negotiates(self, name: str, protocol: str, message: FromMember) -> None:
        """It speaks of loans."""
        ema = self.seen(name, protocol)
        if ema is not None:
            self.negotiation.heard(ema, message)

    def asks_threshold(self, name: str, protocol: str, watts: int) -> None:
        """It asks for a higher threshold, in the lab's form."""
        ema = self.seen(name, protocol)
        if ema is not None:
            self.negotiation.lab.asked(name, watts)

    async def set_prices(self, changes: dict[str, int | None]) -> dict[str, int | None]:
        """Prices by name, whole units a kWh; None: not set any more. Raise ``Refused``."""
        await self.prices.set(changes)
        self.negotiation.at_price(self.prices.prices["negotiation"])
        return self.prices.prices

    def refuse(self, who: str, why: str) -> None:
        """Something that a peer must not."""
        self.book.refusals.add(who, why)

    @property
    def refused(self) -> int:
        """How much of what peers said was not taken."""
        return self.book.refusals.total

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
        before, ema.mode = ema.mode, Mode(mode)
        try:
            await self.book.store.save_now(ema)
        except Exception:
            ema.mode = before
            raise
        self.book.changed("ema", name, ema)
        self._woken.set()
        return ema

    def event_line(self, event: Event) -> dict[str, Any]:
        """For logs and audit."""
        targets = "all" if event.everyone else sorted(event.deliveries)
        return {"id": event.id, "modification": event.modification, "value_w": event.value_w, "targets": targets}
