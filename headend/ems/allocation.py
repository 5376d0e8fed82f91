"""Divides one total among EMAs (docs/allocation.md), and tells each its part.

A part is told as an event of its own, with the part as its value: that is the one limit of the profile that an EMA
acknowledges, keeps over a restart and gives up by itself when its time is over. A new allocation changes the events of
the one before.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.control.allocation import ALGORITHMS, allocate
from gateway.control.allocation.base import Party, Share
from headend.ems.book import Book, check_watts
from headend.ems.errors import Refused
from headend.ems.events import EventDesk
from headend.ems.state import Event

# What the event log calls the author of these events.
BY = "allocation"


@dataclass(frozen=True, slots=True)
class Stated:
    """What an operator states of one EMA; None: what the EMS knows of it, or the algorithm's own default. W, a kWh."""

    demand_w: float | None = None
    own_w: float | None = None
    priority: int = 0
    least_w: float = 0.0
    most_w: float | None = None
    ask: int = 0
    cap: int | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class PartView:
    """One EMA's part, in W. ``event``: how it is told (None: a preview)."""

    ema: str
    limit_w: float
    demand_w: float
    own_w: float
    why: str
    event: int | None = None


@dataclass(frozen=True, slots=True)
class AllocationView:
    """Who gets what, by which algorithm. ``given_w`` is less than ``total_w`` where every connection is full, or by
    what whole watts leave."""

    algorithm: str
    total_w: float
    given_w: float
    parts: list[PartView]


class AllocationDesk:
    """Previews and applies."""

    def __init__(self, book: Book, events: EventDesk) -> None:
        self._book = book
        self._events = events
        # Two at once would each make an event of its own for the same EMA.
        self._one_at_a_time = asyncio.Lock()

    def preview(self, algorithm: str, total_w: float, stated: Mapping[str, Stated]) -> AllocationView:
        """Who would get what. Raise ``Refused`` or ``Unknown``."""
        parties = [self._party(name, said) for name, said in stated.items()]
        shares = self._divided(algorithm, total_w, parties)
        parts = [
            PartView(share.name, share.limit_mw // 1000, party.demand_mw / 1000, party.own_mw / 1000, share.why)
            for share, party in zip(shares, parties, strict=True)
        ]
        return AllocationView(algorithm, total_w, sum(part.limit_w for part in parts), parts)

    async def apply(
        self, algorithm: str, total_w: float, stated: Mapping[str, Stated], start: float, end: float
    ) -> AllocationView:
        """The same, and each EMA is told its part from ``start`` to ``end`` (wall seconds); who had a part of an
        earlier allocation and has none now is told that it is over. Raise ``Refused`` or ``Unknown``."""
        async with self._one_at_a_time:
            return await self._apply(algorithm, total_w, stated, start, end)

    async def _apply(
        self, algorithm: str, total_w: float, stated: Mapping[str, Stated], start: float, end: float
    ) -> AllocationView:
        view = self.preview(algorithm, total_w, stated)
        standing = self._standing()
        told = []
        # Who gets less than before is told first.
        for part in sorted(view.parts, key=lambda part: part.limit_w - self._told_w(standing, part.ema)):
            known = standing.pop(part.ema, None)
            if known is None:
                event = await self._events.create(part.limit_w, start, end, [part.ema], by=BY)
            else:
                event = await self._events.change(known.id, part.limit_w, start, end)
            told.append((part.ema, event.id))
        for event in standing.values():
            await self._events.cancel(event.id)
        numbers = dict(told)
        parts = [PartView(p.ema, p.limit_w, p.demand_w, p.own_w, p.why, numbers[p.ema]) for p in view.parts]
        return AllocationView(view.algorithm, view.total_w, view.given_w, parts)

    async def end(self) -> int:
        """No EMA has a part any more; how many were told so."""
        async with self._one_at_a_time:
            standing = self._standing()
            for event in standing.values():
                await self._events.cancel(event.id)
            return len(standing)

    def _standing(self) -> dict[str, Event]:
        """The events that tell the parts now, by EMA."""
        wall = self._book.wall
        return {
            name: event
            for event in self._book.events.values()
            if event.created_by == BY and event.state(wall) in ("upcoming", "running")
            for name in event.deliveries
        }

    @staticmethod
    def _told_w(standing: Mapping[str, Event], name: str) -> float:
        event = standing.get(name)
        return math.inf if event is None else event.value_w

    def _party(self, name: str, said: Stated) -> Party:
        book = self._book
        ema = book.ema(name, "emas")
        demand, own = said.demand_w, said.own_w
        if demand is None:
            demand = book.power(ema)
        if demand is None:
            raise Refused("emas", f"{book.why_unknown(ema)}; state its demand_w")
        if own is None:
            own = book.limits.get(name, ema.threshold_w)
        return Party(
            name,
            _mw("demand_w", max(demand, 0.0)),
            _mw("own_w", max(own or 0.0, 0.0)),
            said.priority,
            _mw("least_w", said.least_w),
            None if said.most_w is None else _mw("most_w", said.most_w),
            said.ask,
            said.cap,
            said.weight,
        )

    @staticmethod
    def _divided(algorithm: str, total_w: float, parties: Sequence[Party]) -> tuple[Share, ...]:
        if algorithm not in ALGORITHMS:
            raise Refused("algorithm", f"{algorithm!r} is none of {', '.join(ALGORITHMS)}")
        if not parties:
            raise Refused("emas", "name the EMAs that the total is divided among")
        try:
            return allocate(algorithm, _mw("total_w", total_w), parties)
        except ValueError as err:
            raise Refused("emas", str(err)) from None


def _mw(field: str, watts: float) -> int:
    return round(check_watts(field, watts) * 1000)
