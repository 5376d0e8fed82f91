"""Reports and their acknowledgement (wire reference, section 8); a device's coming and going is one of them (ours)."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import ClassVar, Self

from gateway.errors import PeerError
from gateway.links.emap1b.messages.head import Answer, Message, read_head, watts_or_none
from gateway.links.emap1b.messages.names import Channel
from gateway.links.emap1b.messages.times import number_of, time_text
from gateway.links.mir2017.messages.devices import DeviceText
from gateway.links.mir2017.messages.fields import HIGHEST_DEVICE, LARGEST_BODY, Fields, device_name, shown, write_json
from gateway.links.mir2017.messages.reports import (
    HIGHEST_DIMMING,
    HIGHEST_PRIORITY,
    MOST_DEVICES,
    DeviceEntry,
)
from gateway.links.mir2017.messages.reports import UpdateReport as SiteReport
from gateway.record import record

EMA_TYPE = "EMA"
UNKNOWN_TYPE = "DEVICE"
MOST_REPORTS = 10
NO_DIMMING = -1
OFF = ("off", "0", "false", "disconnect")
_NUMBER = re.compile(r"[0-9]+\Z")
# What of an entry may be left out where a report would grow beyond a message.
_FILLING = (
    *("resourceID", "itemUnits", "siScaleCode", "marketContext", "minPeriod", "maxPeriod", "onChange"),
    *("itemDescription", "powerAttributes", "qos", "margin", "maxValue", "minValue", "avgValue", "maxTime", "minTime"),
    *("reportType", "generate", "storage"),
)


class Reports(StrEnum):
    """``reportType``: what an entry is about. The last three are a device that came, went or changed (ours)."""

    USAGE = "usage"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CHANGED = "changed"


@record
class TypedEntry(DeviceEntry):
    """A device of an explicit report with what it is, ``led`` or ``ess``; empty: not known."""

    kind: str = ""


@record
class Entry:
    """One ``reportDescription``: the whole EMA (``device_type`` EMA) or one device. Whole W, our signs; None: not
    known, null on the wire. ``threshold`` is ours and stands in the EMA's only, where None is no limit."""

    rid: str
    device_type: str
    on: bool = True
    power: int | None = None
    dimming: int = NO_DIMMING
    margin: int | None = None
    generate: int | None = 0
    storage: int | None = 0
    priority: int = 0
    threshold: int | None = None
    about: str = Reports.USAGE

    @property
    def is_ema(self) -> bool:
        return self.device_type.upper() == EMA_TYPE

    def device(self) -> int:
        """The d of dev/<d>: the number that ``rID`` ends in. Raise ``PeerError``."""
        found = _NUMBER.search(self.rid)
        if found is None or len(found[0]) > 5 or int(found[0]) > HIGHEST_DEVICE:
            raise PeerError(f"UpdateReport rID: {shown(self.rid)} does not end in a number up to {HIGHEST_DEVICE}")
        return int(found[0])

    def keys(self, time: str) -> dict[str, object]:
        """``time``: of the one sample that least, most and average are made of."""
        keys: dict[str, object] = {
            "rID": self.rid,
            "resourceID": self.rid,
            "deviceType": self.device_type,
            "reportType": str(self.about),
            "itemUnits": "W",
            "siScaleCode": "none",
            "marketContext": "",
            "minPeriod": "",
            "maxPeriod": "",
            "onChange": True,
            "itemDescription": "",
            "powerAttributes": {"hertz": None, "voltage": None, "ac": None},
            "state": "on" if self.on else "off",
            "qos": "Controllable",
            "power": self.power,
            "dimming": self.dimming,
            "margin": self.margin,
            "generate": self.generate,
            "storage": self.storage,
            "maxValue": self.power,
            "minValue": self.power,
            "avgValue": self.power,
            "maxTime": time,
            "minTime": time,
            "priority": self.priority,
        }
        return {**keys, "threshold": self.threshold} if self.is_ema else keys

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(
            rid=f.text("rID"),
            device_type=f.text_or("deviceType", ""),
            on=f.text_or("state", "").lower() not in OFF,
            power=watts_or_none(f, "power"),
            dimming=f.whole("dimming", NO_DIMMING, HIGHEST_DIMMING) if f.given("dimming") else NO_DIMMING,
            margin=watts_or_none(f, "margin"),
            generate=watts_or_none(f, "generate"),
            storage=watts_or_none(f, "storage"),
            priority=f.whole_or("priority", 0, 0, HIGHEST_PRIORITY) or 0,
            threshold=watts_or_none(f, "threshold"),
            about=f.text_or("reportType", Reports.USAGE),
        )


