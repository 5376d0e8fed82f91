"""The lab's datagrams (wire reference, section 6): VTN and EMS in JSON, EMA and EMS in text.

``EiUpdate/{Explicit|Implicit}/<YYYYMMDD>/<HHMMSS>/<device>/<power>/…``: what follows the power was never documented;
ours is ``<threshold>/<margin>/EMA<n>`` after an implicit report and ``<state>/<dimming>/<priority>/EMA<n>`` after an
explicit one, one datagram a device. ``-`` stands for no limit. A report that ends after the power (the lab's) is of
whoever the datagram's address belongs to.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import ClassVar, Self

from gateway.errors import PeerError
from gateway.links.mir2017.messages.fields import (
    HIGHEST_DEVICE,
    HIGHEST_EMA,
    LARGEST_WATTS,
    LONGEST_TEXT,
    Fields,
    parse_whole,
    read_json,
    shown,
    write_json,
)
from gateway.links.mir2017.messages.reports import HIGHEST_DIMMING, HIGHEST_PRIORITY
from gateway.links.mir2017.messages.setup import DURATION_MS, LEAST_DURATION_MS, MOST_DURATION_MS
from gateway.links.mir2017.messages.times import Span, read_span, write_span
from gateway.record import record

EMS_ID = "MIR_EMS"
EMS_VERSION = "MIR_EMS_Version_1.0"
TRANSPORT = "UDP/JSON"
# What an Ethernet frame carries without being cut; nothing of this profile is longer.
LARGEST_DATAGRAM = 1472
MOST_VENS = 1_000_000
NO_LIMIT = "-"


@record
class VtnRegistration:
    """VTN → EMS: ``CreatedVTNPartyRegistration``."""

    kind: ClassVar[str] = "CreatedVTNPartyRegistration"

    vtn_id: str
    registration_id: str
    ven_number: int
    profile: str = "2.0b"
    transport: str = TRANSPORT

    def encode(self) -> bytes:
        return write_json(
            {
                "msgType": self.kind,
                "vtnID": self.vtn_id,
                "ProfileName": self.profile,
                "TransportName": self.transport,
                "registrationID": self.registration_id,
                "venNum": self.ven_number,
            }
        )

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(
            f.text("vtnID"),
            str(f.scalar("registrationID")),
            f.whole("venNum", 0, MOST_VENS),
            f.text_or("ProfileName", ""),
            f.text_or("TransportName", ""),
        )


@record
class VtnRegistrationAck:
    """EMS → VTN; ``duration_ms``: how often it wants to hear of the VTN."""

    kind: ClassVar[str] = "CreatedVTNPartyRegistrationACK"

    vtn_id: str
    registration_id: str
    duration_ms: int = DURATION_MS
    response: int = 200

    def encode(self) -> bytes:
        return write_json(
            {
                "msgType": self.kind,
                "VTNID": self.vtn_id,
                "EMSID": EMS_ID,
                "TransportName": TRANSPORT,
                "Version": EMS_VERSION,
                "Response": self.response,
                "ResponseType": "OK" if self.response == 200 else "Deny",
                "RegistrationID": self.registration_id,
                "Duration": self.duration_ms,
            }
        )

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(
            f.text("VTNID"),
            str(f.scalar("RegistrationID")),
            f.whole("Duration", LEAST_DURATION_MS, MOST_DURATION_MS),
            f.whole("Response", 0, 999),
        )


@record
class VtnReport:
    """VTN → EMS: ``vtnReport``, the W that its VENs draw."""

    kind: ClassVar[str] = "vtnReport"

    vtn_id: str
    ven_number: int
    value: float
    profile: str = "2.0b"
    transport: str = TRANSPORT

    def encode(self) -> bytes:
        return write_json(
            {
                "msgType": self.kind,
                "vtnID": self.vtn_id,
                "venNum": self.ven_number,
                "ProfileName": self.profile,
                "TransportName": self.transport,
                "currentValue": self.value,
            }
        )

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(
            f.text("vtnID"),
            f.whole("venNum", 0, MOST_VENS),
            f.number("currentValue"),
            f.text_or("ProfileName", ""),
            f.text_or("TransportName", ""),
        )


@record
class VtnDeregistration:
    """VTN → EMS: ``DestroyVTNPartyRegistration``."""

    kind: ClassVar[str] = "DestroyVTNPartyRegistration"

    vtn_id: str

    def encode(self) -> bytes:
        return write_json({"msgType": self.kind, "vtnID": self.vtn_id})

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(f.text("vtnID"))


@record
class _Ack:
    """``{msgType,EMSID,VTNID,Response:200}``."""

    kind: ClassVar[str] = ""

    vtn_id: str
    response: int = 200

    def encode(self) -> bytes:
        return write_json({"msgType": self.kind, "EMSID": EMS_ID, "VTNID": self.vtn_id, "Response": self.response})

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(f.text("VTNID"), f.whole("Response", 0, 999))


class VtnReportAck(_Ack):
    """EMS → VTN."""

    __slots__ = ()
    kind: ClassVar[str] = "vtnReportACK"


class VtnDeregistrationAck(_Ack):
    """EMS → VTN."""

    __slots__ = ()
    kind: ClassVar[str] = "DestroyVTNPartyRegistrationACK"


ToEms = VtnRegistration | VtnReport | VtnDeregistration
ToVtn = VtnRegistrationAck | VtnReportAck | VtnDeregistrationAck
_TO_EMS: dict[str, type[ToEms]] = {kind.kind: kind for kind in (VtnRegistration, VtnReport, VtnDeregistration)}
_TO_VTN: dict[str, type[ToVtn]] = {kind.kind: kind for kind in (VtnRegistrationAck, VtnReportAck, VtnDeregistrationAck)}


def read_from_vtn(body: bytes) -> ToEms:
    """What a VTN says. Raise ``PeerError``."""
    f, kind = _typed(body)
    if kind not in _TO_EMS:
        raise f.wrong("msgType", " or ".join(_TO_EMS))
    return _TO_EMS[kind].read(f)


def read_from_ems(body: bytes) -> ToVtn:
    """What the EMS answers to a VTN. Raise ``PeerError``."""
    f, kind = _typed(body)
    if kind not in _TO_VTN:
        raise f.wrong("msgType", " or ".join(_TO_VTN))
    return _TO_VTN[kind].read(f)


def _typed(body: bytes) -> tuple[Fields, str]:
    if len(body) > LARGEST_DATAGRAM:
        raise PeerError(f"datagram: {len(body)} bytes are more than {LARGEST_DATAGRAM}")
    f = read_json(body, "datagram")
    return f, f.text("msgType")


@record
class EiUpdate:
    """EMA → EMS: the site (``device`` None), or one device. ``at``: wall seconds. ``ema`` None: not said."""

    at: float
    power: int
    device: int | None = None
    ema: int | None = None
    threshold: int | None = None
    margin: int | None = None
    on: bool = True
    dimming: int = 0
    priority: int = 0

    def encode(self, zone: tzinfo | None) -> bytes:
        """``zone`` None: this machine's."""
        local = datetime.fromtimestamp(self.at, zone)
        head = ["EiUpdate", "Implicit" if self.device is None else "Explicit", f"{local:%Y%m%d}", f"{local:%H%M%S}"]
        if self.device is None:
            rest = [f"EMA{self.ema or 0}", str(self.power), *map(_or_dash, (self.threshold, self.margin))]
        else:
            rest = [f"dev{self.device}", str(self.power), str(int(self.on)), str(self.dimming), str(self.priority)]
        if self.ema is not None:
            rest.append(f"EMA{self.ema}")
        return "/".join(head + rest).encode("ascii")

    @classmethod
    def decode(cls, body: bytes, zone: tzinfo | None) -> Self:
        """Raise ``PeerError``. Parts behind those we know are ignored."""
        parts = _text(body).split("/")
        if len(parts) < 6 or parts[0] != "EiUpdate" or parts[1] not in ("Explicit", "Implicit"):
            raise PeerError(
                f"EiUpdate: {shown(parts)} is not EiUpdate/Explicit|Implicit/<date>/<time>/<device>/<power>/"
            )
        at = _moment(parts[2], parts[3], zone)
        power = _watts(parts[5], "power")
        more = parts[6:]
        if parts[1] == "Implicit":
            threshold, margin = (_limit(more, index) for index in (0, 1))
            ema = _ema(more[2]) if len(more) > 2 else _ema_or_none(parts[4])
            return cls(at, power, None, ema, threshold, margin)
        device = parse_whole(parts[4].removeprefix("dev"), "EiUpdate device", 0, HIGHEST_DEVICE)
        on = _given(more, 0, "state", 1, 1) == 1
        dimming = _given(more, 1, "dimming", HIGHEST_DIMMING, 0)
        priority = _given(more, 2, "priority", HIGHEST_PRIORITY, 0)
        ema = _ema(more[3]) if len(more) > 3 else None
        return cls(at, power, device, ema, on=on, dimming=dimming, priority=priority)


