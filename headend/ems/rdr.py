"""Reverse DR: a device asks its power back, and the EMS answers by its policy, with the reason.

A grant counts once it is on disk, and only then it is told: one that cannot be written is a denial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from headend.ems.book import Book
from headend.ems.errors import Conflict, Refused, Unknown
from headend.ems.settings import POLICIES
from headend.ems.state import Ema, Event, Rdr

TOTAL = "total"
# An EMA waits 2 s by default; a grant that took longer to write finds nobody who waits.
WRITTEN_S = 2.0


@dataclass(frozen=True, slots=True)
class _Hold:
    """Watts granted that the EMA's own reading need not show yet; ``until``: monotonic seconds."""

    watts: float
    until: float


class RdrDesk:
    """Answers requests. ``limit``: grant while the EMA's and the total limit have room for it; without a limit, while
    no event of ours asks anything of the EMA. Else deny."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._last = 0
        self._holds: dict[tuple[str, int], _Hold] = {}
        self._deadlines: dict[tuple[str, int], float] = {}
        self.policy = book.settings.rdr_policy

    def load(self, last_rdr: int, policy: str | None) -> None:
        self._last = last_rdr
        if policy in POLICIES:
            self.policy = policy

    async def set_policy(self, policy: str) -> None:
        """Keep it over restarts. Raise ``Refused``."""
        if policy not in POLICIES:
            raise Refused("policy", f"{policy!r} is none of {', '.join(POLICIES)}")
        await self._book.store.set_meta("rdr_policy", policy)
        self.policy = policy

    def asked(self, ema: Ema, number: int, watts: float) -> None:
        """A request; one is in flight a device, so the same again is the same."""
        book = self._book
        if (ema.name, number) in book.rdr:
            return
        now = book.clock.monotonic()
        self._holds = {key: hold for key, hold in self._holds.items() if hold.until > now}
        self._last += 1
        rdr = Rdr(self._last, ema.name, number, watts, book.wall)
        if self.policy == "manual":
            book.rdr[ema.name, number] = rdr
            self._deadlines[ema.name, number] = book.clock.monotonic() + book.settings.rdr_manual_s
            book.dirty(rdr)
            book.changed("rdr", ema.name, rdr)
            book.wake()
            return
        granted, why = self._judge(ema, number, watts)
        if granted:
            self._grant(rdr, why, f"policy {self.policy}")
        else:
            self._settle(rdr, "denied", why, f"policy {self.policy}")

    def _judge(self, ema: Ema, number: int, watts: float) -> tuple[bool, str]:
        if self.policy == "deny":
            return False, "the EMS grants nothing (policy deny)"
        if self.policy == "grant":
            return True, "granted without a check (policy grant)"
        book = self._book
        own, total = book.limits.get(ema.name), book.limits.get(TOTAL)
        if own is None and total is None:
            return self._without_limit(ema)
        others = {key: hold for key, hold in self._holds.items() if key != (ema.name, number)}
        room = []
        if own is not None:
            power = book.power(ema)
            if power is None:
                return False, book.why_unknown(ema)
            held = sum(hold.watts for (name, _), hold in others.items() if name == ema.name)
            room.append((own - power - held, f"limit of {ema.name} {own:.0f} W, power {power:.0f} W", held))
        if total is not None:
            power, unknown = book.total()
            if unknown:
                return False, f"power of {', '.join(unknown[:3])} is not known now"
            held = sum(hold.watts for hold in others.values())
            room.append((total - power - held, f"total limit {total:.0f} W, power {power:.0f} W", held))
        left, words, held = min(room)
        words += f", granted before {held:.0f} W" if held else ""
        if watts > left:
            return False, f"{watts:.0f} W asked, {max(left, 0):.0f} W left ({words})"
        return True, f"{watts:.0f} W of {left:.0f} W left ({words})"

    def _without_limit(self, ema: Ema) -> tuple[bool, str]:
        """What we asked of it is held; beyond that it knows its own fuse, and holds it whatever is granted."""
        event = self._event(ema)
        if event is not None:
            how = f"smartema ems limit {ema.name} W"
            return False, f"event {event.id} asks {event.value_w:.0f} W; no limit says what may be granted ({how})"
        return True, f"no event asks anything of {ema.name}, no limit is set; it holds its own hard limit"

    def _event(self, ema: Ema) -> Event | None:
        """The strictest that runs for it and that it did not opt out of."""
        wall = self._book.wall
        running = [
            event
            for event in self._book.events.values()
            if event.state(wall) == "running"
            and (delivery := event.deliveries.get(ema.name)) is not None
            and not delivery.removed
            and delivery.opt != "out"
        ]
        return min(running, key=lambda event: event.value_w, default=None)

    async def answer(self, rdr_id: int, granted: bool, by: str) -> Rdr:
        """By hand, within the deadline; what became of it. Raise ``Unknown`` or ``Conflict``."""
        waiting = {rdr.id: rdr for key, rdr in self._book.rdr.items() if key in self._deadlines}
        rdr = waiting.get(rdr_id)
        if rdr is None:
            if 0 < rdr_id <= self._last:
                raise Conflict("id", f"RDR {rdr_id} is answered already")
            raise Unknown("id", f"RDR {rdr_id} is not known")
        if not granted:
            self._settle(rdr, "denied", f"denied by {by}", by)
            return rdr
        settled = asyncio.Event()
        self._grant(rdr, f"granted by {by}", by, settled.set)
        await settled.wait()
        return rdr

    def _grant(self, rdr: Rdr, why: str, by: str, settled: Callable[[], None] = lambda: None) -> None:
        """To disk, then to the EMA. Held from now on, so that nothing is granted twice meanwhile."""
        book, key = self._book, (rdr.ema, rdr.number)
        self._deadlines.pop(key, None)
        book.rdr[key] = rdr
        before = self._holds.get(key)
        asked = book.clock.monotonic()
        self._holds[key] = _Hold(rdr.watts, asked + book.settings.rdr_hold_s)

        def stored(_: None, error: Exception | None) -> None:
            late = book.clock.monotonic() - asked > book.clock.patience(WRITTEN_S)
            if error is None and not late:
                self._settle(rdr, "granted", why, by)
            else:
                if before is None:
                    self._holds.pop(key, None)
                else:
                    self._holds[key] = before
                reason = "the EMS wrote the grant too late" if error is None else "the EMS cannot write the grant now"
                self._settle(rdr, "denied", reason, by)
            settled()

        book.store.save([replace(rdr, state="granted", why=why, by=by, answered_at=book.wall)], stored)

    def _settle(self, rdr: Rdr, state: str, why: str, by: str) -> None:
        book = self._book
        key = (rdr.ema, rdr.number)
        book.rdr.pop(key, None)
        self._deadlines.pop(key, None)
        rdr.state, rdr.why, rdr.by, rdr.answered_at = state, why, by, book.wall
        if not book.closed:
            book.dirty(rdr)
        head = book.heads.get(book.emas[rdr.ema].protocol)
        if head is not None and head.up:
            head.answer_rdr(rdr.ema, rdr.number, state == "granted", why)
        book.log.info("RDR %s dev/%d: %s: %s", rdr.ema, rdr.number, rdr.state, why)
        book.changed("rdr", rdr.ema, rdr)

    def tick(self) -> float | None:
        """Deny what nobody answered in time; monotonic seconds of the next deadline."""
        now = self._book.clock.monotonic()
        for key, deadline in list(self._deadlines.items()):
            if deadline <= now:
                self._settle(self._book.rdr[key], "denied", "nobody answered in time", "policy manual")
        return min(self._deadlines.values(), default=None)