@record
class UpdateReport(Message):
    """``time_ms``: when it was measured. An explicit report has an entry for the EMA and one a device, an implicit one
    that for the EMA."""

    service: ClassVar[str] = "UpdateReport"
    channel: ClassVar[Channel] = Channel.REPORT

    explicit: bool = False
    entries: tuple[Entry, ...] = ()

    @property
    def notice(self) -> Reports | None:
        """Is it about a device that came, went or changed."""
        about = self.entries[0].about if len(self.entries) == 1 else ""
        return Reports(about) if about in tuple(Reports) and about != Reports.USAGE else None

    def rest(self) -> dict[str, object]:
        time = "" if self.time_ms is None else time_text(self.time_ms)
        return self._with([entry.keys(time) for entry in self.entries])

    def _with(self, entries: list[dict[str, object]]) -> dict[str, object]:
        return {"type": "Explicit" if self.explicit else "Implicit", "report": [{"reportDescription": entries}]}

    def encode(self) -> bytes:
        """In full; a report that would be larger than a message may be, without what its entries need not say."""
        body = Message.encode(self)
        if len(body) <= LARGEST_BODY:
            return body
        short = [
            {key: value for key, value in entry.keys("").items() if key not in _FILLING or entry.is_ema}
            for entry in self.entries
        ]
        return write_json({**self.head(), **self._with(short)})

    @classmethod
    def read(cls, f: Fields) -> Self:
        kind = f.text("type")
        if kind not in ("Explicit", "Implicit"):
            raise f.wrong("type", "Explicit or Implicit")
        entries = []
        for report in f.objects("report", MOST_REPORTS):
            entries += [Entry.read(entry) for entry in report.objects("reportDescription", MOST_DEVICES + 1)]
        if not entries:
            raise f.wrong("report", "a list with a reportDescription")
        if len(entries) > MOST_DEVICES + 1:
            raise PeerError(f"{cls.service} report: {len(entries)} entries are more than {MOST_DEVICES + 1}")
        return cls(*read_head(f), kind == "Explicit", tuple(entries))

    def site(self, ema: int) -> SiteReport:
        """The report as the other profile says it, too. Raise ``PeerError``."""
        devices = [entry for entry in self.entries if not entry.is_ema]
        whole = next((entry for entry in self.entries if entry.is_ema), None)
        if whole is None:
            power, generate, storage = (_sum(devices, what) for what in ("power", "generate", "storage"))
            whole = Entry(self.source, EMA_TYPE, power=power, generate=generate, storage=storage)
        return SiteReport(
            ema=ema,
            ven_id=self.source,
            request_id=number_of(self.request_id),
            time_ms=self.time_ms,
            power=whole.power,
            threshold=whole.threshold,
            margin=whole.margin,
            generate=whole.generate,
            storage=whole.storage,
            devices=tuple(typed(entry) for entry in devices) if self.explicit else None,
        )


def _sum(entries: list[Entry], what: str) -> int | None:
    values = [getattr(entry, what) for entry in entries]
    return None if None in values else sum(values)


def typed(entry: Entry) -> TypedEntry:
    """A device's entry as a report of the site has it. Raise ``PeerError``."""
    kind = "" if entry.device_type == UNKNOWN_TYPE else entry.device_type.lower()
    return TypedEntry(entry.device(), entry.on, max(0, entry.dimming), entry.power, entry.priority, kind)


def entries_of(name: str, report: SiteReport) -> tuple[Entry, ...]:
    """What a report of the site says about the EMA of that name and, in an explicit one, about each device."""
    whole = Entry(
        rid=name,
        device_type=EMA_TYPE,
        power=report.power,
        margin=report.margin,
        generate=report.generate,
        storage=report.storage,
        threshold=report.threshold,
    )
    return (whole, *(_device(device) for device in report.devices or ()))


def _device(device: DeviceEntry) -> Entry:
    kind = (device.kind if isinstance(device, TypedEntry) else "").upper() or UNKNOWN_TYPE
    return Entry(
        rid=device_name(device.device),
        device_type=kind,
        on=device.on,
        power=device.watt,
        dimming=device.dimming,
        margin=0,
        generate=device.watt if kind == "PV" else 0,
        storage=device.watt if kind == "ESS" else 0,
        priority=device.priority,
    )


def notice_entry(text: DeviceText, about: Reports) -> Entry:
    """A device that came, went or changed."""
    return Entry(
        rid=device_name(text.device),
        device_type=UNKNOWN_TYPE,
        on=text.on,
        power=text.watt,
        dimming=text.dimming,
        margin=0,
        priority=text.priority,
        about=about,
    )


def device_text(entry: Entry, ema: int) -> DeviceText:
    """The same as the other profile says it; a power that is not known can only be 0 there. Raise ``PeerError``."""
    return DeviceText(ema, entry.device(), entry.on, max(0, entry.dimming), entry.power or 0, entry.priority)


class UpdatedReport(Answer):
    """The EMS's application has that report; 4xx: it will never take it, 5xx: not now."""

    __slots__ = ()
    service: ClassVar[str] = "UpdatedReport"
    channel: ClassVar[Channel] = Channel.REPORT
