"""Session set-up and poll, both ways (wire reference, sections 1 and 2, rows ``oadrinit`` and ``oadrPoll``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from gateway.links.mir2017.messages.fields import Fields, accepted, ema_name, read_json, write_json
from gateway.links.mir2017.messages.topics import Up
from gateway.record import record

VTN_NAME = "MIR_VTN"
DURATION_MS = 2000
REPORT_WANTED = "oadrCreateReport"
# A poll interval outside of this is a mistake: a flood, or a session that looks dead.
LEAST_DURATION_MS = 100
MOST_DURATION_MS = 86_400_000
_NOTHING_MORE: Mapping[str, object] = {}


@record
class EmaMessage:
    """``{GW,VENID}``: what every message of the set-up and the poll says."""

    topic: ClassVar[str] = ""

    ema: int
    ven_id: str

    def encode(self) -> bytes:
        return write_json({"GW": ema_name(self.ema), "VENID": self.ven_id})

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.ema("GW"), f.text("VENID"))


class QueryRegistration(EmaMessage):
    """The first message of a session."""

    __slots__ = ()
    topic: ClassVar[str] = Up.QUERY_REGISTRATION


class CreatePartyRegistration(EmaMessage):
    """After the first CreatedPartyRegistration."""

    __slots__ = ()
    topic: ClassVar[str] = Up.CREATE_PARTY_REGISTRATION


class EmaRegisterReport(EmaMessage):
    """After the second CreatedPartyRegistration."""

    __slots__ = ()
    topic: ClassVar[str] = Up.REGISTER_REPORT


class SetupPoll(EmaMessage):
    """After RegisteredReport: the first poll belongs to the set-up."""

    __slots__ = ()
    topic: ClassVar[str] = Up.SETUP_POLL


class EmaRegisteredReport(EmaMessage):
    """Answers the EMS's RegisterReport."""

    __slots__ = ()
    topic: ClassVar[str] = Up.REGISTERED_REPORT


class RequestEvent(EmaMessage):
    """Closes the session set-up."""

    __slots__ = ()
    topic: ClassVar[str] = Up.REQUEST_EVENT


class Poll(EmaMessage):
    """Poll modes, every poll interval."""

    __slots__ = ()
    topic: ClassVar[str] = Up.POLL


EMA_MESSAGES: dict[str, type[EmaMessage]] = {
    str(kind.topic): kind
    for kind in (
        QueryRegistration,
        CreatePartyRegistration,
        EmaRegisterReport,
        SetupPoll,
        EmaRegisteredReport,
        RequestEvent,
        Poll,
    )
}


def _duration(f: Fields) -> int:
    return f.whole("Duration", LEAST_DURATION_MS, MOST_DURATION_MS)


@record
class CreatedPartyRegistration:
    """``gw/<n>/oadrinit/CreatedPartyRegistration``; without ``response`` it answers QueryRegistration, with it
    CreatePartyRegistration. ``duration_ms``: the poll interval asked for."""

    ven_id: str
    vtn_id: str = VTN_NAME
    transport: str = VTN_NAME
    duration_ms: int = DURATION_MS
    response: int | str | None = None

    def encode(self) -> bytes:
        keys: dict[str, object] = {
            "VENID": self.ven_id,
            "VTNID": self.vtn_id,
            "TransportName": self.transport,
            "Duration": self.duration_ms,
        }
        if self.response is not None:
            keys["Response"] = self.response
        return write_json(keys)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        response = f.response() if "Response" in f else None
        return cls(f.text("VENID"), f.text("VTNID"), f.text("TransportName"), _duration(f), response)


@record
class EmsRegisteredReport:
    """``gw/<n>/oadrinit/RegisteredReport``: answers the EMA's RegisterReport."""

    ven_id: str
    vtn_id: str = VTN_NAME
    transport: str = VTN_NAME
    response: int | str = 200

    def encode(self) -> bytes:
        return write_json(
            {
                "VENID": self.ven_id,
                "VTNID": self.vtn_id,
                "TransportName": self.transport,
                "Response": self.response,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.text("VENID"), f.text("VTNID"), f.text("TransportName"), f.response())


@record
class EmsRegisterReport:
    """``gw/<n>/oadrinit/RegisterReport``: answers the set-up's Poll."""

    ven_id: str
    vtn_id: str = VTN_NAME
    transport: str = VTN_NAME
    response: int | str = "ACK_SUCCESS"
    duration_ms: int = DURATION_MS

    def encode(self) -> bytes:
        return write_json(
            {
                "VENID": self.ven_id,
                "VTNID": self.vtn_id,
                "TransportName": self.transport,
                "Response": self.response,
                "Duration": self.duration_ms,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.text("VENID"), f.text("VTNID"), f.text("TransportName"), f.response(), _duration(f))


@record
class Response:
    """``{VENID,Response}``: on ``oadrinit/Response``, ``oadrPoll/Response`` and ``drevent/Response``.

    ``oadrinit/DistributeEvent`` is the same with ``"ACK_SUCCESS"``. ``service`` is ours, on ``oadrPoll/Response``
    only: ``oadrCreateReport`` asks for a report (mode 3). ``more``: further keys, of ``budget``; read there.
    """

    ven_id: str
    response: int | str = 200
    service: str = ""
    more: Mapping[str, object] = _NOTHING_MORE

    @property
    def ok(self) -> bool:
        return accepted(self.response)

    def encode(self) -> bytes:
        keys: dict[str, object] = {"Service": self.service} if self.service else {}
        keys["VENID"] = self.ven_id
        keys["Response"] = self.response
        return write_json({**keys, **self.more})

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.text("VENID"), f.response(), f.text_or("Service", ""))
