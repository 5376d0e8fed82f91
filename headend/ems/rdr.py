"""Reverse DR: a device asks its power back, and the EMS answers by its policy, at once and with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from headend.ems.book import Book
from headend.ems.errors import Conflict, Refused, Unknown
from headend.ems.settings import POLICIES
from headend.ems.state import Ema, Rdr

TOTAL = "total"


@dataclass(frozen=True, slots=True)
class _Hold:
    """Watts granted that the EMA's own reading need not show yet; ``until``: wall seconds."""

    watts: float
    until: float


class RdrDesk:
    """Answers requests. ``limit``: grant while the EMA's and the total limit have room for it, else deny."""

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
        self._answer(rdr, granted, why, f"policy {self.policy}")

    def _judge(self, ema: Ema, number: int, watts: float) -> tuple[bool, str]:
        if self.policy == "deny":
            return False, "the EMS grants nothing (policy deny)"
        if self.policy == "grant":
            return True, "granted without a check (policy grant)"
        book = self._book
        own, total = book.limits.get(ema.name), book.limits.get(TOTAL)
        if own is None and total is None:
            return False, f"no limit is set for {ema.name} or in total, so there is nothing to grant from"
        now = book.wall
        self._holds = {key: hold for key, hold in self._holds.items() if hold.until > now}
        others = {key: hold for key, hold in self._holds.items() if key != (ema.name, number)}
        room = []
        if own is not None:
            power = book.power(ema)
            if power is None:
                return False, f"power of {ema.name} is not known now"
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

    def answer(self, rdr_id: int, granted: bool, by: str) -> Rdr:
        """By hand, within the deadline. Raise ``Unknown`` or ``Conflict``."""
        for rdr in self._book.rdr.values():
            if rdr.id == rdr_id:
                self._answer(rdr, granted, f"{'granted' if granted else 'denied'} by {by}", by)
                return rdr
        if 0 < rdr_id <= self._last:
            raise Conflict("id", f"RDR {rdr_id} is answered already")
        raise Unknown("id", f"RDR {rdr_id} is not known")

    def _answer(self, rdr: Rdr, granted: bool, why: str, by: str) -> None:
        book = self._book
        key = (rdr.ema, rdr.number)
        book.rdr.pop(key, None)
        self._deadlines.pop(key, None)
        rdr.state, rdr.why, rdr.by, rdr.answered_at = "granted" if granted else "denied", why, by, book.wall
        if granted:
            self._holds[key] = _Hold(rdr.watts, book.wall + book.settings.rdr_hold_s)
        else:
            self._holds.pop(key, None)
        book.dirty(rdr)
        head = book.heads.get(book.emas[rdr.ema].protocol)
        if head is not None and head.up:
            head.answer_rdr(rdr.ema, rdr.number, granted, why)
        book.log.info("RDR %s dev/%d: %s: %s", rdr.ema, rdr.number, rdr.state, why)
        book.changed("rdr", rdr.ema, rdr)

    def tick(self) -> float | None:
        """Deny what nobody answered in time; monotonic seconds of the next deadline."""
        now = self._book.clock.monotonic()
        for key, deadline in list(self._deadlines.items()):
            if deadline <= now:
                self._answer(self._book.rdr[key], False, "nobody answered in time", "policy manual")
        return min(self._deadlines.values(), default=None)
