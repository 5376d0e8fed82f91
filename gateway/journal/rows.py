"""The outbox's form of its records: JSON without names, a list of the fields in their order.

A third of the size of ``plain.py``'s form and a third of the loop's time, for what is written most. The price: a
field may only be added at the end and with a default; any other change takes a new kind (``outbox.py``), and
``tests/gateway/journal/test_rows.py`` pins the order.
"""

from __future__ import annotations

import json
import json.encoder
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, TypeVar

from gateway.errors import PeerError
from gateway.journal.plain import decoder

T = TypeVar("T")
Codec = Callable[[Any], Any]

_encoders: dict[Any, Codec | None] = {}
_decoders: dict[type, Codec] = {}

_encoder_of_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def _compact_encoder() -> Callable[[Any], str]:
    """``JSONEncoder.encode`` makes its C part anew for each value, a third of the cost; here it is made once."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder_of_json.encode
    chunks = make(None, _encoder_of_json.default, json.encoder.encode_basestring, None, ":", ",", False, False, True)
    return lambda value: "".join(chunks(value, 0))


_compact = _compact_encoder()


def dumps(value: Any) -> str:
    """One line of JSON for a dataclass of two or more fields."""
    cls = type(value)
    encode = _encoders.get(cls) or _encoder(cls)
    return _compact(encode(value) if encode is not None else value)


def loads(cls: type[T], text: str) -> T:
    """The value that ``dumps`` wrote; raise ``PeerError`` that names the field and what it held."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PeerError(f"{cls.__name__}: no JSON: {error}") from None
    result: T = (_decoders.get(cls) or _decoder(cls))(row)
    return result


def _encoder(hint: Any) -> Codec | None:
    """None: JSON takes it as it is (an enum of text is text)."""
    encode: Codec | None = None
    if isinstance(hint, type) and is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        names = [spec.name for spec in fields(hint)]
        values = attrgetter(*names)
        nested = [(i, inner) for i, name in enumerate(names) if (inner := _encoder(hints[name])) is not None]
        encode = _with_nested(values, nested) if nested else values
    elif typing.get_origin(hint) is tuple:
        inner = _encoder(typing.get_args(hint)[0])
        encode = None if inner is None else _each(inner)
    elif isinstance(hint, type) and issubclass(hint, Enum) and not issubclass(hint, str):
        encode = attrgetter("value")
    _encoders[hint] = encode
    return encode


def _with_nested(values: Codec, nested: list[tuple[int, Codec]]) -> Codec:
    def encode(value: Any) -> list[Any]:
        row = list(values(value))
        for index, inner in nested:
            row[index] = inner(row[index])
        return row

    return encode


def _each(inner: Codec) -> Codec:
    return lambda items: [inner(item) for item in items]


def _decoder(cls: type) -> Codec:
    hints = typing.get_type_hints(cls)
    parts = [(spec.name, _field(hints[spec.name])) for spec in fields(cls)]
    least = sum(1 for spec in fields(cls) if spec.default is MISSING and spec.default_factory is MISSING)

    def decode(row: Any) -> Any:
        if type(row) is not list or len(row) < least:
            raise PeerError(f"{cls.__name__}: no list of {least} values or more")
        values = []
        for (name, inner), value in zip(parts, row, strict=False):
            try:
                values.append(inner(value))
            except PeerError as error:
                raise PeerError(f"{cls.__name__}.{name}: {error}") from None
        return cls(*values)

    _decoders[cls] = decode
    return decode


def _field(hint: Any) -> Codec:
    if isinstance(hint, type) and is_dataclass(hint):
        return _decoder(hint)
    args = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and is_dataclass(args[0]):
        inner = _field(args[0])

        def decode(items: Any) -> Any:
            if type(items) is not list:
                raise PeerError("no list")
            return tuple([inner(item) for item in items])

        return decode
    return decoder(hint)
