"""What every message of the profile begins with, and what every answer says beside."""

from __future__ import annotations

import math
from typing import ClassVar, Self

from gateway.errors import PeerError
from gateway.links.emap1b.messages.names import Channel, is_name
from gateway.links.emap1b.messages.times import read_time, time_text
from gateway.links.mir2017.messages.fields import LARGEST_WATTS, Fields, read_json, write_json
from gateway.record import record

OK = 200
LONGEST_REASON = 200
DENIED = 400
# Answers that refuse: for good, and for now.
FOR_GOOD, FOR_NOW = range(400, 500), range(500, 600)


def name(f: Fields, key: str) -> str:
    """The name of an EMA or EMS. Raise ``PeerError``."""
    text = f.text(key)
    if not is_name(text):
        raise f.wrong(key, "a name of letters, digits, _ - and .")
    return text


def text_of(f: Fields, key: str, default: str | None = None) -> str:
    """An id, written as text or as a number. Raise ``PeerError``; without a default it has to be there."""
    if default is not None and not f.given(key):
        return default
    value = f.scalar(key)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def watts_or_none(f: Fields, key: str) -> int | None:
    """Power in whole W; peers write fractions too. Raise ``PeerError``."""
    value = f.number_or_none(key)
    if value is None:
        return None
    if not math.isfinite(value) or abs(value) > LARGEST_WATTS:
        raise f.wrong(key, f"a power up to {LARGEST_WATTS} W")
    return round(value)


@record
class Message:
    """``SrcEMA DestEMA requestID service time``.

    ``request_id`` is never used twice by its sender, but for the same message said again; an answer has that of what
    it answers. Empty: not given. ``time_ms``: milliseconds since 1970 (UTC); None: not given, or in a form that we
    cannot read.
    """

    service: ClassVar[str] = ""
    channel: ClassVar[Channel] = Channel.SETUP

    source: str
    dest: str
    request_id: str
    time_ms: int | None

    def head(self) -> dict[str, object]:
        return {
            "SrcEMA": self.source,
            "DestEMA": self.dest,
            "requestID": self.request_id,
            "service": self.service,
            "time": "" if self.time_ms is None else time_text(self.time_ms),
        }

    def rest(self) -> dict[str, object]:
        """What follows the head."""
        return {}

    def encode(self) -> bytes:
        return write_json({**self.head(), **self.rest()})

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.service or cls.__name__)
        if read_service(f) != cls.service:
            raise f.wrong("service", cls.service)
        return cls.read(f)

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Of a body whose service was looked at. Raise ``PeerError``."""
        return cls(*read_head(f))


@record
class Answer(Message):
    """Beside the head ``responseCode responseDescription``."""

    code: int = OK
    description: str = "OK"

    @property
    def ok(self) -> bool:
        return self.code == OK

    def head(self) -> dict[str, object]:
        return {**Message.head(self), "responseCode": self.code, "responseDescription": self.description}

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(*read_head(f), *read_response(f))


def read_service(f: Fields) -> str:
    """Raise ``PeerError``."""
    return f.text("service")


def read_head(f: Fields) -> tuple[str, str, str, int | None]:
    """Raise ``PeerError``."""
    return (
        name(f, "SrcEMA"),
        name(f, "DestEMA"),
        text_of(f, "requestID", ""),
        read_time(f.text_or("time", "")),
    )


def read_response(f: Fields) -> tuple[int, str]:
    """``responseCode`` as a number or as its text. Raise ``PeerError``."""
    code = text_of(f, "responseCode")
    if not (code.isascii() and code.isdigit() and len(code) <= 3):
        raise f.wrong("responseCode", "a whole number from 0 to 999")
    return int(code), f.text_or("responseDescription", "")


def short(reason: str) -> str:
    """A reason as ``responseDescription`` may say it."""
    return (reason if reason.isprintable() else ascii(reason))[:LONGEST_REASON]


def refused(answer: Answer) -> PeerError:
    """The error for an answer that says no."""
    words = f" {answer.description}" if answer.description else ""
    return PeerError(f"{answer.service} responseCode: {answer.code}{words} is not {OK}")
