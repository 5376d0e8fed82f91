"""A member's own limit out of the timeline: what it may lend of, and what it recalls for."""

from __future__ import annotations

from dataclasses import replace

from gateway.clock import Instant
from gateway.control.limit import current_events, limit_at
from gateway.site.picture import Timeline


def own_limits_mw(timeline: Timeline, now: Instant, within_s: float) -> tuple[int, int] | None:
    """(own limit now, the lowest by the events known within ``within_s``), without grants and loans, in whole mW.

    None: no limit binds now, so there is nothing to lend of and no need to borrow.
    """
    bare = replace(timeline, grants=(), loans=())
    own = limit_at(bare, now).import_w
    if own is None:
        return None
    lowest = own
    for event in current_events(timeline.events):
        ahead = event.start - now.wall
        if now.trusted and 0 < ahead <= within_s:
            then = limit_at(bare, Instant(now.mono + ahead, event.start)).import_w
            lowest = min(lowest, own if then is None else then)
    return int(own * 1000), int(lowest * 1000)
