"""DR events of an EMS: applied once, answered each time, the answer repeated until the EMS has it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.record import slim
from gateway.transport.backoff import Backoff
from gateway.upstream.ems_translate import dr_event

if TYPE_CHECKING:
    from gateway.links.mir2017 import messages as wire
    from gateway.links.mir2017.client import ClientOutput
    from gateway.upstream.base import UpperInputs
    from gateway.upstream.carrier import UpperClient
    from gateway.upstream.ems_deadlines import Deadlines

FIRST_S = 5.0
MOST_S = 60.0
# After so many the EMS has to say the event again; the lab's may never answer.
MOST_TRIES = 6
# Events whose opt is remembered here; the journal remembers the others.
MOST_EVENTS = 1000


@slim(slots=True)
class _Opt:
    """An answer given."""

    modification: int
    request_id: int
    opt_in: bool
    tries: int = 0
    acknowledged: bool = False


class EventDesk:
    """Takes the events of one EMS and answers them."""

    def __init__(
        self,
        name: str,
        inputs: UpperInputs,
        client: UpperClient,
        deadlines: Deadlines,
        rng: random.Random,
        post: Callable[[Iterable[ClientOutput]], None],
        log: logging.Logger,
    ) -> None:
        self._name = name
        self._inputs = inputs
        self._client = client
        self._deadlines = deadlines
        self._wait = Backoff(rng, FIRST_S, MOST_S)
        self._post = post
        self._log = log
        self._opts: dict[int, _Opt] = {}

    async def take(self, event: wire.DistributeEvent) -> None:
        """Apply what is new, answer in every case."""
        known = self._opts.get(event.event_id)
        opted = self._inputs.opted(self._name, event.event_id)
        in_force = max(known.modification if known else -1, -1 if opted is None else opted)
        if known is not None and event.modification <= in_force == known.modification:
            opt_in = known.opt_in  # a double, or overtaken by its own change
        elif event.modification < in_force:
            self._log.info("%s: event %d is in force with a later modification", self._name, event.event_id)
            return
        else:
            # Before a restart it may have been answered already: the site knows, and repeats its opt.
            opt_in = await self._inputs.take_event(dr_event(self._name, event))
            in_force = event.modification
        self._opts.pop(event.event_id, None)
        while len(self._opts) >= MOST_EVENTS:
            self._opts.pop(next(iter(self._opts)))
        self._opts[event.event_id] = _Opt(in_force, event.request_id, opt_in)
        self._answer(event.event_id)

    def session_up(self) -> None:
        """What the EMS has not acknowledged is said again."""
        self._wait.reset()
        for event_id, opt in list(self._opts.items()):
            if not opt.acknowledged:
                opt.tries = 0
                self._answer(event_id)

    def acknowledged(self, event_id: int) -> None:
        """The EMS has the answer."""
        opt = self._opts.get(event_id)
        if opt is not None:
            opt.acknowledged = True
        if not any(self._waiting()):
            self._wait.reset()
            self._deadlines.cancel("opt")

    def rejected(self, event_id: int, reason: str) -> None:
        """The EMS will never take the answer: it is not said again."""
        opt = self._opts.get(event_id)
        level = logging.DEBUG if opt is None or opt.acknowledged else logging.WARNING
        self._log.log(level, "%s: the EMS does not take our answer to event %d: %s", self._name, event_id, reason)
        self.acknowledged(event_id)

    def _answer(self, event_id: int) -> None:
        opt = self._opts[event_id]
        opt.tries += 1
        self._post(self._client.created_event(event_id, opt.request_id, opt.opt_in))
        if "opt" not in self._deadlines:
            self._deadlines.answer_within("opt", self._wait.next(), self._again)

    def _waiting(self) -> list[int]:
        return [number for number, opt in self._opts.items() if not opt.acknowledged and opt.tries < MOST_TRIES]

    def _again(self) -> None:
        for event_id in self._waiting():
            self._answer(event_id)
