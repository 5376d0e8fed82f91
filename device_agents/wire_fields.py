"""What the fields of a wire message may hold, checked; and what all messages share. MicroPython subset."""

from device_agents.ujson_shim import dumps, loads

# Longest body taken; the longest of ours, a Connected with every key, is near 400 bytes.
MAX_BODY = 2048
MAX_TEXT = 200
MAX_DEV = 99999
MAX_PRIORITY = 999999
MAX_DIMMING = 9
# What every JSON library holds exactly.
MAX_COUNTER = 9007199254740991
MAX_MW = 1000000000000
MAX_MWH = 1000000000000000
MAX_MV = 1000000000
MAX_MHZ = 1000000
MAX_SOC = 1000
MAX_SECONDS = 31622400

_NOT_JSON = object()


class WireError(ValueError):
    """A peer sent what the device wire does not allow; the text names the field and what it held."""


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def parsed(body: bytes, what: str) -> dict[str, object]:
    if len(body) > MAX_BODY:
        raise WireError(what + ": " + str(len(body)) + " bytes, more than " + str(MAX_BODY))
    try:
        value = loads(body)
    except ValueError:
        value = _NOT_JSON  # raised below: MicroPython has no exception chaining and warns of `from`
    if value is _NOT_JSON:
        raise WireError(what + ": not JSON: " + shown(bytes(body[:40])))
    if not isinstance(value, dict):
        raise WireError(what + ": " + shown(value) + " is not an object")
    return value


def number(field: str, value: object, least: int, most: int) -> int:
    # type() and not isinstance(): a bool is an int to Python.
    if type(value) is not int or value < least or value > most:
        raise WireError(field + ": " + shown(value) + " is not an integer from " + str(least) + " to " + str(most))
    return value


def may(field: str, value: object, least: int, most: int) -> int | None:
    return None if value is None else number(field, value, least, most)


def flag(field: str, value: object) -> bool | None:
    if value is None or value is True or value is False:
        return value
    raise WireError(field + ": " + shown(value) + " is not true or false")


def string(field: str, value: object, most: int = MAX_TEXT) -> str:
    # Half a surrogate pair is no character, and nothing could print it.
    if not isinstance(value, str) or len(value) > most or any([0xD800 <= ord(c) < 0xE000 for c in value]):
        raise WireError(field + ": " + shown(value) + " is not a text of at most " + str(most) + " characters")
    return value


def written(pairs: tuple[tuple[str, object], ...]) -> bytes:
    """An object of those pairs, in that order, without the ones that are None."""
    return ("{" + ",".join(['"' + k + '":' + dumps(v) for k, v in pairs if v is not None]) + "}").encode()


def endpoint(field: str, value: object) -> str:
    text = string(field, value, 80)
    host, _, port = text.rpartition(":")
    if not host or not digits(port, 5) or not 0 < int(port) < 65536:
        raise WireError(field + ": " + shown(value) + " is not host:port")
    return text


def digits(text: str, most: int) -> bool:
    return 0 < len(text) <= most and all([c in "0123456789" for c in text])


def ascii_text(field: str, body: bytes) -> str:
    if not 0 < len(body) <= MAX_TEXT or not all([32 <= byte < 127 for byte in body]):
        raise WireError(field + ": " + shown(bytes(body[:40])) + " is not a short text")
    return bytes(body).decode()


class Message:
    """Equality and a readable form by the fields, for tests and logs."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return all([getattr(self, name) == getattr(other, name) for name in self.__slots__])

    def __repr__(self) -> str:
        return type(self).__name__ + "(" + ", ".join([n + "=" + repr(getattr(self, n)) for n in self.__slots__]) + ")"
