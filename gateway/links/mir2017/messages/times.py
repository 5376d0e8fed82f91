"""The lab's local ``YYYYMMDD`` and ``HHMM``, and the moments they mean (wire reference, section 2).

``HHMM`` drops seconds: a start is rounded down, an end up, so an event is never shorter than it was asked for. For
the same reason a time that the zone has twice (clocks go back) or not at all (they go forward) is read as the earlier
of its two readings for a start and as the later for an end. ``2400`` is the next day's ``0000``.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo

from gateway.errors import OperatorError, PeerError
from gateway.links.mir2017.messages.fields import shown
from gateway.record import record


def zone_named(name: str) -> tzinfo | None:
    """The zone of that name; None for an empty one, which stands for this machine's own.

    Raise ``OperatorError`` for a name that is not in the zone database.
    """
    if not name:
        return None
    if name == "UTC":
        return UTC
    import zoneinfo  # only where the zone has rules: it costs 0.35 MB

    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise OperatorError(
            f"timezone: {name!r} is not in this machine's zone database; write a name such as Asia/Seoul"
        ) from None


@record
class Span:
    """Start and end as the wire writes them."""

    start_day: str
    start_minute: str
    end_day: str
    end_minute: str


def write_span(start: float, end: float, zone: tzinfo | None) -> Span:
    """Two moments (wall seconds) in local time. An end at or before its start is written as the start: a cancel."""
    first = datetime.fromtimestamp(math.floor(start / 60) * 60, zone).replace(tzinfo=None, fold=0)
    last = first
    if end > start:
        last = datetime.fromtimestamp(math.ceil(end / 60) * 60, zone).replace(tzinfo=None, fold=0)
        # Within an hour that the zone has twice the end may read as before its start.
        last = max(last, first + timedelta(minutes=1))
    return Span(first.strftime("%Y%m%d"), first.strftime("%H%M"), last.strftime("%Y%m%d"), last.strftime("%H%M"))


def read_span(span: Span, zone: tzinfo | None) -> tuple[float, float]:
    """(start, end) in wall seconds; both the same for a cancel. Raise ``PeerError``; an end before its start is one."""
    first = _read(span.start_day, span.start_minute, "Start")
    last = _read(span.end_day, span.end_minute, "End")
    if last < first:
        raise PeerError(f"EndYMD, EndTime: {last:%Y%m%d %H%M} is before the start {first:%Y%m%d %H%M}")
    try:
        start = min(first.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
        if last == first:
            return start, start
        return start, max(last.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    except (ValueError, OverflowError, OSError) as err:
        raise PeerError(f"StartYMD, EndYMD: {first:%Y%m%d}, {last:%Y%m%d}: {err}") from None


def _read(day: str, minute: str, which: str) -> datetime:
    """The local date and time, without a zone."""
    if len(day) != 8 or not (day.isascii() and day.isdigit()):
        raise PeerError(f"{which}YMD: {shown(day)} is not YYYYMMDD")
    if len(minute) != 4 or not (minute.isascii() and minute.isdigit()):
        raise PeerError(f"{which}Time: {shown(minute)} is not HHMM")
    if not 1970 <= int(day[:4]) <= 9998:  # the last year cannot be counted in every zone
        raise PeerError(f"{which}YMD: {shown(day)} is not in the years 1970 to 9998")
    midnight = minute == "2400"
    try:
        local = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), 0 if midnight else int(minute[:2]), int(minute[2:]))
    except ValueError:
        raise PeerError(f"{which}YMD, {which}Time: {shown(day)} {shown(minute)} is no date and time") from None
    return local + timedelta(days=1) if midnight else local
