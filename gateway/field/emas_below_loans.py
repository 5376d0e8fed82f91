"""EMAs below lend each other power, and this one keeps their book (docs/negotiation.md, "The coordinator").

Its rows are values ``ledger/…`` of the essential journal.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.control.negotiation.ledger import Entry, Stage
from gateway.control.negotiation.messages import FromCoordinator
from gateway.control.negotiation.step import News
from gateway.coordinator_desk import RESERVED, CoordinatorDesk, Rows
from gateway.errors import TransientError
from gateway.links.mir2017.messages import ema_name
from gateway.links.mir2017.messages.negotiation import Negotiation
from gateway.negotiation_words import from_member, written

START = "ledger/"
_RESERVED_KEY = f"{START}reserved"


class Ledger(Protocol):
    """The journal's."""

    def values(self, start: str) -> dict[str, str]: ...

    def save_value(self, key: str, value: str) -> None: ...

    def remove_value(self, key: str) -> None: ...

    async def durable(self) -> None: ...


class Loans:
    """``say``: a word to an EMA below, by its n. ``tick`` is called each second."""

    def __init__(
        self, journal: Ledger, clock: Clock, say: Callable[[int, Negotiation], None], logger: logging.Logger
    ) -> None:
        self._journal = journal
        self._say = say
        self._log = logger
        self._tasks: set[asyncio.Task[None]] = set()
        kept = journal.values(START)
        reserved = kept.pop(_RESERVED_KEY, None)
        entries = [_entry(text) for text in kept.values()]
        self.desk = CoordinatorDesk(
            clock, self, self._send, self._tell, lambda: None, entries, None if reserved is None else int(reserved)
        )

    def heard(self, ema: int, message: Negotiation) -> None:
        """A member speaks."""
        self.desk.heard(ema_name(ema), from_member(message))

    def came(self, ema: int) -> None:
        """It is there again."""
        if ema_name(ema) in self.desk.balances():
            self.desk.came(ema_name(ema))

    def gone(self, ema: int) -> None:
        """It cannot be reached."""
        self.desk.gone(ema_name(ema))

    def tick(self) -> None:
        """Meet deadlines, say again what was not answered."""
        self.desk.tick()

    def status(self) -> dict[str, object]:
        """W borrowed less lent, by EMA."""
        return {name: mw / 1000 for name, mw in sorted(self.desk.balances().items())}

    def save(self, rows: Rows, done: Callable[[Exception | None], None]) -> None:
        """To the journal (``coordinator_desk.Disk``)."""
        for key, body in rows.items():
            if key == RESERVED:
                self._journal.save_value(_RESERVED_KEY, str(body))
            elif isinstance(body, Entry):
                self._journal.save_value(f"{START}{key[1]}", _text(body))
            else:
                self._journal.remove_value(f"{START}{key[1]}")
        task = asyncio.get_running_loop().create_task(self._written(done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _written(self, done: Callable[[Exception | None], None]) -> None:
        try:
            await self._journal.durable()
        except TransientError as err:
            done(err)
        else:
            done(None)

    def _send(self, member: str, message: FromCoordinator) -> None:
        number = int(member.removeprefix("gw/"))
        self._say(number, written(number, message))

    def _tell(self, news: News) -> None:
        self._log.info("negotiation below: %s: %s", news.kind.value, news.why)


def _text(entry: Entry) -> str:
    names = (entry.loan_id, entry.ask_id, entry.lender, entry.borrower, entry.mw, entry.price, entry.for_s)
    return json.dumps([*names, entry.stage.value])


def _entry(text: str) -> Entry:
    loan_id, ask_id, lender, borrower, mw, price, for_s, stage = json.loads(text)
    return Entry(loan_id, ask_id, lender, borrower, mw, price, for_s, 0.0, Stage(stage))
