"""The messages of profile ``mir2017`` in their CoAP form (wire reference, section 3): paths, words, bodies.

The bodies are those of ``links.mir2017.messages`` with ``Service``, ``RequestID`` and ``Version`` beside; what an EMA
sends is written with blanks, as in the lab's frames. An answer of the EMS is a word, a blank and compact JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import tzinfo
from enum import StrEnum

from gateway.errors import PeerError
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.messages.events import (
    MOST_MODIFICATION,
    OPT_IN,
    OPT_OUT,
    PULLED,
    PUSHED,
)
from gateway.links.mir2017.messages.fields import (
    HIGHEST_EMA,
    LARGEST_WATTS,
    Fields,
    parse_ema,
    parse_whole,
    read_json,
    read_text,
    shown,
    write_json,
)
from gateway.links.mir2017.messages.setup import LEAST_DURATION_MS, MOST_DURATION_MS
from gateway.links.mir2017.messages.times import Span, read_span, write_span
from gateway.record import record

VERSION = 2
# The slides' frames carry 1 in every request: CoAP itself pairs question and answer.
REQUEST_ID = 1
INITIAL = b"Initial_Success"
REPORT_DESCRIPTION = "MIR"
NOTIFIED, PULLED_RESPONSE, PUSHED_RESPONSE = 100, 2, 200

_VEN = re.compile(r".*_MIR([0-9]{1,5})")
_SOURCE = re.compile(r"(?:EMA|gw/)?([0-9]{1,5})")


class Up(StrEnum):
    """Resources of the EMS."""

    QUERY_REGISTRATION = "QueryRegistration"
    CREATE_PARTY_REGISTRATION = "CreatePartyRegistration"
    REGISTER_REPORT = "RegisterReport"
    POLL = "Poll"
    REGISTERED_REPORT = "RegisteredReport"
    REQUEST_EVENT = "RequestEvent"
    CREATED_EVENT = "createdEvent"
    UPDATE_REPORT = "UpdateReport"
    DEVICE_INFO = "info"
    POWER_MARGIN = "powermargin"
    DEVICE_CONNECT = "DeviceConnect"
    DEVICE_DISCONNECT = "DeviceDisconnect"
    NEGOTIATION = "negotiation"
    RDR = "oadrRDR"
    DISCONNECTED = "disconnected"  # ours: the lab's EMAs only fell silent


class Down(StrEnum):
    """Resources of the EMA that the EMS writes to; devices' own are ``gw/<n>/dev/<d>/control`` and ``…/dimming``."""

    PUSHED_EVENT = "oadrDistributeEvent"
    THRESHOLD = "threshold"
    NEGOTIATED = "nego_result"
    BUDGET = "budget"  # ours


class Word(StrEnum):
    """What an answer of the EMS begins with."""

    ANSWER = "DR"
    NO_EVENT = "DR_P"
    EVENT = "DR_E"


# OpenFMB: a report and its first ("init"). Connecting and going have no resource of their own.
MODULE_PATHS: dict[str, tuple[wire.Module, wire.Phase]] = {
    f"{module}{phase}": (module, phase) for module in wire.Module for phase in (wire.Phase.INIT, wire.Phase.REPORT)
}


@record
class Ask(wire.Send):
    """A PUT to the EMS; ``topic`` is its path. ``number`` says what it is about (a report's RequestID, an event's
    id, a device), so that the answer needs none."""

    number: int = 0


def ven_name(ema: int, configured: str) -> str:
    """The VENID of this EMA, which has to end in ``_MIR<n>``: the configured one if it does, else ``VEN_MIR<n>``."""
    match = _VEN.fullmatch(configured)
    return configured if match is not None and int(match[1]) == ema else f"VEN_MIR{ema}"


def ema_of_ven(ven_id: str, name: str) -> int:
    """The n of a VENID that ends in ``_MIR<n>``. Raise ``PeerError``."""
    match = _VEN.fullmatch(ven_id)
    if match is None or not 1 <= int(match[1]) <= HIGHEST_EMA:
        raise PeerError(f"{name} VENID: {shown(ven_id)} does not end in _MIR1 to _MIR{HIGHEST_EMA}")
    return int(match[1])


def observe_path(ema: int) -> str:
    """``obs/<EMA>``; the EMA is called as on the slides' EMS page."""
    return f"obs/EMA{ema}"


def observed_ema(rest: str) -> int:
    """The EMA of what follows ``obs/``: ``EMA<n>``, ``gw/<n>`` or ``<n>``. Raise ``PeerError``."""
    match = _SOURCE.fullmatch(rest)
    if match is None or int(match[1]) < 1:
        raise PeerError(f"path obs/{rest[:40]}: is not obs/EMA1 to obs/EMA{HIGHEST_EMA}")
    return int(match[1])