@record
class EventLine:
    """EMS → EMA: ``YYYYMMDD,HHMM,YYYYMMDD,HHMM,<value>``; W that the site may draw, whole minutes."""

    start: float
    end: float
    value: int

    def encode(self, zone: tzinfo | None) -> bytes:
        s = write_span(self.start, self.end, zone)
        return f"{s.start_day},{s.start_minute},{s.end_day},{s.end_minute},{self.value}".encode("ascii")

    @classmethod
    def decode(cls, body: bytes, zone: tzinfo | None) -> Self:
        """Raise ``PeerError``. The line has no number: who takes it knows an event by its start."""
        parts = _text(body).split(",")
        if len(parts) != 5:
            raise PeerError(f"event: {shown(','.join(parts))} is not YYYYMMDD,HHMM,YYYYMMDD,HHMM,<value>")
        start, end = read_span(Span(*parts[:4]), zone)
        return cls(start, end, parse_whole(parts[4], "event value", 0, LARGEST_WATTS))


def _text(body: bytes) -> str:
    if len(body) > LONGEST_TEXT:
        raise PeerError(f"datagram: {len(body)} bytes are more than {LONGEST_TEXT}")
    try:
        text = body.decode("ascii").rstrip("\r\n\0")
    except UnicodeDecodeError:
        text = "\n"
    if not text.isprintable():
        raise PeerError(f"datagram: {shown(body[:40])} is not printable ASCII")
    return text


