"""JSON as the device wire needs it, the same bytes on every interpreter: dumps, loads, dump, load.

Under MicroPython it wraps the interpreter's own module, under CPython the standard library's (the gateway loads that
anyway; the C library ``ujson`` beside it costs 1.4 MB and saves a microsecond a message). Output is ASCII (other
characters escaped), compact, never NaN. ``loads`` raises ``ValueError`` and nothing else. Key order is not kept on
every interpreter. MicroPython's parser is laxer than the others about commas and colons; what comes out of it is
checked by the caller all the same.
"""

import sys

MICROPYTHON = sys.implementation.name == "micropython"


def _library() -> object:
    # __import__, because a type checker does not know a board's module, and no importlib exists there.
    if MICROPYTHON:
        try:
            return __import__("ujson")
        except ImportError:
            pass
    return __import__("json")


_loads = getattr(_library(), "loads")  # noqa: B009 - no attribute that a type checker could know


def _text(value: str) -> str:
    out = ['"']
    for char in value:
        code = ord(char)
        if char in ('"', "\\"):
            out.append("\\" + char)
        elif 32 <= code < 127:
            out.append(char)
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            code -= 0x10000
            out.append(f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}")
    out.append('"')
    return "".join(out)


def dumps(value: object) -> str:
    """ASCII text of None, bool, int, float, str, list, tuple and dict with text keys. Raise ``ValueError`` else.

    Written by ourselves, not by a library: MicroPython writes other characters raw.
    """
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("JSON has no " + str(value))
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    if isinstance(value, dict):
        parts = []
        for key in value:
            if not isinstance(key, str):
                raise ValueError("JSON has no key " + repr(key))
            parts.append(_text(key) + ":" + dumps(value[key]))
        return "{" + ",".join(parts) + "}"
    raise ValueError("JSON has no " + type(value).__name__)


def _joined(value: object) -> object:
    """MicroPython's parser leaves the two halves of an escaped pair apart."""
    if isinstance(value, str):
        out: list[str] = []
        high = 0
        for char in value:
            code = ord(char)
            if high and 0xDC00 <= code < 0xE000:
                out[-1] = chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00)
                high = 0
            else:
                out.append(char)
                high = code if 0xD800 <= code < 0xDC00 else 0
        return "".join(out)
    if isinstance(value, list):
        return [_joined(item) for item in value]
    if isinstance(value, dict):
        return {_joined(key): _joined(value[key]) for key in value}
    return value


def _has_pair(text: str | bytes) -> bool:
    return (b"\\ud" if isinstance(text, bytes) else "\\ud") in text  # type: ignore[operator]


def loads(text: str | bytes) -> object:
    """The value of one JSON text. Raise ``ValueError`` for anything else, however deep or broken."""
    try:
        value = _loads(text)
        return _joined(value) if MICROPYTHON and _has_pair(text) else value
    except ValueError:
        raise
    except Exception as err:  # TypeError, RecursionError, MemoryError and more, by interpreter
        wrong = type(err).__name__
    raise ValueError("not JSON: " + wrong)


def dump(value: object, stream) -> None:  # type: ignore[no-untyped-def]
    """Write ``dumps(value)`` to a text stream."""
    stream.write(dumps(value))


def load(stream) -> object:  # type: ignore[no-untyped-def]
    """``loads`` of all that a text or byte stream holds."""
    return loads(stream.read())
