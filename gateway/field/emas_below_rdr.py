"""RDRs of EMAs below: one at a time for each of them, each within the time that its EMA waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.clock import Clock
from gateway.config.model import EMA_NUMBERS, EmasBelowConfig
from gateway.field.emas_below_holds import Holds
from gateway.site.event import RdrAnswer, RdrResult

# Of the time that an EMA below waits; the rest is for the way there and back and for the disk.
SHARE = 0.8
# Of one EMA; its own desk asks once a device.
MOST_WAITING = 100
LATE = "the answer came too late for it"

# (ema, device, (granted, why), what takes a grant back)
Tell = Callable[[int, int, tuple[bool, str], Callable[[], None]], None]


class RdrInputs(Protocol):
    """As much of the site as this needs."""

    def asked_by_ema(self, number: int, watts: float, for_s: float, within_s: float) -> RdrAnswer: ...

    def give_back(self, number: int, watts: float, why: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Ask:
    device: int
    watts: float
    until: float  # monotonic seconds


class RdrQueue:
    """The site knows an EMA as one resource, and one request in flight a resource."""

    def __init__(self, table: EmasBelowConfig, inputs: RdrInputs, holds: Holds, clock: Clock, tell: Tell) -> None:
        self.table = table
        self._inputs = inputs
        self._holds = holds
        self._clock = clock
        self._tell = tell
        self._under_way: dict[int, _Ask] = {}
        self._waiting: dict[int, deque[_Ask]] = {}

    def asked(self, ema: int, device: int, watts: float) -> None:
        """Device ``device`` of that EMA asks; the same again, while it waits, is the same."""
        ask = _Ask(device, watts, self._clock.monotonic() + self.table.rdr_wait_s * SHARE)
        waiting = self._waiting.setdefault(ema, deque())
        known = [*waiting, *([self._under_way[ema]] if ema in self._under_way else [])]
        if any(other.device == device for other in known):
            return
        if len(waiting) >= MOST_WAITING:
            self._say(ema, ask, False, "too many wait")
            return
        waiting.append(ask)
        self._next(ema)

    def answered(self, ema: int, answer: RdrAnswer) -> None:
        """What became of the one that was asked of our own upper side."""
        ask = self._under_way.pop(ema, None)
        if ask is not None:
            self._settled(ema, ask, answer)
        self._next(ema)

    def _next(self, ema: int) -> None:
        waiting = self._waiting.get(ema)
        while waiting and ema not in self._under_way:
            ask = waiting.popleft()
            within_s = ask.until - self._clock.monotonic()
            answer = self._inputs.asked_by_ema(EMA_NUMBERS + ema, ask.watts, self.table.grant_s, within_s)
            if answer.result is RdrResult.PENDING:
                self._under_way[ema] = ask
            else:
                self._settled(ema, ask, answer)
        if not waiting:
            self._waiting.pop(ema, None)

    def _settled(self, ema: int, ask: _Ask, answer: RdrAnswer) -> None:
        granted = answer.result is RdrResult.GRANTED
        if granted and self._clock.monotonic() > ask.until:
            self._inputs.give_back(EMA_NUMBERS + ema, ask.watts, LATE)
            self._say(ema, ask, False, LATE)
            return
        if granted:
            wall = self._clock.now().wall
            self._holds.grant(ema, ask.watts, wall + self.table.grant_s, wall)
        self._say(ema, ask, granted, answer.why)

    def _say(self, ema: int, ask: _Ask, granted: bool, why: str) -> None:
        def taken_back() -> None:
            self._holds.ungrant(ema, ask.watts)
            self._inputs.give_back(EMA_NUMBERS + ema, ask.watts, "it cannot be written")

        self._tell(ema, ask.device, (granted, why), taken_back)