def write_spaced(keys: Mapping[str, object]) -> bytes:
    """JSON with blanks, as the lab's EMA wrote it."""
    return f"{{ {json.dumps(keys, allow_nan=False)[1:-1]} }}".encode("ascii")


def write_answer(word: Word, body: Mapping[str, object]) -> bytes:
    """``DR {…}``."""
    return f"{word} ".encode("ascii") + write_json(body)


def read_answer(body: bytes) -> tuple[Word | None, bytes]:
    """The word of an answer and what follows it; no word before bare JSON. Raise ``PeerError``."""
    if body[:1] == b"{":
        return None, body
    word, blank, rest = body.partition(b" ")
    try:
        if blank:
            return Word(word.decode("ascii")), rest
    except ValueError:
        pass
    raise PeerError(f"answer: {shown(body[:40])} does not begin with DR, DR_P or DR_E")


def hello(path: Up, ven_id: str, ema: int) -> bytes:
    """A message of the set-up, or a poll."""
    service = f"{path}Request" if path is Up.CREATE_PARTY_REGISTRATION else str(path)
    keys: dict[str, object] = {"Service": service, "VENID": ven_id, "RequestID": REQUEST_ID}
    if path in (Up.CREATE_PARTY_REGISTRATION, Up.POLL, Up.REGISTERED_REPORT):
        keys["Version"] = VERSION
    if path in (Up.QUERY_REGISTRATION, Up.POLL):
        keys["GW"] = wire.ema_name(ema)
    if path is Up.CREATE_PARTY_REGISTRATION:
        keys["oadrVenName"] = ven_id
    return write_spaced(keys)


@record
class Hello:
    """What the EMS reads of it."""

    ema: int
    ven_id: str
    request_id: int

    @classmethod
    def decode(cls, body: bytes, name: str) -> Hello:
        """Raise ``PeerError``. Where there is a ``GW`` it has to be the one that the VENID names."""
        f = read_json(body, name)
        ven = f.text("VENID")
        ema = ema_of_ven(ven, name)
        if f.given("GW") and f.ema("GW") != ema:
            raise f.wrong("GW", f"gw/{ema}, which the VENID names")
        return cls(ema, ven, f.whole("RequestID"))


def write_created_event(ven_id: str, event_id: int, request_id: int, opt_in: bool) -> bytes:
    return write_spaced(
        {
            "Service": str(Up.CREATED_EVENT),
            "VENID": ven_id,
            "RequestID": request_id,
            "EventID": event_id,
            "OptType": OPT_IN if opt_in else OPT_OUT,
        }
    )


def read_created_event(body: bytes) -> wire.CreatedEvent:
    """Raise ``PeerError``."""
    f = read_json(body, "createdEvent")
    ven, opt = f.text("VENID"), f.text("OptType")
    if opt not in (OPT_IN, OPT_OUT):
        raise f.wrong("OptType", f"{OPT_IN} or {OPT_OUT}")
    ema = ema_of_ven(ven, "createdEvent")
    return wire.CreatedEvent(ema, ven, f.whole("EventID"), f.whole("RequestID"), opt == OPT_IN)


def write_report(report: wire.UpdateReport, ven_id: str) -> bytes:
    """The keys of section 1 behind ``Service``."""
    keys: dict[str, object] = {"Service": str(Up.UPDATE_REPORT), "VENID": ven_id}
    keys |= {key: value for key, value in report.keys().items() if key != "VENID"}
    return write_spaced(keys)


def write_event(event: wire.DistributeEvent, zone: tzinfo | None, response: int) -> bytes:
    """An event as it is pulled (``response`` 2, times as numbers ``HHMM11``, *sic*), pushed (200) or notified (100)."""
    span = write_span(event.start, event.end, zone)
    pulled = response == PULLED_RESPONSE
    times: list[object] = [span.start_minute, span.end_minute]
    if pulled:
        times = [int(minute) * 100 + 11 for minute in (span.start_minute, span.end_minute)]
    return write_json(
        {
            "Service": PULLED if pulled else PUSHED,
            "StartYMD": span.start_day,
            "StartTime": times[0],
            "EndYMD": span.end_day,
            "EndTime": times[1],
            "Value": event.value,
            "Response": response,
            "RequestID": event.request_id,
            "EventID": event.event_id,
            "ModificationNumber": event.modification,
            "TargetVEN": event.target,
            "Responsedescription": event.description,
            "OptType": OPT_IN,
        }
    )


