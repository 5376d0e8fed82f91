"""What binds the site from above, and until when: events with their opts, grants, the threshold
(docs/control.md, "The limit"). Kept in the journal, reckoned anew only when something begins, ends or jumps.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.control.limit import limit_at, next_change
from gateway.site.decision import Limit
from gateway.site.picture import Timeline

if TYPE_CHECKING:
    from gateway.clock import Instant
    from gateway.config.model import ControlConfig
    from gateway.journal import Journal
    from gateway.site.event import DrEvent, Grant, Loan

log = logging.getLogger("smartema.control")

# An event that is over is shown for so long, and its random restore delay remembered.
EVENT_KEPT_S = 3600.0
# An upper side must not fill the memory: events that run or come, opts that are remembered, grants.
MOST_EVENTS = 256
MOST_OPTS = 1000
MOST_GRANTS = 256
# A step of the wall clock against the monotonic one; what NTP slews between two looks is far less.
JUMP_S = 1.0
# The limit is reckoned anew at least this often, for slewing moves the moments of a long wait.
RECKON_S = 60.0

EventKey = tuple[str, int]


def key_of(event: DrEvent) -> EventKey:
    """What names an event: ids are unique for one upstream only."""
    return event.upstream, event.event_id


class LimitBook:
    """Events, grants and thresholds that make the limit. ``changed`` is called when a pass is due by it."""

    def __init__(self, control: ControlConfig, journal: Journal, changed: Callable[[], None]) -> None:
        self.events: dict[EventKey, DrEvent] = {}
        self.opted_in: dict[EventKey, tuple[int, bool]] = {}
        self.grants: list[Grant] = []
        self.loans: tuple[Loan, ...] = ()
        self.timeline = Timeline()
        self._control = control
        self._journal = journal
        self._changed = changed
        self._thresholds: dict[str, float] = {}  # what each upper side said last
        self._limit = Limit(None, None)
        self._soft_w: float | None = None
        self._until = 0.0
        self._offset: float | None = None
        self._wall = -math.inf

    def take_up(self, now: Instant, upstreams: Collection[str]) -> float:
        """What the journal holds, of these upper sides. Returns the monotonic moment before which nothing is restored:
        an event may have ended while nobody ran, and its random delay still counts."""
        not_before = 0.0
        for saved in self._journal.events(0.0):
            event, key = saved.event, key_of(saved.event)
            if saved.opted is not None:
                self.opted_in[key] = (event.modification, saved.opted)
            if saved.opted is False or event.cancelled or (now.trusted and event.end + EVENT_KEPT_S < now.wall):
                continue
            self.events[key] = event
            if now.trusted and event.end <= now.wall:
                not_before = max(not_before, now.mono + event.end + event.restore_delay_s - now.wall)
        self.grants = [g for g in self._journal.grants() if not now.trusted or g.until > now.wall]
        told = json.loads(self._journal.value("thresholds_w") or "{}")
        self._thresholds = {name: watts for name, watts in told.items() if name in upstreams}
        self.renew()
        return not_before

    def reconfigure(self, control: ControlConfig, upstreams: Collection[str]) -> None:
        """New numbers. A new threshold in the configuration is a newer word than those from above, and an upper side
        that is there no more has none."""
        stay = () if control.threshold_w != self._control.threshold_w else upstreams
        self._thresholds = {name: watts for name, watts in self._thresholds.items() if name in stay}
        self._save_thresholds()
        self._control = control
        self.renew()

    # --- events ----------------------------------------------------------------------------------------------

    def answered(self, event: DrEvent) -> tuple[int, bool] | None:
        """(modification, opt in) of the newest answer to that event."""
        return self.opted_in.get(key_of(event))

    def is_full(self, event: DrEvent) -> bool:
        """No further event can be kept: as many as may be run or come."""
        full = key_of(event) not in self.events and len(self.events) >= MOST_EVENTS
        return full and not any(map(self._is_over, self.events.values()))

    def put(self, event: DrEvent) -> None:
        """It binds from its start to its end; a cancelled one that is not known binds nobody."""
        if event.cancelled and key_of(event) not in self.events:
            return
        if key_of(event) not in self.events and len(self.events) >= MOST_EVENTS:
            over = min(filter(self._is_over, self.events.values()), key=lambda known: known.end, default=None)
            if over is not None:
                del self.events[key_of(over)]
        self.events[key_of(event)] = event
        self.renew()

    def _is_over(self, event: DrEvent) -> bool:
        return event.cancelled or event.end < self._wall

    def refuse(self, event: DrEvent) -> None:
        """It binds nobody; an earlier form of it ends as a cancelled one does."""
        if key_of(event) in self.events:
            self.events[key_of(event)] = replace(event, end=event.start)
            self.renew()

    def save(self, event: DrEvent, opt_in: bool) -> None:
        """Remember how it was answered."""
        key = key_of(event)
        self.opted_in.pop(key, None)
        self.opted_in[key] = (event.modification, opt_in)
        if len(self.opted_in) > MOST_OPTS:
            oldest = next((k for k in self.opted_in if k not in self.events), None)
            if oldest is not None:
                del self.opted_in[oldest]
                self._journal.forget_event(*oldest)
        self._journal.save_event(event, opt_in)

    def threshold(self, watts: float, upstream: str) -> None:
        """A new default threshold from an upper side, in place of its last one; the lowest of all binds. It survives
        a restart."""
        self._thresholds[upstream] = watts
        self._save_thresholds()
        self.renew()

    def _save_thresholds(self) -> None:
        told = json.dumps(self._thresholds)
        if told != (self._journal.value("thresholds_w") or "{}"):
            self._journal.save_value("thresholds_w", told)

    # --- grants ----------------------------------------------------------------------------------------------

    def grant(self, grant: Grant) -> None:
        """What the upper side allowed on top."""
        if len(self.grants) >= MOST_GRANTS:
            self._remove(min(self.grants, key=lambda g: g.until), "there are too many")
        self.grants.append(grant)
        self._journal.save_grant(grant)
        self.renew()

    def end_grants(self, resource: str | None, why: str) -> None:
        """Give back what one resource (None: everybody) was granted."""
        ended = [g for g in self.grants if resource is None or g.resource == resource]
        for grant in ended:
            self._remove(grant, why)
        if ended:
            self.renew()

    def give_back(self, resource: str, watts: float, why: str) -> None:
        """The newest grant of so much to it came too late."""
        for grant in reversed(self.grants):
            if grant.resource == resource and grant.watts == watts:
                self._remove(grant, why)
                self.renew()
                return

    def _remove(self, grant: Grant, why: str) -> None:
        self.grants.remove(grant)
        self._journal.remove_grant(grant)
        log.info("%.0f W granted to %s by %s end: %s", grant.watts, grant.resource, grant.upstream, why)

    def expire(self, now: Instant) -> None:
        """Forget what is over."""
        self._follow(now)
        if not now.trusted:
            return
        ended = [g for g in self.grants if g.until <= now.wall]
        for grant in ended:
            self._remove(grant, "its time is over")
        over = [key for key, event in self.events.items() if event.end + EVENT_KEPT_S < now.wall]
        for key in over:
            del self.events[key]
        if ended or over:
            self.renew()

    # --- loans ---

    def lend_and_borrow(self, loans: tuple[Loan, ...]) -> None:
        """What is lent and borrowed from now on; the loan desk keeps them on disk."""
        self.loans = loans
        self.renew()

    # --- the limit -------------------------------------------------------------------------------------------

    def limit(self, now: Instant) -> Limit:
        """What binds now."""
        self._follow(now)
        if now.mono >= self._until:
            self._reckon(now)
        return self._limit

    def _follow(self, now: Instant) -> None:
        """Events stand on the wall clock, whatever it does; a grant is a time span, and is moved along with it."""
        offset = now.wall - now.mono
        self._wall = now.wall
        if self._offset is not None and abs(offset - self._offset) > JUMP_S:
            shift = offset - self._offset
            log.warning("the wall clock jumped by %+.0f s", shift)
            moved = [replace(grant, until=grant.until + shift) for grant in self.grants]
            for before, after in zip(self.grants, moved, strict=True):
                self._journal.remove_grant(before)
                self._journal.save_grant(after)
            self.grants = moved
            self._offset = offset
            self.renew()
        self._offset = offset

    def _reckon(self, now: Instant) -> None:
        timeline = self.timeline
        self._limit = limit_at(timeline, now)
        if not now.trusted:
            self._until = now.mono + 1.0
            return
        bare, last = timeline, self._limit.import_w
        if timeline.grants or timeline.loans:
            bare = replace(timeline, grants=(), loans=())
            last = limit_at(bare, now).import_w
        soft = last if timeline.hard_w is None else limit_at(replace(bare, hard_w=None), now).import_w
        soft_w = math.inf if soft is None else soft
        tighter = self._soft_w is not None and soft_w < self._soft_w
        self._soft_w = soft_w
        if last != timeline.last_threshold_w:
            self.timeline = replace(timeline, last_threshold_w=last)
            self._journal.save_value("last_threshold_w", "" if last is None else f"{last:.3f}")
        if self.grants and tighter:
            self.end_grants(None, "the limit became tighter")
            self._limit = limit_at(self.timeline, now)
        change = next_change(self.timeline, now)
        self._until = min(now.mono + RECKON_S, math.inf if change is None else change)

    def renew(self) -> None:
        """Something that makes the limit changed."""
        control = self._control
        last = self._journal.value("last_threshold_w")
        self.timeline = Timeline(
            threshold_w=min(self._thresholds.values(), default=control.threshold_w or None),
            hard_w=control.hard_w or None,
            export_w=control.export_w if control.export_w >= 0 else None,
            phase_a=tuple(control.fuse_a),
            # Control has noted by now which of them ran; those that are over would be looked at in each pass.
            events=tuple(e for e in self.events.values() if not e.cancelled and e.end > self._wall - RECKON_S),
            grants=tuple(self.grants),
            loans=self.loans,
            last_threshold_w=float(last) if last else None,
        )
        self._until = 0.0
        self._changed()
