"""The site's frozen dataclasses as plain JSON values, and back, by their type hints.

One codec for the journal, the control socket and every ``--json``. A dataclass becomes an object with one key a
field, an enum its value, a tuple a list. Reading is strict on types and lenient on versions: a key that is not
known is passed over, a key that is missing takes the field's default.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, TypeVar

from gateway.errors import PeerError

T = TypeVar("T")
Codec = Callable[[Any], Any]

_ATOMS = (str, int, float, bool, type(None))
_encoders: dict[type, Codec] = {}
_decoders: dict[Any, Codec] = {}


def to_plain(value: Any) -> Any:
    """What ``json.dumps`` takes: dictionaries, lists, text, numbers, None.

    Raise ``TypeError`` for a type that has no plain form (a mistake in the program).
    """
    encode = _encoders.get(type(value)) or _encoder(type(value))
    return encode(value)


def from_plain(cls: type[T], plain: Any) -> T:
    """The value of ``cls`` that ``to_plain`` wrote.

    Raise ``PeerError`` that names the field and what it held.
    """
    decode = decoder(cls)
    result: T = decode(plain)
    return result


def decoder(hint: Any) -> Codec:
    """What reads the plain form of a type hint."""
    return _decoders.get(hint) or _decoder(hint)


def dumps(value: Any) -> str:
    """One line of JSON."""
    return _compact(to_plain(value))


def loads(cls: type[T], text: str) -> T:
    """The value of ``cls`` that ``dumps`` wrote; raise ``PeerError`` for anything else."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PeerError(f"{_name(cls)}: no JSON: {error}") from None
    return from_plain(cls, plain)


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)


def _same(value: Any) -> Any:
    return value


# Writing: by the type of the value itself.


def _encoder(cls: type) -> Codec:
    encode: Codec
    if cls in _ATOMS:
        encode = _same
    elif issubclass(cls, Enum):
        encode = attrgetter("_value_")
    elif is_dataclass(cls):
        encode = _dataclass_encoder(cls)
    elif issubclass(cls, (tuple, list, set, frozenset)):
        encode = _plain_list
    elif issubclass(cls, dict):
        encode = _plain_dict
    else:
        raise TypeError(f"{cls.__name__} has no plain form")
    _encoders[cls] = encode
    return encode


def _plain_list(value: Any) -> list[Any]:
    return [to_plain(item) for item in value]


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    return {str(to_plain(name)): to_plain(item) for name, item in value.items()}


def _dataclass_encoder(cls: type) -> Codec:
    hints = typing.get_type_hints(cls)
    names = tuple(f.name for f in fields(cls))
    nested = tuple(name for name in names if not _is_atom(hints[name]))
    if len(names) < 2:  # attrgetter of one name gives no tuple
        return lambda value: {name: to_plain(getattr(value, name)) for name in names}
    values = attrgetter(*names)

    def encode(value: Any) -> dict[str, Any]:
        plain = dict(zip(names, values(value), strict=True))
        for name in nested:
            plain[name] = to_plain(plain[name])
        return plain

    return encode


def _is_atom(hint: Any) -> bool:
    if _is_union(hint):
        return all(_is_atom(part) for part in typing.get_args(hint))
    return hint in _ATOMS


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


# Reading: by the type hint.


def _decoder(hint: Any) -> Codec:
    origin = typing.get_origin(hint)
    decode: Codec
    if hint in (Any, object):
        decode = _same
    elif hint in _ATOM_DECODERS:
        decode = _ATOM_DECODERS[hint]
    elif _is_union(hint):
        decode = _union_decoder(hint)
    elif origin in (tuple, list):
        decode = _sequence_decoder(hint, origin)
    elif origin is dict:
        decode = _dict_decoder(hint)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        decode = _enum_decoder(hint)
    elif isinstance(hint, type) and is_dataclass(hint):
        decode = _dataclass_decoder(hint)
    else:
        raise TypeError(f"{_name(hint)} cannot be read from its plain form")
    _decoders[hint] = decode
    return decode


def _wrong(value: Any, wanted: str) -> PeerError:
    text = repr(value)
    return PeerError(f"{text if len(text) <= 40 else text[:37] + '...'} is no {wanted}")


def _text(value: Any) -> Any:
    if type(value) is str:
        return value
    raise _wrong(value, "text")


def _bool(value: Any) -> Any:
    if type(value) is bool:
        return value
    raise _wrong(value, "true or false")


def _int(value: Any) -> Any:
    if type(value) is int:
        return value
    raise _wrong(value, "whole number")


def _float(value: Any) -> Any:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    raise _wrong(value, "number")


def _none(value: Any) -> Any:
    if value is None:
        return value
    raise _wrong(value, "null")


_ATOM_DECODERS: dict[Any, Codec] = {str: _text, bool: _bool, int: _int, float: _float, type(None): _none}


def _union_decoder(hint: Any) -> Codec:
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    if len(parts) != 1:
        raise TypeError(f"{hint} cannot be read from its plain form: only X | None can")
    inner = decoder(parts[0])
    return lambda value: None if value is None else inner(value)


def _sequence_decoder(hint: Any, origin: type) -> Codec:
    args = typing.get_args(hint)
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        inners = [decoder(arg) for arg in args]

        def decode_fixed(value: Any) -> Any:
            if type(value) is not list or len(value) != len(inners):
                raise _wrong(value, f"list of {len(inners)}")
            return tuple(inner(item) for inner, item in zip(inners, value, strict=True))

        return decode_fixed
    inner = decoder(args[0])

    def decode(value: Any) -> Any:
        if type(value) is not list:
            raise _wrong(value, "list")
        return origin([inner(item) for item in value])

    return decode


def _dict_decoder(hint: Any) -> Codec:
    key, item = typing.get_args(hint)
    if key is not str:
        raise TypeError(f"{hint} cannot be read from its plain form: keys are text")
    inner = decoder(item)

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong(value, "object")
        return {name: inner(part) for name, part in value.items()}

    return decode


def _enum_decoder(cls: type[Enum]) -> Codec:
    members = {member.value: member for member in cls}

    def decode(value: Any) -> Any:
        try:
            return members[value]
        except (KeyError, TypeError):
            raise _wrong(value, f"{cls.__name__} ({', '.join(map(str, members))})") from None

    return decode


def _dataclass_decoder(cls: type) -> Codec:
    parts: list[tuple[str, Codec, bool]] = []
    title = cls.__name__

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong(value, title)
        known: dict[str, Any] = {}
        for name, inner, required in parts:
            if name in value:
                try:
                    known[name] = inner(value[name])
                except PeerError as error:
                    raise PeerError(f"{title}.{name}: {error}") from None
            elif required:
                raise PeerError(f"{title}.{name}: missing")
        return cls(**known)

    _decoders[cls] = decode  # before its fields: one of them may hold the same class
    try:
        hints = typing.get_type_hints(cls)
        for spec in fields(cls):
            if spec.init:
                hint = hints[spec.name]
                parts.append((spec.name, decoder(hint), _required(spec)))
    except BaseException:
        del _decoders[cls]
        raise
    return decode


def _required(spec: Any) -> bool:
    return spec.default is MISSING and spec.default_factory is MISSING
