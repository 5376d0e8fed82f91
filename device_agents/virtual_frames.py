"""CoAP frames (RFC 7252) as a virtual LED needs them: requests and answers of one datagram each.

A context of aiocoap a device would cost a thousand times its memory. Cannot do: blocks, observe, proxying.
"""

from __future__ import annotations

import struct

CON, NON, ACK, RST = range(4)
EMPTY = 0
PUT = 3
CREATED_AND_MORE = 0x40
CHANGED = 0x44
BAD_REQUEST = 0x80
BAD_OPTION = 0x82
NOT_FOUND = 0x84
METHOD_NOT_ALLOWED = 0x85
TOO_LARGE = 0x8D
JSON = 50

_URI_PATH = 11
_BLOCK1 = 27
# Options of a request that change nothing here: Uri-Host, Uri-Port, Content-Format's and Accept's are read over.
_KNOWN = (3, 7, 12, 17)


class FrameError(ValueError):
    """A datagram that is no CoAP."""


class Frame:
    """One datagram. ``code`` is the raw byte; ``path`` of a request; ``bad`` is an option that is critical and
    unknown, ``block`` says that it is one of several."""

    __slots__ = ("bad", "block", "code", "kind", "mid", "path", "payload", "token")

    def __init__(self, kind: int, code: int, mid: int, token: bytes, path: str, payload: bytes) -> None:
        self.kind = kind
        self.code = code
        self.mid = mid
        self.token = token
        self.path = path
        self.payload = payload
        self.bad = False
        self.block = False

    @property
    def request(self) -> bool:
        return 0 < self.code < 0x20


def put(mid: int, token: bytes, path: str, payload: bytes) -> bytes:
    """A confirmable PUT of JSON to a path of one segment."""
    name = path.encode()
    assert len(name) < 13
    head = struct.pack("!BBH", 0x40 | CON << 4 | len(token), PUT, mid)
    options = bytes((_URI_PATH << 4 | len(name),)) + name + bytes((1 << 4 | 1, JSON))
    return head + token + options + b"\xff" + payload


def answer(to: Frame, code: int, mid: int, payload: bytes = b"", json: bool = False) -> bytes:
    """The answer to a request: with its acknowledgement, or non-confirmable (then with a number of ours)."""
    kind, number = (ACK, to.mid) if to.kind == CON else (NON, mid)
    head = struct.pack("!BBH", 0x40 | kind << 4 | len(to.token), code, number)
    if not payload:
        return head + to.token
    return head + to.token + (bytes((12 << 4 | 1, JSON)) if json else b"") + b"\xff" + payload


def empty(kind: int, mid: int) -> bytes:
    """An ACK or RST alone."""
    return struct.pack("!BBH", 0x40 | kind << 4, EMPTY, mid)


def decode(data: bytes) -> Frame:
    """Raise ``FrameError`` for what is no CoAP."""
    if len(data) < 4 or data[0] >> 6 != 1 or data[0] & 15 > 8:
        raise FrameError("no CoAP header")
    at = 4 + (data[0] & 15)
    if at > len(data):
        raise FrameError("its token is cut off")
    code, mid = data[1], data[2] << 8 | data[3]
    frame = Frame(data[0] >> 4 & 3, code, mid, data[4:at], "", b"")
    segments = []
    option = 0
    while at < len(data):
        if data[at] == 0xFF:
            frame.payload = data[at + 1 :]
            if not frame.payload:
                raise FrameError("a payload marker without payload")
            break
        delta, length = data[at] >> 4, data[at] & 15
        delta, at = _extended(data, at + 1, delta)
        length, at = _extended(data, at, length)
        value = data[at : at + length]
        at += length
        if at > len(data):
            raise FrameError("an option is cut off")
        option += delta
        if option == _URI_PATH:
            segments.append(value.decode("ascii", "replace"))
        elif option == _BLOCK1:
            # The first and only one of several is a whole message.
            frame.block = int.from_bytes(value, "big") & ~0x7 != 0
        elif option & 1 and option not in _KNOWN:
            frame.bad = True
    frame.path = "/".join(segments)
    return frame


def _extended(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    if nibble < 13:
        return nibble, at
    size = nibble - 12
    if nibble == 15 or at + size > len(data):
        raise FrameError("an option's head is malformed")
    return int.from_bytes(data[at : at + size], "big") + (13 if size == 1 else 269), at + size
