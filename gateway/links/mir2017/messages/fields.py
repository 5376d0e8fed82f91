"""Reading and writing the JSON and text of this profile: strict about types, lenient about keys it does not know."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from gateway.errors import PeerError
from gateway.record import record

# An explicit report of 1000 devices is near 80 kB; nothing else comes close.
LARGEST_BODY = 262_144
LONGEST_TEXT = 256
LARGEST_WATTS = 1_000_000_000
LARGEST_NUMBER = 2**53 - 1  # what a peer that reads JSON numbers as doubles keeps exactly
HIGHEST_EMA = 99_999
HIGHEST_DEVICE = 99_999

_EMA = re.compile(r"gw/([0-9]{1,5})")
_DEVICE = re.compile(r"dev/([0-9]{1,5})")
_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")

Scalar = str | int | float


@record
class Send:
    """One message to be published."""

    topic: str
    body: bytes
    qos: int = 1


def shown(value: object) -> str:
    """What a field held, short enough for one line of the log."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def ema_name(number: int) -> str:
    """``gw/<n>``."""
    return f"gw/{number}"


def device_name(number: int) -> str:
    """``dev/<d>``."""
    return f"dev/{number}"


def parse_ema(text: str, field: str) -> int:
    """The n of ``gw/<n>``. Raise ``PeerError``."""
    match = _EMA.fullmatch(text)
    if match is None or int(match[1]) < 1:
        raise PeerError(f"{field}: {shown(text)} is not gw/1 to gw/{HIGHEST_EMA}")
    return int(match[1])


def parse_device(text: str, field: str) -> int:
    """The d of ``dev/<d>``. Raise ``PeerError``."""
    match = _DEVICE.fullmatch(text)
    if match is None:
        raise PeerError(f"{field}: {shown(text)} is not dev/0 to dev/{HIGHEST_DEVICE}")
    return int(match[1])


def parse_whole(text: str, field: str, least: int, most: int) -> int:
    """A whole number written as text. Raise ``PeerError``."""
    if _WHOLE.fullmatch(text) is None or not least <= int(text) <= most:
        raise PeerError(f"{field}: {shown(text)} is not a whole number from {least} to {most}")
    return int(text)


def read_text(body: bytes, name: str) -> str:
    """A body of plain text. Raise ``PeerError``."""
    try:
        text = body.decode("ascii") if len(body) <= LONGEST_TEXT else None
    except UnicodeDecodeError:
        text = None
    if text is None or not text.isprintable():
        raise PeerError(f"{name}: {shown(body[:40])} is not text of at most {LONGEST_TEXT} printable ASCII characters")
    return text


def write_json(keys: Mapping[str, object]) -> bytes:
    """Compact JSON, in the order given, ASCII only."""
    return json.dumps(keys, separators=(",", ":"), allow_nan=False).encode("ascii")


def _whole(text: str) -> int:
    if len(text) > 18:
        raise PeerError(f"the number {shown(text)} is too long")
    return int(text)


def _float(text: str) -> float:
    value = float(text) if len(text) <= 40 else math.inf
    if not math.isfinite(value):
        raise PeerError(f"the number {shown(text)} is too long or too large")
    return value


def _constant(text: str) -> float:
    raise PeerError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_float, parse_constant=_constant)


def read_json(body: bytes, name: str) -> Fields:
    """The one JSON object of a body. Raise ``PeerError`` for everything else."""
    if len(body) > LARGEST_BODY:
        raise PeerError(f"{name}: {len(body)} bytes are more than {LARGEST_BODY}")
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as err:
        raise PeerError(f"{name}: {shown(body[:40])} is not JSON: {shown(str(err))}") from None
    except PeerError as err:
        raise PeerError(f"{name}: {err}") from None
    if not isinstance(value, dict):
        raise PeerError(f"{name}: {shown(value)} is not a JSON object")
    return Fields(value, name)


