"""Reports and margins, and their acknowledgements (wire reference, sections 1 and 2)."""

from __future__ import annotations

from typing import ClassVar, Self

from gateway.errors import PeerError
from gateway.links.mir2017.messages.fields import (
    HIGHEST_DEVICE,
    LARGEST_NUMBER,
    LARGEST_WATTS,
    Fields,
    ema_name,
    parse_ema,
    read_json,
    read_text,
    write_json,
)
from gateway.links.mir2017.messages.topics import Up
from gateway.record import record

MOST_DEVICES = 2000
HIGHEST_DIMMING = 9
HIGHEST_PRIORITY = 1_000_000


@record
class DeviceEntry:
    """One device of an explicit report: ``{dev,state,dimming,watt,priority}``; ``state`` 1 on, 0 off.

    ``watt`` None: not known (null on the wire).
    """

    device: int
    on: bool
    dimming: int
    watt: int | None
    priority: int

    def keys(self) -> dict[str, object]:
        return {
            "dev": self.device,
            "state": int(self.on),
            "dimming": self.dimming,
            "watt": self.watt,
            "priority": self.priority,
        }

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(
            f.whole("dev", 0, HIGHEST_DEVICE),
            f.whole("state", 0, 1) == 1,
            f.whole("dimming", 0, HIGHEST_DIMMING),
            f.watts_or_none("watt"),
            f.whole("priority", 0, HIGHEST_PRIORITY),
        )


@record
class UpdateReport:
    """``EMS/UpdateReport``: the site at ``time_ms`` (milliseconds since 1970, UTC); whole watts, our signs.

    ``threshold``, ``margin`` None: no limit (null on the wire). ``devices`` None: an implicit report, without them.
    The values beyond ``RequestID`` are ours; the lab's were never documented, so all of them may be missing.
    """

    topic: ClassVar[str] = Up.UPDATE_REPORT

    ema: int
    ven_id: str
    request_id: int
    time_ms: int | None = None
    power: int | None = None
    threshold: int | None = None
    margin: int | None = None
    generate: int | None = None
    storage: int | None = None
    devices: tuple[DeviceEntry, ...] | None = None

    def keys(self) -> dict[str, object]:
        """The body, in order."""
        keys: dict[str, object] = {
            "GW": ema_name(self.ema),
            "VENID": self.ven_id,
            "RequestID": self.request_id,
            "Time": self.time_ms,
            "Power": self.power,
            "Threshold": self.threshold,
            "Margin": self.margin,
            "Generate": self.generate,
            "Storage": self.storage,
        }
        if self.devices is not None:
            keys["Devices"] = [device.keys() for device in self.devices]
        return keys

    def encode(self) -> bytes:
        return write_json(self.keys())

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        devices = None
        if f.given("Devices"):
            devices = tuple(DeviceEntry.read(entry) for entry in f.objects("Devices", MOST_DEVICES))
        return cls(
            ema=f.ema("GW"),
            ven_id=f.text("VENID"),
            request_id=f.whole("RequestID", 0, LARGEST_NUMBER),
            time_ms=f.whole_or("Time", None),
            power=f.watts_or_none("Power"),
            threshold=f.watts_or_none("Threshold"),
            margin=f.watts_or_none("Margin"),
            generate=f.watts_or_none("Generate"),
            storage=f.watts_or_none("Storage"),
            devices=devices,
        )


@record
class UpdatedReport:
    """``gw/<n>/oadrUpdatedReport``: the EMS's application has that report. The lab's EMS always says RequestID 1."""

    ven_id: str
    request_id: int
    response: int | str = 200
    description: str = "OK"

    def encode(self) -> bytes:
        return write_json(
            {
                "RequestID": self.request_id,
                "VENID": self.ven_id,
                "Response": self.response,
                "Responsedescription": self.description,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.text("VENID"), f.whole("RequestID"), f.response(), f.text_or("Responsedescription", ""))


@record
class PowerMargin:
    """``EMS/PowerMargin/gw/<n>``: power and what is left under the limit, in W.

    The number stands in the topic; with ``GW`` in the body the lab's EMS gives no answer.
    """

    power: int
    margin: int

    def encode(self) -> bytes:
        return write_json({"Power": self.power, "Margin": self.margin})

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.watts("Power"), f.watts("Margin"))


def margin_ema(topic: str) -> int:
    """The n of ``EMS/PowerMargin/gw/<n>``. Raise ``PeerError``."""
    return parse_ema(topic.removeprefix(f"{Up.POWER_MARGIN}/"), "topic EMS/PowerMargin")


@record
class Presence:
    """``EMS/connected`` and ``EMS/disconnected``: the text ``gw/<n>/x`` (*sic*), or more parts."""

    ema: int

    def encode(self) -> bytes:
        return f"{ema_name(self.ema)}/x".encode("ascii")

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        parts = read_text(body, cls.__name__).split("/")
        if len(parts) < 3:
            raise PeerError(f"{cls.__name__}: {'/'.join(parts)!r} has less than three parts, gw/<n>/x")
        return cls(parse_ema("/".join(parts[:2]), cls.__name__))


@record
class EmaAck:
    """``connectACK``, ``disconnectACK``, ``PowerMarginACK``: the text ``gw/<n>#`` (*sic*)."""

    ema: int

    def encode(self) -> bytes:
        return f"{ema_name(self.ema)}#".encode("ascii")

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        text = read_text(body, cls.__name__)
        if not text.endswith("#"):
            raise PeerError(f"{cls.__name__}: {text!r} is not gw/<n>#")
        return cls(parse_ema(text[:-1], cls.__name__))


def whole_watts(watts: float) -> int:
    """The profile speaks whole watts; bounded so that a wild reading still goes out."""
    return round(max(-LARGEST_WATTS, min(LARGEST_WATTS, watts)))
