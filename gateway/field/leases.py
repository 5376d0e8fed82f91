"""`ack`, the sign of life that keeps the devices' leases: control's own, so there is none while it stands still."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.field.presence import Entry, Presence

# Rounds of `ack` in a third of the lease: two hundred at once would hold up a command that is due.
SPREAD = 10
# Control is woken at each look, and one that lives turns before the next; a loop that was busy gets two more.
LOOKS_MISSED = 3


def turns_of(inputs: object) -> Callable[[], int] | None:
    """The engine's count of its turns; to read it asks for the next one, for idle control may sleep for long."""
    if not hasattr(inputs, "turns"):
        return None

    def count() -> int:
        turns = int(getattr(inputs, "turns", 0))
        wake = getattr(inputs, "wake", None)
        if wake is not None:
            wake()
        return turns

    return count


class Leases:
    """Keeps the leases of one adapter's devices while control lives.

    ``pulse``: a number that changes while control lives (``turns_of``); None: it lives as long as this loop does.
    ``alive``: whether it did at the last look.
    """

    def __init__(
        self,
        presence: Presence,
        clock: Clock,
        acknowledge: Callable[[Entry], None],
        pulse: Callable[[], int] | None,
        logger: logging.Logger,
    ) -> None:
        self.alive = True
        self._presence = presence
        self._clock = clock
        self._acknowledge = acknowledge
        self._pulse = pulse
        self._log = logger
        self._seen: int | None = None
        self._missed = 0

    async def keep(self) -> None:
        """``ack`` to every present device each third of the lease; until cancelled."""
        turn = 0
        while True:
            await self._clock.sleep(self._presence.lease_s / 3 / SPREAD)
            self._look()
            self._presence.overdue()
            self._presence.once.settle()
            if self.alive:
                self._presence.say_again()
            for entry in self._presence.entries.values():
                # A device of the lab knows no lease: it is only asked whether it is there.
                asked = (entry.here and self.alive) or entry.called or (entry.here and entry.lab is not None)
                if asked and entry.number % SPREAD == turn:
                    self._acknowledge(entry)
            turn = (turn + 1) % SPREAD

    def _look(self) -> None:
        count = self._pulse() if self._pulse is not None else None
        self._missed = self._missed + 1 if count is not None and count == self._seen else 0
        self._seen = count
        alive = self._missed < LOOKS_MISSED
        if alive is not self.alive:
            self.alive = alive
            if alive:
                self._log.info("%s: control goes on; the devices hear of us again", self._presence.link)
            else:
                self._log.warning(
                    "%s: control stands still; without ack the devices go to their safe states", self._presence.link
                )