class Fields:
    """The keys of one JSON object, read with their types. Every reader raises ``PeerError`` naming the field."""

    __slots__ = ("_keys", "_name")

    def __init__(self, keys: dict[str, Any], name: str) -> None:
        self._keys = keys
        self._name = name

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def given(self, key: str) -> bool:
        """Is it there and not null."""
        return self._keys.get(key) is not None

    def wrong(self, key: str, should: str) -> PeerError:
        """The error for a field that is not what it should be."""
        if key not in self._keys:
            return PeerError(f"{self._name} {key}: is missing, should be {should}")
        return PeerError(f"{self._name} {key}: {shown(self._keys[key])} is not {should}")

    def text(self, key: str) -> str:
        """Printable text of a bounded length; it goes into logs and tables as it is."""
        value = self._keys.get(key)
        if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
            raise self.wrong(key, f"printable text of at most {LONGEST_TEXT} characters")
        return value

    def text_or(self, key: str, default: str) -> str:
        return self.text(key) if self.given(key) else default

    def whole(self, key: str, least: int = 0, most: int = LARGEST_NUMBER) -> int:
        """A whole number; 800.0 is one (Java writes it so), true is none."""
        value = self._keys.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(key, f"a whole number from {least} to {most}")
        return value

    def whole_or(self, key: str, default: int | None, least: int = 0, most: int = LARGEST_NUMBER) -> int | None:
        return self.whole(key, least, most) if self.given(key) else default

    def watts(self, key: str) -> int:
        return self.whole(key, -LARGEST_WATTS, LARGEST_WATTS)

    def watts_or_none(self, key: str) -> int | None:
        return self.watts(key) if self.given(key) else None

    def number(self, key: str) -> int | float:
        value = self._keys.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST_NUMBER:
            raise self.wrong(key, "a number")
        return value

    def number_or_none(self, key: str) -> int | float | None:
        return self.number(key) if self.given(key) else None

    def flag(self, key: str) -> bool:
        """True or false, written as such, as 1 and 0, or as text; false when it is not there."""
        value = self._keys.get(key)
        text = value.lower() if isinstance(value, str) else value
        if text not in (None, True, False, "true", "false", "1", "0"):
            raise self.wrong(key, "true or false")
        return text in (True, "true", "1")

    def scalar(self, key: str) -> Scalar:
        """A name that may be text or a number: the lab never said which."""
        return self.text(key) if isinstance(self._keys.get(key), str) else self.number(key)

    def scalar_or_none(self, key: str) -> Scalar | None:
        return self.scalar(key) if self.given(key) else None

    def ema(self, key: str) -> int:
        """The n of ``gw/<n>``."""
        return parse_ema(self.text(key), f"{self._name} {key}")

    def device(self, key: str) -> int:
        """The d of ``dev/<d>``."""
        return parse_device(self.text(key), f"{self._name} {key}")

    def response(self, key: str = "Response") -> int | str:
        """``200`` or ``"ACK_SUCCESS"``; other codes are the peer's refusal."""
        value = self._keys.get(key)
        return self.text(key) if isinstance(value, str) else self.whole(key, 0, 999)

    def object(self, key: str) -> Fields:
        """An object within."""
        value = self._keys.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(value, f"{self._name} {key}")

    def objects(self, key: str, most: int) -> list[Fields]:
        """An array of objects."""
        value = self._keys.get(key)
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, f"an array of at most {most} objects")
        found = []
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise PeerError(f"{self._name} {key}[{index}]: {shown(item)} is not an object")
            found.append(Fields(item, f"{self._name} {key}[{index}]"))
        return found

    def numbers(self, key: str, most: int) -> tuple[int | float, ...]:
        """An array of numbers."""
        value = self._keys.get(key)
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, f"an array of at most {most} numbers")
        for item in value:
            if isinstance(item, bool) or not isinstance(item, int | float) or abs(item) > LARGEST_NUMBER:
                raise PeerError(f"{self._name} {key}: {shown(item)} is not a number")
        return tuple(value)


def accepted(response: int | str) -> bool:
    """Does that ``Response`` say yes."""
    return response in (200, "ACK_SUCCESS")
