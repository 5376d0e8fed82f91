"""Moments and durations as ISO 8601 writes them, and numbers for texts that name something."""

from __future__ import annotations

import math
import re
import zlib
from datetime import UTC, datetime, timedelta, tzinfo

from gateway.errors import PeerError
from gateway.links.mir2017.messages.fields import LARGEST_NUMBER, shown

# The end of the year 9999, beyond which no date can be written.
LATEST_MS = 253_402_300_799_999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(
    r"P(?:([0-9]{1,5})W)?(?:([0-9]{1,6})D)?"
    r"(?:T(?:([0-9]{1,8})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,11})(?:\.([0-9]{1,9}))?S)?)?"
)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,15}")


def time_text(ms: int) -> str:
    """``2017-10-17T01:57:00.000Z``; milliseconds since 1970 (UTC), bounded to the years that can be written."""
    at = _EPOCH + timedelta(milliseconds=max(0, min(LATEST_MS, ms)))
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def start_text(wall: float) -> str:
    """A start, rounded down to the second."""
    ms = max(0, min(LATEST_MS, math.floor(wall) * 1000))
    return time_text(ms)[:19] + "Z"


def read_time(text: str, zone: tzinfo | None = UTC) -> int | None:
    """Milliseconds since 1970 of a moment; None for what is no ISO 8601 moment from 1970 to 9999.

    One without an offset is local, in ``zone`` (None: this machine's).
    """
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=zone) if zone is not None else at.astimezone()
        ms = (at - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError, OSError):
        return None
    return ms if 0 <= ms <= LATEST_MS else None


def duration_text(ms: int) -> str:
    """``PT2S``, ``PT1.5S``."""
    seconds, rest = divmod(max(0, ms), 1000)
    return f"PT{seconds}.{rest:03d}".rstrip("0") + "S" if rest else f"PT{seconds}S"


def read_duration(text: str, field: str) -> int:
    """Milliseconds of an ISO 8601 duration in weeks, days, hours, minutes and seconds. Raise ``PeerError``."""
    match = _DURATION.fullmatch(text)
    if match is None or text.endswith("T") or len(text) < 3:
        raise PeerError(f"{field}: {shown(text)} is not a duration such as PT10M")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:5])
    whole = ((weeks * 7 + days) * 24 + hours) * 3600 + minutes * 60 + seconds
    return min(whole * 1000 + int((match[6] or "").ljust(3, "0")[:3]), LATEST_MS)


def number_of(text: str) -> int:
    """A number for a text that names something: itself where it is one, else always the same one of 53 bits.

    Our ids are decimal. A peer may write others; two of them meet in the same number once in 2^52.
    """
    if _DECIMAL.fullmatch(text) is not None and int(text) <= LARGEST_NUMBER:
        return int(text)
    raw = text.encode("utf-8", "surrogatepass")
    return 1 << 52 | zlib.crc32(raw) << 20 | zlib.crc32(raw[::-1]) & 0xF_FFFF