def read_event(body: bytes, zone: tzinfo | None) -> wire.DistributeEvent:
    """Raise ``PeerError``. ``pulled`` by its ``Service``."""
    f = read_json(body, "event")
    service = f.text("Service")
    if service not in (PULLED, PUSHED):
        raise f.wrong("Service", f"{PULLED} or {PUSHED}")
    days = [f.text(key) if isinstance(f.scalar(key), str) else str(f.whole(key)) for key in ("StartYMD", "EndYMD")]
    start, end = read_span(Span(days[0], _minute(f, "StartTime"), days[1], _minute(f, "EndTime")), zone)
    return wire.DistributeEvent(
        event_id=f.whole("EventID"),
        modification=f.whole("ModificationNumber", 0, MOST_MODIFICATION),
        start=start,
        end=end,
        value=f.whole("Value", 0, LARGEST_WATTS),
        request_id=f.whole("RequestID"),
        target=f.text_or("TargetVEN", ""),
        pulled=service == PULLED,
        description=f.text_or("Responsedescription", ""),
    )


def _minute(f: Fields, key: str) -> str:
    """``HHMM``: text of four digits, or the number ``HHMM11`` (its leading zeros lost), seconds and all as text too."""
    value = f.scalar(key)
    if isinstance(value, str):
        return value[:4] if len(value) == 6 and value.endswith("11") else value
    return str(f.whole(key, 0, 240_011) // 100).rjust(4, "0")


def write_margin(ema: int, power: int, threshold: int) -> bytes:
    """The text ``x/<gw>/<power>/<threshold>``."""
    return f"x/{ema}/{power}/{threshold}".encode("ascii")


@record
class Margin:
    """``powermargin``, which says the threshold where MQTT says what is left under it."""

    ema: int
    power: int
    threshold: int

    @classmethod
    def decode(cls, body: bytes) -> Margin:
        """Raise ``PeerError``. The EMA as ``<n>`` or ``gw/<n>``."""
        parts = read_text(body, "powermargin").split("/")
        if parts[1:2] == ["gw"]:
            parts[1:3] = parts[2:3]
        if len(parts) != 4:
            raise PeerError(f"powermargin: {shown('/'.join(parts))} is not x/<gw>/<power>/<threshold>")
        watts = [parse_whole(part, "powermargin", -LARGEST_WATTS, LARGEST_WATTS) for part in parts[2:]]
        return cls(parse_ema(f"gw/{parts[1]}", "powermargin"), watts[0], watts[1])


def read_threshold(body: bytes) -> int:
    """``threshold``: whole W as text. Raise ``PeerError``."""
    return parse_whole(read_text(body, "threshold").strip(), "threshold", 0, LARGEST_WATTS)


@record
class SetupAnswer:
    """What the EMA reads of an answer of the set-up."""

    response: int | str | None
    duration_ms: int | None

    @classmethod
    def decode(cls, body: bytes, service: str) -> SetupAnswer:
        """Raise ``PeerError``, also when it is another answer than ``service``."""
        f = read_json(body, service)
        if f.text_or("Service", service) != service:
            raise f.wrong("Service", service)
        duration = f.whole("Duration", LEAST_DURATION_MS, MOST_DURATION_MS) if f.given("Duration") else None
        return cls(f.response() if "Response" in f else None, duration)


def setup_answer(
    service: str,
    ven_id: str,
    ema: int,
    request_id: int,
    duration_ms: int,
    vtn: str,
    more: Mapping[str, object] | None = None,
) -> bytes:
    """An answer of the set-up: the keys of section 2 between its ``Service`` and the registration's, and ``more``."""
    keys: dict[str, object] = {"Service": service, "VENID": ven_id}
    if service not in ("Response", "DistributeEvent"):
        keys |= {"VTNID": vtn, "TransportName": vtn}
    if service != "CreatedPartyRegistration":
        keys["Response"] = "ACK_SUCCESS" if service in ("RegisterReport", "DistributeEvent") else 200
    if "Created" in service or service == "RegisterReport":
        keys["Duration"] = duration_ms
    keys |= {"RequestID": request_id, "RegistrationID": ema, "Version": VERSION, **(more or {})}
    return write_answer(Word.ANSWER, keys)


def response(word: Word, ven_id: str, request_id: int, code: int = 200, description: str = "") -> bytes:
    """The short answer: to a poll without an event, to createdEvent."""
    keys: dict[str, object] = {"Service": "Response", "VENID": ven_id, "Response": code, "RequestID": request_id}
    return write_answer(word, keys | ({"Responsedescription": description} if description else {}))


def updated_report(ven_id: str, request_id: int, code: int = 200, description: str = REPORT_DESCRIPTION) -> bytes:
    """The answer to UpdateReport, without ``Service``."""
    keys = {"RequestID": request_id, "VENID": ven_id, "Response": code, "Responsedescription": description}
    return write_answer(Word.ANSWER, keys)
