"""Devices: coming, going, changing, being told, asking back (wire reference, sections 1 and 2)."""

from __future__ import annotations

from typing import ClassVar, Self

from gateway.errors import PeerError
from gateway.links.mir2017.messages.fields import (
    LARGEST_WATTS,
    device_name,
    ema_name,
    parse_device,
    parse_ema,
    parse_whole,
    read_json,
    read_text,
    shown,
    write_json,
)
from gateway.links.mir2017.messages.reports import HIGHEST_DIMMING, HIGHEST_PRIORITY
from gateway.links.mir2017.messages.topics import Up
from gateway.record import record

EMS_NAME = "MIR_EMS"
GRANTED = (200, "OK")
REFUSED = (400, "Deny")


@record
class DeviceText:
    """``EMS/DeviceConnect``, ``EMS/DeviceDisconnect``, ``EMS/info``: text of eight parts,
    ``gw/<n>/dev/<d>/<state>/<dimming>/<watt>/<priority>``, whole numbers from the fifth on.

    ``state`` 1 on, 0 off. Decodes JSON ``{gw,dev,onoff,dimming,watt,priority}`` too, the keys of the answer (ours:
    the lab's EMS ignores JSON here).
    """

    ema: int
    device: int
    on: bool
    dimming: int
    watt: int
    priority: int

    def encode(self) -> bytes:
        numbers = f"{int(self.on)}/{self.dimming}/{self.watt}/{self.priority}"
        return f"{ema_name(self.ema)}/{device_name(self.device)}/{numbers}".encode("ascii")

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        if body.lstrip()[:1] == b"{":
            f = read_json(body, cls.__name__)
            return cls(
                f.ema("gw"),
                f.device("dev"),
                f.whole("onoff", 0, 1) == 1,
                f.whole("dimming", 0, HIGHEST_DIMMING),
                f.watts("watt"),
                f.whole("priority", 0, HIGHEST_PRIORITY),
            )
        name = cls.__name__
        parts = read_text(body, name).split("/")
        if len(parts) != 8:
            raise PeerError(f"{name}: {shown('/'.join(parts))} has {len(parts)} parts, not eight")
        return cls(
            parse_ema("/".join(parts[:2]), name),
            parse_device("/".join(parts[2:4]), name),
            parse_whole(parts[4], f"{name} state", 0, 1) == 1,
            parse_whole(parts[5], f"{name} dimming", 0, HIGHEST_DIMMING),
            parse_whole(parts[6], f"{name} watt", -LARGEST_WATTS, LARGEST_WATTS),
            parse_whole(parts[7], f"{name} priority", 0, HIGHEST_PRIORITY),
        )


@record
class DeviceAck:
    """``gw/<n>/dev/<d>/DeviceConnectACK`` and ``…/DeviceDisconnectACK``: four times the text "null" (*sic*).

    Only its names are read: the topic says the same.
    """

    ema: int
    device: int

    def encode(self) -> bytes:
        nothing = dict.fromkeys(("onoff", "dimming", "watt", "priority"), "null")
        return write_json({"gw": ema_name(self.ema), "dev": device_name(self.device), **nothing})

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.ema("gw"), f.device("dev"))


@record
class Control:
    """``gw/<n>/dev/<d>/control``: two bytes, ``11 1F`` on, ``11 10`` off."""

    on: bool

    def encode(self) -> bytes:
        return b"\x11\x1f" if self.on else b"\x11\x10"

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        if body == b"\x11\x1f":
            return cls(True)
        if body == b"\x11\x10":
            return cls(False)
        raise PeerError(f"control: {shown(body[:16].hex(' '))} is not 11 1f or 11 10")


@record
class Dimming:
    """``gw/<n>/dev/<d>/dimming``: three bytes, ``31 1A 01`` one up, ``31 1A 00`` one down (``31 1A FF`` is taken)."""

    up: bool

    @property
    def step(self) -> int:
        return 1 if self.up else -1

    def encode(self) -> bytes:
        return b"\x31\x1a\x01" if self.up else b"\x31\x1a\x00"

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        if body == b"\x31\x1a\x01":
            return cls(True)
        if body in (b"\x31\x1a\x00", b"\x31\x1a\xff"):
            return cls(False)
        raise PeerError(f"dimming: {shown(body[:16].hex(' '))} is not 31 1a 01, 31 1a 00 or 31 1a ff")


@record
class RdrRequest:
    """``EMS/RDRrequest``: ``{SrcEMA,devnumber,value}``; a device asks ``value`` W back."""

    topic: ClassVar[str] = Up.RDR_REQUEST

    ema: int
    device: int
    value: int

    def encode(self) -> bytes:
        return write_json({"SrcEMA": ema_name(self.ema), "devnumber": device_name(self.device), "value": self.value})

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.ema("SrcEMA"), f.device("devnumber"), f.whole("value", 0, LARGEST_WATTS))


@record
class RdrResponse:
    """``gw/<n>/RDRresponse``: granted is 200 "OK", refused 400 "Deny" (ours). ``source`` is the EMS's own name."""

    device: int
    granted: bool
    source: str = EMS_NAME
    description: str = ""

    def encode(self) -> bytes:
        code, word = GRANTED if self.granted else REFUSED
        return write_json(
            {
                "SrcEMA": self.source,
                "responseCode": code,
                "responseDescription": self.description or word,
                "devnumber": device_name(self.device),
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(
            device=f.device("devnumber"),
            granted=f.whole("responseCode", 0, 999) == GRANTED[0],
            source=f.text("SrcEMA"),
            description=f.text_or("responseDescription", ""),
        )