def _or_dash(watts: int | None) -> str:
    return NO_LIMIT if watts is None else str(watts)


def _watts(text: str, name: str) -> int:
    return parse_whole(text, f"EiUpdate {name}", -LARGEST_WATTS, LARGEST_WATTS)


def _limit(parts: list[str], index: int) -> int | None:
    if index >= len(parts) or parts[index] in ("", NO_LIMIT):
        return None
    return _watts(parts[index], ("threshold", "margin")[index])


def _given(parts: list[str], index: int, name: str, most: int, default: int) -> int:
    if index >= len(parts) or not parts[index]:
        return default
    return parse_whole(parts[index], f"EiUpdate {name}", 0, most)


def _ema(text: str) -> int:
    return parse_whole(text.removeprefix("EMA"), "EiUpdate EMA", 1, HIGHEST_EMA)


def _ema_or_none(text: str) -> int | None:
    """A site's name in place of the device; the lab's may be anything."""
    number = text.removeprefix("EMA")
    return int(number) if number.isdigit() and len(number) <= 5 and int(number) > 0 else None


def _moment(day: str, time: str, zone: tzinfo | None) -> float:
    try:
        if len(day) != 8 or len(time) != 6 or not (day + time).isdigit() or not 1970 <= int(day[:4]) <= 9998:
            raise ValueError
        return datetime.strptime(day + time, "%Y%m%d%H%M%S").replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError, OSError):
        raise PeerError(f"EiUpdate: {shown(day)}/{shown(time)} is no date and time") from None
