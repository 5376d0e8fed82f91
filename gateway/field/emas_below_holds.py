"""The limit that an EMA below is held to, as a DR event that is changed, renewed and cancelled; sans-I/O.

One event a time of being held: a new value is a higher modification of it, giving all back is its cancel. It ends by
itself ``hold_s`` after the last word, which is the lease of this set point, and is renewed at half of that. What an EMA
was granted by an RDR it adds to its own limit until that becomes tighter; so here the grant is kept in mind, and the
value that is told is what is meant less what was granted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

from gateway.clock import Instant
from gateway.errors import PeerError
from gateway.journal import plain
from gateway.links.mir2017.messages.events import MOST_MODIFICATION
from gateway.links.mir2017.messages.fields import LARGEST_WATTS
from gateway.record import slim
from gateway.site.resource import Setting

# A clock below that goes late by so much takes the event at once all the same.
BEFORE_S = 600.0
# Modifications that were sent and not on disk when we were killed are skipped over: a commit takes milliseconds.
SKIPPED = 64
# Event numbers count seconds from here (2024-01-01), so that one made after the state was erased is new all the same.
COUNTED_FROM = 1_704_067_200
LAST_EVENT = "emas_below/event"


@slim(frozen=True, slots=True)
class Hold:
    """One event. ``value_w`` None: cancelled. ``answered``: opt of this modification (None: not yet); wall seconds."""

    event_id: int
    modification: int
    value_w: int | None
    start: float
    end: float
    command_id: int = 0
    answered: bool | None = None

    @property
    def request_id(self) -> int:
        """Names the modification in its answer."""
        return self.modification + 1


@slim(frozen=True, slots=True)
class Granted:
    """Granted to it by an RDR, on top of what it is told. ``until``: wall seconds, as far as we know."""

    watts: float
    until: float


@slim(frozen=True, slots=True)
class _Kept:
    hold: Hold | None = None
    granted: tuple[Granted, ...] = ()


class Values(Protocol):
    """The journal's small things."""

    def value(self, key: str) -> str | None: ...

    def save_value(self, key: str, value: str) -> None: ...


