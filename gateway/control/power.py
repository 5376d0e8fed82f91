"""The power that counts: what was read, and what newer commands will make of it (docs/control.md).

``site_power`` runs at each report of each device: one loop, and nothing is made for a resource.
"""

from __future__ import annotations

import math

from gateway.clock import Instant
from gateway.control.effects import full_power, most_of_ema, read_back, reading_power, setting_power
from gateway.control.rules import Rules
from gateway.record import slim
from gateway.site.command import Pending
from gateway.site.picture import Connection, ResourceState, Site
from gateway.site.resource import Kind, Reading, Setting

METER = "meter"

# Two ways to compare the same two moments may differ by this much.
ROUNDING_S = 1e-6


@slim(frozen=True, slots=True)
class SitePower:
    """The power that counts at ``at`` (monotonic).

    ``reserved_w``: margin held for granted RDRs that no command shows yet. ``stale``: whose reading is too old and
    is taken at its worst. ``unknown``: who is there and never said anything. ``underway``: a command still counts.
    """

    watts: float
    at: float
    reserved_w: float = 0.0
    stale: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    underway: bool = False

    @property
    def certain(self) -> bool:
        """Nothing is taken at its worst: grants and restores may be made."""
        return not self.stale and not self.unknown


def site_power(site: Site, now: Instant, rules: Rules) -> SitePower:
    """The site's power: by its grid meter where it has one and is on the grid, else the sum of its devices.

    A meter that said nothing yet is unknown: until it speaks the devices are summed, and nothing is given back.
    """
    reserved = reserved_power(site, now)
    if site.has_meter and site.connection is not Connection.ISLAND:
        return _metered(site, now, rules, reserved)
    oldest = now.mono - rules.stale_after_s
    total = 0.0
    stale: list[str] | None = None
    unknown: list[str] | None = None
    underway = False
    for state in site.resources:
        reading = state.reading
        if reading is not None and state.pending is None and reading.taken_at >= oldest:
            watts = reading.power_w
            if watts is not None:
                total += watts
                continue
        total += counted_power(state, now, rules)
        if state.present and (reading is None or reading.taken_at < oldest):
            if reading is None:
                unknown = [*(unknown or ()), state.resource.name]
            else:
                stale = [*(stale or ()), state.resource.name]
        underway = underway or counts(state, now)
    return SitePower(total, now.mono, reserved, tuple(stale or ()), tuple(unknown or ()), underway)


def expected_power(state: ResourceState, now: Instant, rules: Rules) -> float | None:
    """What one resource draws now, by its reading and a newer command. None: it said nothing, or too long ago."""
    reading = state.reading
    if reading is None or reading.taken_at < now.mono - rules.stale_after_s:
        return None
    return _by_reading(state, reading, now)


def counted_power(state: ResourceState, now: Instant, rules: Rules) -> float:
    """What one resource counts in the sum: expected, or the worst where nothing is known.

    A resource that said good-bye (not present, no reading) does not count. One that came and said nothing yet
    counts as it was last known. One that vanished counts as it last read, then at its worst, and once its lease has
    ended as its safe state.
    """
    reading = state.reading
    if reading is None:
        return last_known_power(state) if state.present else 0.0
    age = now.mono - reading.taken_at
    expected = _by_reading(state, reading, now)
    if age <= rules.stale_after_s:
        return expected if expected is not None else worst_power(state)
    if not state.present and age > state.resource.lease_s and state.resource.safe != Setting():
        return setting_power(state, state.resource.safe)
    return max(expected or 0.0, worst_power(state))


def last_known_power(state: ResourceState) -> float:
    """What it was held to, else what it drew, before the EMA started or it came back (0: never seen)."""
    if state.held is not None:
        return setting_power(state, state.held)
    return 0.0 if state.wish.on is False else state.wish_w


def worst_power(state: ResourceState) -> float:
    """The most it may draw while nothing is heard of it. A generator is never counted on, a store may stand still."""
    resource = state.resource
    if resource.kind is Kind.PV:
        return 0.0
    if resource.kind is Kind.ESS:
        return max(state.wish_w, 0.0)
    if resource.kind is Kind.EMA:
        return most_of_ema(state)
    if resource.kind is Kind.EV and resource.setpoint is not None:
        return resource.setpoint.max_w
    return full_power(state)


