"""A member's rows of the negotiation in the journal: one value a loan, under ``loan/<table>/<number>``."""

from __future__ import annotations

import json
import logging
from typing import Any, Protocol

from gateway.control.negotiation.step import Borrowing, Hold, Lending, Row

log = logging.getLogger("smartema.loans")

_START = "loan/"


class LoanNotes(Protocol):
    """The journal's."""

    def values(self, start: str) -> dict[str, str]:
        """All whose key begins so."""

    def save_value(self, key: str, value: str) -> None:
        """Note it; returns at once."""

    def remove_value(self, key: str) -> None:
        """It is needed no more."""


def any_loans(notes: LoanNotes) -> bool:
    """Did an earlier start leave loans."""
    return bool(notes.values(_START))


def load(notes: LoanNotes) -> list[Row]:
    """What earlier starts left. A row that cannot be read is passed over, and said."""
    rows = []
    for key, text in notes.values(_START).items():
        try:
            _, table, number = key.split("/")
            rows.append(Row(table, int(number), _body(table, json.loads(text))))
        except (ValueError, TypeError, KeyError) as err:
            log.error("%s in the essential journal is not readable and passed over: %s", key, err)
    return rows


def save(notes: LoanNotes, row: Row) -> None:
    """The newest of a (table, number) holds; without a body it is deleted."""
    key = f"{_START}{row.table}/{row.number}"
    body = row.body
    if isinstance(body, Lending):
        kept: list[object] = [body.borrower, body.mw, body.price, body.for_s]
    elif isinstance(body, Borrowing):
        kept = [body.lender, body.mw, body.price, body.for_s, body.hold.value]
    else:
        notes.remove_value(key)
        return
    notes.save_value(key, json.dumps([row.number, *kept]))


def _body(table: str, kept: list[Any]) -> Lending | Borrowing:
    number, peer, mw, price, for_s, *hold = kept
    if table == "lending":
        return Lending(int(number), str(peer), int(mw), int(price), int(for_s), 0.0)
    if table == "borrowing":
        return Borrowing(int(number), str(peer), int(mw), int(price), int(for_s), 0.0, Hold(hold[0]))
    raise KeyError(table)
