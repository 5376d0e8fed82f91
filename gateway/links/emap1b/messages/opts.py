"""Reverse DR: a device asks its power back (wire reference, section 8)."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import ClassVar, Self

from gateway.errors import PeerError
from gateway.links.emap1b.messages.head import Answer, Message, read_head, read_response, text_of, watts_or_none
from gateway.links.emap1b.messages.names import Channel
from gateway.links.emap1b.messages.times import read_time, start_text, time_text
from gateway.links.mir2017.messages.fields import Fields, parse_device, shown
from gateway.record import record

RDR_REQUEST = "RdrRequest"
REASON = "Emergency"
ACCEPT, DENY = "Accept", "Deny"
# The profile's own example; the EMA itself ends a grant.
LASTS = "PT10S"
_LASTS = timedelta(seconds=10)
MOST_AVAILABLE = 96
HIGHEST_DAY, HIGHEST_TIME = 99_991_231, 235_959


@record
class Available:
    """``power`` W, wanted from ``start`` (ISO 8601) for ``duration``. The four numbers say it again in local time,
    ``YYYYMMDD`` and ``HHMMSS``; 0 where they are not given."""

    start: str
    duration: str
    power: int
    start_day: int = 0
    start_time: int = 0
    end_day: int = 0
    end_time: int = 0

    @classmethod
    def at(cls, wall: float, zone: tzinfo | None, watts: int) -> Self:
        """From ``wall`` seconds on. ``zone`` None: this machine's."""
        begin = datetime.fromtimestamp(wall, zone)
        end = datetime.fromtimestamp(wall + _LASTS.total_seconds(), zone)
        return cls(start_text(wall), LASTS, watts, _day(begin), _time(begin), _day(end), _time(end))

    def keys(self) -> dict[str, object]:
        return {
            "dtStart": self.start,
            "duration": self.duration,
            "requestPower": self.power,
            "startYMD": self.start_day,
            "startTime": self.start_time,
            "endYMD": self.end_day,
            "endTime": self.end_time,
        }

    @classmethod
    def read(cls, f: Fields) -> Self:
        power = watts_or_none(f, "requestPower")
        if power is None or power < 0:
            raise f.wrong("requestPower", "a power in W")
        return cls(
            f.text_or("dtStart", ""),
            text_of(f, "duration", ""),
            power,
            f.whole_or("startYMD", 0, 0, HIGHEST_DAY) or 0,
            f.whole_or("startTime", 0, 0, HIGHEST_TIME) or 0,
            f.whole_or("endYMD", 0, 0, HIGHEST_DAY) or 0,
            f.whole_or("endTime", 0, 0, HIGHEST_TIME) or 0,
        )


def _day(at: datetime) -> int:
    return at.year * 10_000 + at.month * 100 + at.day


def _time(at: datetime) -> int:
    return at.hour * 10_000 + at.minute * 100 + at.second


@record
class CreateOpt(Message):
    """``resource``: which device asks, ``dev/<d>`` (ours); without it the EMA asks for itself."""

    service: ClassVar[str] = "CreateOpt"
    channel: ClassVar[Channel] = Channel.OPT

    opt_id: str = ""
    resource: str = ""
    available: tuple[Available, ...] = ()
    created_ms: int | None = None

    @property
    def device(self) -> int:
        """The d of dev/<d>; 0 for the EMA itself. Raise ``PeerError``."""
        return parse_device(self.resource, "CreateOpt resourceID") if self.resource else 0

    def rest(self) -> dict[str, object]:
        keys: dict[str, object] = {
            "optID": self.opt_id,
            "optType": RDR_REQUEST,
            "optReason": REASON,
            "marketContext": "",
            "createdDateTime": "" if self.created_ms is None else time_text(self.created_ms),
            "available": [one.keys() for one in self.available],
        }
        return {**keys, "resourceID": self.resource} if self.resource else keys

    @classmethod
    def read(cls, f: Fields) -> Self:
        if f.text("optType") != RDR_REQUEST:
            raise f.wrong("optType", RDR_REQUEST)
        available = tuple(Available.read(one) for one in f.objects("available", MOST_AVAILABLE))
        if not available:
            raise PeerError(f"{cls.service} available: {shown([])} names no power")
        created = read_time(f.text_or("createdDateTime", ""))
        return cls(*read_head(f), text_of(f, "optID", ""), f.text_or("resourceID", ""), available, created)


@record
class CreatedOpt(Answer):
    """200 and ``Accept``, or 400 and ``Deny``."""

    service: ClassVar[str] = "CreatedOpt"
    channel: ClassVar[Channel] = Channel.OPT

    opt_id: str = ""
    accepted: bool = True

    def rest(self) -> dict[str, object]:
        return {"optStatus": ACCEPT if self.accepted else DENY, "optID": self.opt_id}

    @classmethod
    def read(cls, f: Fields) -> Self:
        status = f.text_or("optStatus", "")
        if status not in (ACCEPT, DENY, ""):
            raise f.wrong("optStatus", f"{ACCEPT} or {DENY}")
        code, description = read_response(f)
        accepted = code == 200 and status != DENY
        return cls(*read_head(f), code, description, text_of(f, "optID", ""), accepted)