def counts(state: ResourceState, now: Instant) -> bool:
    """Is its last command newer than its reading, so that the command counts and not the reading?"""
    pending = state.pending
    if pending is None or pending.confirmed_at is not None or read_back(state):
        return False
    reading = state.reading
    in_effect = pending.sent_at + pending.latency_s
    if reading is not None and reading.taken_at >= in_effect:
        return False
    return now.mono < in_effect or not sheds(state, pending)


def holds_until(state: ResourceState, now: Instant, rules: Rules) -> float:
    """Until when ``counted_power`` of this very state is as it is now (monotonic seconds; infinite: for ever).

    May be sooner than needed, never later; around such a moment, where roundings decide, it is now.
    """
    reading, pending = state.reading, state.pending
    moments: list[float] = []
    if reading is not None:
        moments.append(reading.taken_at + rules.stale_after_s)
        if not state.present:
            moments.append(reading.taken_at + state.resource.lease_s)
    if pending is not None and pending.confirmed_at is None:
        moments.append(pending.sent_at + pending.latency_s)
    ahead = [moment for moment in moments if moment > now.mono - ROUNDING_S]
    return max(min(ahead) - ROUNDING_S, now.mono) if ahead else math.inf


def told_already(state: ResourceState, now: Instant, rules: Rules) -> bool:
    """Is a shed on its way to a resource that was not heard of for too long?

    It counts at its worst whatever it was told. To say the same at each pass brings nothing, and its command would
    never be found unanswered.
    """
    reading, pending = state.reading, state.pending
    if reading is None or pending is None or now.mono - reading.taken_at <= rules.stale_after_s:
        return False
    return sheds(state, pending) and counts(state, now)


def unanswered(state: ResourceState, now: Instant) -> bool:
    """Was its last command not confirmed in time? Then the plan goes on without it."""
    pending = state.pending
    if pending is None or pending.confirmed_at is not None or read_back(state):
        return False
    return now.mono >= pending.sent_at + pending.latency_s


def sheds(state: ResourceState, pending: Pending) -> bool:
    """Does a command relieve the site: less load, or of a generator less generation?"""
    if state.resource.kind is Kind.PV:
        return pending.target_w > pending.base_w
    return pending.target_w < pending.base_w


def _by_reading(state: ResourceState, reading: Reading, now: Instant) -> float | None:
    read = reading_power(state, reading)
    pending = state.pending
    if pending is None or not counts(state, now):
        return read
    if sheds(state, pending) or read is None:
        return pending.target_w
    return min(read, pending.target_w) if state.resource.kind is Kind.PV else max(read, pending.target_w)


def _metered(site: Site, now: Instant, rules: Rules, reserved: float) -> SitePower:
    meter = site.meter
    if meter is None or meter.power_w is None:
        total = sum(counted_power(state, now, rules) for state in site.resources)
        return SitePower(total, now.mono, reserved, unknown=(METER,))
    total = meter.power_w
    underway = False
    for state in site.resources:
        pending = state.pending
        while pending is not None:
            if _newer_than_meter(state, pending, meter.taken_at, now):
                total += pending.target_w - pending.base_w
                underway = True
            pending = pending.earlier
    stale = (METER,) if now.mono - meter.taken_at > rules.stale_after_s else ()
    return SitePower(total, now.mono, reserved, stale, underway=underway)


def _newer_than_meter(state: ResourceState, pending: Pending, metered_at: float, now: Instant) -> bool:
    reading = state.reading
    confirmed_at = pending.confirmed_at
    if confirmed_at is None and pending is state.pending and reading is not None and read_back(state):
        confirmed_at = reading.taken_at
    if confirmed_at is not None:
        return metered_at < confirmed_at or metered_at <= pending.sent_at
    in_effect = pending.sent_at + pending.latency_s
    if metered_at >= in_effect:
        return False
    if now.mono < in_effect:
        return True
    return not sheds(state, pending) and (reading is None or reading.taken_at < in_effect)


def reserved_power(site: Site, now: Instant) -> float:
    """The W held back for granted RDRs that no command shows yet."""
    total = 0.0
    for reservation in site.reservations:
        if reservation.until <= now.mono:
            continue
        state = next((s for s in site.resources if s.resource.name == reservation.resource), None)
        shown = state is not None and state.pending is not None and state.pending.target_w > state.pending.base_w
        if not shown:
            total += reservation.watts
    return total
