"""Moments and durations as people write them: ``now``, ``14:30``, ``2026-05-01T14:30``, ``10m``."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, tzinfo

from headend.ems.errors import Refused

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|m|s)", re.I)
_SECONDS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def moment(field: str, value: float | str, now: float, zone: tzinfo | None) -> float:
    """Wall seconds. ``HH:MM`` is the next such time; a time without offset is in ``zone`` (None: this machine's).

    Raise ``Refused`` that names the field and says what would be right.
    """
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise Refused(field, f"{value} is not a time")
        return float(value)
    text = value.strip()
    if text.lower() == "now":
        return now
    try:
        clock = _CLOCK.fullmatch(text)
        if clock is not None:
            today = datetime.fromtimestamp(now, zone)
            then = today.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
            if then.timestamp() <= now - 60:
                then += timedelta(days=1)
            return then.timestamp()
        then = datetime.fromisoformat(text)
        if then.tzinfo is None:
            then = then.replace(tzinfo=zone)
        return then.timestamp()
    except (ValueError, OverflowError, OSError):
        raise Refused(field, f"{text[:40]!r} is not a time; write now, 14:30 or 2026-05-01T14:30") from None


def duration(field: str, text: str) -> float:
    """Seconds of ``90s``, ``10m``, ``1h30m``, ``2d``. Raise ``Refused``."""
    packed = text.strip()
    parts = _PART.findall(packed)
    if not parts or _PART.sub("", packed).strip():
        raise Refused(field, f"{packed[:40]!r} is not a duration; write 90s, 10m, 1h30m or 2d")
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)


def shown(at: float | None, zone: tzinfo | None) -> str:
    """``2026-05-01 14:30:05`` in the zone; ``–`` when not known."""
    return "–" if at is None else datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")
