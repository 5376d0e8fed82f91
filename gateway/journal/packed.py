"""The outbox's packed form of its records: numbers as the machine has them, little-endian, in the order written here.

A third of the time of ``rows.py``'s JSON to write and to read, for what is written most. The first byte tells the form;
any change of a layout takes a new one, and ``tests/gateway/journal/test_packed.py`` pins this one. What does not fit
(a kind or a number that the layout has no room for) is kept as JSON, and so are records of older files: text is JSON,
bytes are packed.
"""

from __future__ import annotations

import struct
from struct import Struct

from gateway.errors import PeerError
from gateway.journal import rows
from gateway.site.report import DeviceLine, DeviceNotice, NoticeKind, OutboxBody, SiteReport

# Written as ``bytearray``: sqlite3 looks for an adapter for each ``bytes``, which takes as long as to insert it.
Body = bytearray | bytes | str

FORM = 1
_FORM = bytes([FORM])
# form, what is known (below), at, power_w, threshold_w, margin_w, generate_w, storage_w; then the devices' lines
_REPORT = Struct("<BB6d")
_THRESHOLD, _MARGIN = 1, 2
# form, kind, at; then one line
_NOTICE = Struct("<BBd")
# number, kind, flags, level, priority, power_w
_LINE = Struct("<IBBBhd")
_ON, _POWER = 1, 2

# Only to be added to, at the end.
_DEVICE_KINDS = ("led", "pv", "ess", "ev", "virtual", "ema")
_NOTICE_KINDS = (NoticeKind.CONNECTED, NoticeKind.DISCONNECTED, NoticeKind.CHANGED)

_DEVICE_CODES = {kind: code for code, kind in enumerate(_DEVICE_KINDS)}
_NOTICE_CODES = {kind: code for code, kind in enumerate(_NOTICE_KINDS)}

_pack_head = _REPORT.pack
_pack_line = _LINE.pack

KINDS: dict[type, str] = {SiteReport: "report", DeviceNotice: "notice"}
"""The names of the records' types in the file."""

_CLASSES: dict[str, type[OutboxBody]] = {"report": SiteReport, "notice": DeviceNotice}


def dumps(body: OutboxBody) -> bytearray | str:
    """Packed, or as JSON when it does not fit."""
    try:
        if type(body) is SiteReport:
            return _report(body)
        assert type(body) is DeviceNotice
        packed = bytearray(_NOTICE.pack(FORM, _NOTICE_CODES[body.kind], body.at))
        packed += _line(body.device)
    except (struct.error, KeyError, OverflowError, TypeError):
        return rows.dumps(body)
    return packed


def _report(report: SiteReport) -> bytearray:
    threshold, margin = report.threshold_w, report.margin_w
    known = _THRESHOLD | _MARGIN
    if threshold is None:
        threshold, known = 0.0, _MARGIN
    if margin is None:
        margin, known = 0.0, known & _THRESHOLD
    packed = bytearray(
        _pack_head(FORM, known, report.at, report.power_w, threshold, margin, report.generate_w, report.storage_w)
    )
    for line in report.devices:
        packed += _line(line)
    return packed


def _line(line: DeviceLine) -> bytes:
    power = line.power_w
    if power is None:
        return _pack_line(line.number, _DEVICE_CODES[line.kind], line.on, line.level, line.priority, 0.0)
    return _pack_line(line.number, _DEVICE_CODES[line.kind], line.on | _POWER, line.level, line.priority, power)


def loads(kind: str, body: Body) -> OutboxBody:
    """What ``dumps`` wrote, of this or of an older program; raise ``PeerError`` that says what is wrong."""
    cls = _CLASSES.get(kind)
    if cls is None:
        raise PeerError(f"{kind!r} is no kind of record")
    if isinstance(body, str):
        return rows.loads(cls, body)
    if body[:1] != _FORM:
        raise PeerError(f"{cls.__name__}: its form is {bytes(body[:1]).hex() or 'missing'}, only {FORM:02x} is known")
    try:
        return _read_report(body) if cls is SiteReport else _read_notice(body)
    except (struct.error, ValueError, IndexError) as error:
        raise PeerError(f"{cls.__name__}: {len(body)} bytes are not a whole one: {error}") from None


def _read_report(body: bytes | bytearray) -> SiteReport:
    _, known, at, power, threshold, margin, generate, storage = _REPORT.unpack_from(body)
    return SiteReport(
        at,
        power,
        threshold if known & _THRESHOLD else None,
        margin if known & _MARGIN else None,
        generate,
        storage,
        _read_lines(body[_REPORT.size :]),
    )


def _read_notice(body: bytes | bytearray) -> DeviceNotice:
    _, kind, at = _NOTICE.unpack_from(body)
    (line,) = _read_lines(body[_NOTICE.size :])
    return DeviceNotice(at, _NOTICE_KINDS[kind], line)


def _read_lines(packed: bytes | bytearray) -> tuple[DeviceLine, ...]:
    return tuple(
        [
            DeviceLine(
                number, _DEVICE_KINDS[kind], bool(flags & _ON), level, power if flags & _POWER else None, priority
            )
            for number, kind, flags, level, priority, power in _LINE.iter_unpack(packed)
        ]
    )
