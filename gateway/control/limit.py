"""What limits the site at one moment, and when that changes (docs/control.md, "The limit")."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.clock import Instant
from gateway.site.decision import Limit, Term
from gateway.site.event import Direction, DrEvent
from gateway.site.picture import Timeline


def limit_at(timeline: Timeline, now: Instant) -> Limit:
    """The limit in force in both directions, with the terms that make it.

    While the wall clock is not trusted no event, grant or loan can be judged: the last threshold holds, less what is
    lent, for a borrower may count on that.
    """
    import_w, terms = _import(timeline, now)
    export_w, export_terms = _export(timeline, now)
    return Limit(import_w, export_w, timeline.phase_a, terms, export_terms)


def binding_event(timeline: Timeline, now: Instant, direction: Direction = Direction.IMPORT) -> DrEvent | None:
    """The running event that makes the soft limit of that direction (None: none does)."""
    if not now.trusted:
        return None
    lowest: DrEvent | None = None
    for event in current_events(timeline.events):
        if event.direction is not direction or not event.running(now.wall):
            continue
        if lowest is None or (event.limit_w, -event.end) < (lowest.limit_w, -lowest.end):
            lowest = event
    standing = timeline.threshold_w if direction is Direction.IMPORT else timeline.export_w
    if lowest is None or (standing is not None and standing < lowest.limit_w):
        return None
    return lowest


def current_events(events: tuple[DrEvent, ...]) -> tuple[DrEvent, ...]:
    """Each event in its highest modification, the cancelled left out."""
    newest: dict[tuple[str, int], DrEvent] = {}
    for event in events:
        known = newest.get((event.upstream, event.event_id))
        if known is None or event.modification >= known.modification:
            newest[event.upstream, event.event_id] = event
    return tuple(event for event in newest.values() if not event.cancelled)


def next_change(timeline: Timeline, now: Instant) -> float | None:
    """Monotonic moment at which the next event, grant or loan begins or ends (None: nothing ahead).

    None too while the wall clock is not trusted: nothing ahead can be placed on the monotonic clock then.
    """
    if not now.trusted:
        return None
    ahead = min((moment for moment in _moments(timeline) if moment > now.wall), default=None)
    return None if ahead is None else now.mono + (ahead - now.wall)


def _moments(timeline: Timeline) -> Iterator[float]:
    for event in current_events(timeline.events):
        yield event.start
        yield event.end
    for grant in timeline.grants:
        yield grant.until
    for loan in timeline.loans:
        yield loan.until


def _import(timeline: Timeline, now: Instant) -> tuple[float | None, tuple[Term, ...]]:
    hard = timeline.hard_w
    if now.trusted:
        soft, terms = _soft(timeline, now, Direction.IMPORT, timeline.threshold_w, "threshold")
        added = _granted_and_lent(timeline, now)
    else:
        last = timeline.last_threshold_w if timeline.last_threshold_w is not None else timeline.threshold_w
        soft, terms = last, () if last is None else (Term("last threshold, clock not trusted", last),)
        added = tuple(Term(f"lent to {loan.peer}", loan.watts) for loan in timeline.loans if loan.watts < 0)
    if soft is None:
        return (None, ()) if hard is None else (max(hard, 0.0), (Term("hard", hard),))
    total = soft + sum(term.watts for term in added)
    if hard is not None and hard < total:
        return max(hard, 0.0), (Term("hard", hard),)
    return max(total, 0.0), terms + added


def _export(timeline: Timeline, now: Instant) -> tuple[float | None, tuple[Term, ...]]:
    soft, terms = _soft(timeline, now, Direction.EXPORT, timeline.export_w, "export limit")
    return (None if soft is None else max(soft, 0.0)), terms


def _soft(
    timeline: Timeline, now: Instant, direction: Direction, standing: float | None, name: str
) -> tuple[float | None, tuple[Term, ...]]:
    event = binding_event(timeline, now, direction)
    if event is not None:
        return event.limit_w, (Term(f"event {event.event_id}", event.limit_w, event.end),)
    return standing, () if standing is None else (Term(name, standing),)


def _granted_and_lent(timeline: Timeline, now: Instant) -> tuple[Term, ...]:
    granted = [Term(f"granted {g.resource}", g.watts, g.until) for g in timeline.grants if g.until > now.wall]
    loans = [
        Term(f"{'borrowed from' if loan.watts >= 0 else 'lent to'} {loan.peer}", loan.watts, loan.until)
        for loan in timeline.loans
        if loan.until > now.wall
    ]
    return (*granted, *loans)
