"""Negotiation between EMAs (docs/wire.md, "Negotiation"): our ledger's messages, and the lab's ask and its answer.

Our messages are one table here: each has a name, ``GW`` and its own keys. What they mean is no matter of the wire.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.links.mir2017.messages.fields import (
    HIGHEST_EMA,
    LARGEST_NUMBER,
    LARGEST_WATTS,
    Fields,
    ema_name,
    read_json,
    write_json,
)
from gateway.record import record

# 1 GW in mW; a price in units a kWh; a loan of a day.
LARGEST_MW = LARGEST_WATTS * 1000
LARGEST_PRICE = 1_000_000_000
LONGEST_S = 86_400
MOST_PARTS = 1000

Value = int | str | None

# By name: what our side calls a value → (its key, the most it may be; 0: text, negative: may be null).
_NUMBER = LARGEST_NUMBER
_OFFER: dict[str, tuple[str, int]] = {
    "boot": ("Boot", _NUMBER),
    "number": ("Number", _NUMBER),
    "mw": ("Power", LARGEST_MW),
    "price": ("Price", LARGEST_PRICE),
}
_LOAN: dict[str, tuple[str, int]] = {"loan_id": ("Loan", _NUMBER)}
_PART: dict[str, tuple[str, int]] = {
    **_LOAN,
    "lender": ("Lender", 0),
    "mw": ("Power", LARGEST_MW),
    "price": ("Price", LARGEST_PRICE),
}
FROM_MEMBER: dict[str, dict[str, tuple[str, int]]] = {
    "Ask": {
        "ask_id": ("Ask", _NUMBER),
        "mw": ("Power", LARGEST_MW),
        "least_mw": ("Least", LARGEST_MW),
        "cap": ("Cap", -LARGEST_PRICE),
        "for_s": ("Duration", LONGEST_S),
    },
    "Offer": _OFFER,
    "Lent": _LOAN,
    "Refused": {**_LOAN, "why": ("Why", 0)},
    "Taken": {"ask_id": ("Ask", _NUMBER)},
    "Returned": _LOAN,
    "Recall": _LOAN,
    "Released": _LOAN,
    "Still": {**_LOAN, "boot": ("Boot", _NUMBER)},
}
FROM_COORDINATOR: dict[str, dict[str, tuple[str, int]]] = {
    "Query": {},
    "Prepare": {
        **_LOAN,
        "borrower": ("Borrower", 0),
        "mw": ("Power", LARGEST_MW),
        "price": ("Price", LARGEST_PRICE),
        "for_s": ("Duration", LONGEST_S),
    },
    "Result": {"ask_id": ("Ask", _NUMBER), "for_s": ("Duration", LONGEST_S), "why": ("Why", 0)},
    "GiveBack": _LOAN,
    "Closed": _LOAN,
    "Release": _LOAN,
    "Kept": {**_LOAN, "boot": ("Boot", _NUMBER), "left_s": ("Left", LONGEST_S)},
}
LONGEST_WHY = 200
SERVICE = "Negotiation"


@record
class Negotiation:
    """One message: ``kind`` and its values by our names; ``parts`` of a Result, ``offer`` of a Refused. ``ema``: of
    the member, whoever speaks."""

    ema: int
    kind: str
    values: Mapping[str, Value]
    parts: tuple[Mapping[str, Value], ...] = ()
    offer: Mapping[str, Value] | None = None

    def encode(self) -> bytes:
        table = FROM_MEMBER.get(self.kind) or FROM_COORDINATOR[self.kind]
        keys: dict[str, object] = {"Service": SERVICE, "GW": ema_name(self.ema), "Type": self.kind}
        keys |= _keys(table, self.values)
        if self.kind == "Result":
            keys["Loans"] = [_keys(_PART, part) for part in self.parts]
        if self.offer is not None:
            keys["Offer"] = _keys(_OFFER, self.offer)
        return write_json(keys)

    @classmethod
    def decode(cls, body: bytes, upwards: bool) -> Negotiation:
        """``upwards``: from a member. Raise ``PeerError``."""
        return _read(read_json(body, SERVICE), FROM_MEMBER if upwards else FROM_COORDINATOR)


def _keys(table: Mapping[str, tuple[str, int]], values: Mapping[str, Value]) -> dict[str, object]:
    keys: dict[str, object] = {}
    for name, (key, most) in table.items():
        value = values[name]
        if most == 0:
            text = str(value)
            keys[key] = (text if text.isprintable() else ascii(text))[:LONGEST_WHY]
        else:
            keys[key] = value
    return keys


def _read(f: Fields, tables: Mapping[str, Mapping[str, tuple[str, int]]]) -> Negotiation:
    kind = f.text("Type")
    table = tables.get(kind)
    if table is None:
        raise f.wrong("Type", f"one of {', '.join(tables)}")
    parts: tuple[Mapping[str, Value], ...] = ()
    if kind == "Result":
        parts = tuple([_values(part, _PART) for part in f.objects("Loans", MOST_PARTS)])
    offer = _values(f.object("Offer"), _OFFER) if kind == "Refused" else None
    return Negotiation(f.ema("GW"), kind, _values(f, table), parts, offer)


def _values(f: Fields, table: Mapping[str, tuple[str, int]]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, (key, most) in table.items():
        if most == 0:
            values[name] = f.text_or(key, "")
        elif most < 0:
            values[name] = f.whole_or(key, None, 0, -most)
        else:
            values[name] = f.whole(key, 0, most)
    return values


_LAB_ID = re.compile(r"(?:gw/|.*_?(?:MIR|VEN|EMA))?([0-9]{1,5})")


@record
class LabAsk:
    """The lab's ``{ID, energy}``: an EMA wants ``energy`` W as its threshold."""

    ema: int
    energy: int

    def encode(self) -> bytes:
        return write_json({"ID": ema_name(self.ema), "energy": self.energy})

    @classmethod
    def decode(cls, body: bytes) -> LabAsk:
        """``ID`` is ``gw/1``, a VENID that ends in the number, or the number. Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        found = _LAB_ID.fullmatch(str(f.scalar("ID")))
        if found is None or not 1 <= int(found[1]) <= HIGHEST_EMA:
            raise f.wrong("ID", "an EMA, such as gw/1")
        return cls(int(found[1]), f.whole("energy", 0, LARGEST_WATTS))


@record
class LabAnswer:
    """The lab's ``{"Check":"ACCEPTED","Margin":energy}`` or ``{"Check":"Reject","Margin":0}``."""

    accepted: bool
    margin: int

    def encode(self) -> bytes:
        return write_json({"Check": "ACCEPTED" if self.accepted else "Reject", "Margin": self.margin})

    @classmethod
    def decode(cls, body: bytes) -> LabAnswer:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        check = f.text("Check")
        if check.upper() not in ("ACCEPTED", "REJECT"):
            raise f.wrong("Check", "ACCEPTED or Reject")
        return cls(check.upper() == "ACCEPTED", f.whole("Margin", 0, LARGEST_WATTS))


def upwards(body: bytes) -> Negotiation | LabAsk:
    """What an EMA says of it, in either form. Raise ``PeerError``."""
    f = read_json(body, SERVICE)
    return _read(f, FROM_MEMBER) if "Type" in f else LabAsk.decode(body)


def downwards(body: bytes) -> Negotiation | LabAnswer:
    """What its upper side says of it, in either form. Raise ``PeerError``."""
    f = read_json(body, SERVICE)
    return LabAnswer.decode(body) if "Check" in f else _read(f, FROM_COORDINATOR)


__all__ = ["LabAnswer", "LabAsk", "Negotiation", "downwards", "upwards"]