class Holds:
    """What each EMA below is held to, by its n. ``own_w``: the limit it has without us, where it said so."""

    def __init__(self, journal: Values, hold_s: float) -> None:
        self.hold_s = hold_s
        self._journal = journal
        self._kept: dict[int, _Kept] = {}
        self._skip: set[int] = set()

    def take_up(self, ema: int) -> None:
        """What it was held to before this start; the first change skips numbers that may have been used."""
        if ema in self._kept:
            return
        text = self._journal.value(_key(ema))
        try:
            self._kept[ema] = plain.loads(_Kept, text) if text else _Kept()
        except PeerError:
            self._kept[ema] = _Kept()
        self._skip.add(ema)

    def current(self, ema: int) -> Hold | None:
        """The event as it stands, a cancelled one too."""
        return self._of(ema).hold

    def waiting(self, ema: int) -> Hold | None:
        """The event, where it was not answered yet."""
        hold = self.current(ema)
        return hold if hold is not None and hold.answered is None else None

    def granted_w(self, ema: int, wall: float) -> float:
        """What it may draw on top of its limit."""
        return sum(grant.watts for grant in self._of(ema).granted if grant.until > wall)

    def grant(self, ema: int, watts: float, until: float, wall: float) -> None:
        """It was told so."""
        kept = self._of(ema)
        left = tuple(grant for grant in kept.granted if grant.until > wall)
        self._put(ema, replace(kept, granted=(*left, Granted(watts, until))))

    def ungrant(self, ema: int, watts: float) -> None:
        """The newest grant of so much is taken back."""
        kept = self._of(ema)
        for index in range(len(kept.granted) - 1, -1, -1):
            if kept.granted[index].watts == watts:
                self._put(ema, replace(kept, granted=kept.granted[:index] + kept.granted[index + 1 :]))
                return

    def told(self, ema: int, setting: Setting, command_id: int, now: Instant, own_w: float | None) -> Hold | None:
        """The event that carries a command; None: there is nothing to say, for it is free and never was held."""
        kept = self._of(ema)
        hold = kept.hold
        held = hold is not None and hold.value_w is not None and hold.end > now.wall
        target = _target(setting)
        if target is None:
            if not held or hold is None:
                return None
            freed = replace(hold, value_w=None, start=now.wall, end=now.wall, command_id=command_id, answered=None)
            return self._next(ema, kept, freed)
        if not held or hold is None:
            said = own_w
            hold = Hold(self._event_id(now), -1, None, now.wall, now.wall)
        else:
            said = None if hold.value_w is None else float(hold.value_w)
        value, granted = self._value(kept, target, said, now.wall)
        # After a restart a higher modification may have been sent than was written down.
        same = held and value == hold.value_w and hold.answered is not False and ema not in self._skip
        if same and hold.end - now.wall > self.hold_s / 2:
            self._put(ema, replace(kept, hold=replace(hold, command_id=command_id)))
            return self.current(ema)
        start, end = now.wall - BEFORE_S, now.wall + self.hold_s
        changed = replace(hold, value_w=value, start=start, end=end, command_id=command_id, answered=None)
        return self._next(ema, replace(kept, granted=granted), changed)

    def renewed(self, ema: int, now: Instant) -> Hold | None:
        """The same for longer, where half of its time is over; None: not due."""
        kept = self._of(ema)
        hold = kept.hold
        if hold is None or hold.value_w is None or hold.answered is False:
            return None
        if hold.end - now.wall > self.hold_s / 2:
            return None
        return self._next(ema, kept, replace(hold, end=now.wall + self.hold_s, answered=None))

    def answered(self, ema: int, event_id: int, request_id: int, opt_in: bool) -> Hold | None:
        """Its opt; the event as it stands now, or None: it speaks of an older form, or of what we never said."""
        kept = self._of(ema)
        hold = kept.hold
        if hold is None or (hold.event_id, hold.request_id) != (event_id, request_id):
            return None
        if hold.answered is not opt_in:
            self._put(ema, replace(kept, hold=replace(hold, answered=opt_in)))
        return self.current(ema)

    def forget(self, ema: int) -> None:
        """It belongs to the site no more; what it is held to ends by itself."""
        self._put(ema, _Kept())
        self._kept.pop(ema, None)

    # --- inside ----------------------------------------------------------------------------------------------

    def _value(self, kept: _Kept, target: float, said: float | None, wall: float) -> tuple[int, tuple[Granted, ...]]:
        """(value, grants that stay). It gives up its grants when its limit becomes tighter, and only then."""
        granted = tuple(grant for grant in kept.granted if grant.until > wall)
        extra = sum(grant.watts for grant in granted)
        if not granted:
            return _whole(target), ()
        if said is None or target >= said + extra:
            return _whole(target - extra), granted
        return _whole(min(target, said - 1)), ()

    def _next(self, ema: int, kept: _Kept, hold: Hold) -> Hold:
        step = 1
        if ema in self._skip:
            self._skip.discard(ema)
            step = SKIPPED if hold.modification >= 0 else 1
        hold = replace(hold, modification=min(hold.modification + step, MOST_MODIFICATION))
        self._put(ema, replace(kept, hold=hold))
        return hold

    def _event_id(self, now: Instant) -> int:
        """Never used twice below us."""
        last = int(self._journal.value(LAST_EVENT) or 0)
        number = max(last + 1, math.floor(now.wall) - COUNTED_FROM)
        self._journal.save_value(LAST_EVENT, str(number))
        return number

    def _of(self, ema: int) -> _Kept:
        self.take_up(ema)
        return self._kept[ema]

    def _put(self, ema: int, kept: _Kept) -> None:
        self._kept[ema] = kept
        self._journal.save_value(_key(ema), plain.dumps(kept))


def _key(ema: int) -> str:
    return f"ema_below/{ema}/hold"


def _target(setting: Setting) -> float | None:
    """W of a command; None: free."""
    if setting.on is False:
        return 0.0
    return setting.setpoint_w


def _whole(watts: float) -> int:
    """Rounded down: the sum must not pass the limit."""
    return max(0, min(math.floor(watts + 1e-6), LARGEST_WATTS))
