"""Many virtual LEDs in one process (``smartema device --virtual N``): what they share, whatever the link.

One loop moves all of them, a slice at a time: there is no task, timer or logger a device. Each keeps its own state,
lease and start counter, and is to its EMA a device like any other (wire, 5a; type "virtual").
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

from device_agents.agent import Agent
from device_agents.lamp import Lamp
from device_agents.runner import AGAIN_S, TICK_S
from device_agents.wire_fields import MAX_DEV
from gateway.clock import Clock
from hardware.simulated import lamp, plants

log = logging.getLogger(__name__)

# So many announce themselves in a second, at the start and after each `hello`: an EMA keeps pace with that, while a
# thousand at once would fill its broker's queue or its socket.
PACE_PER_S = 100.0
# All of them together say so many periodic states a second; a router's EMA has to live with it.
STATES_PER_S = 100.0
LEAST_PERIOD_S = 5.0
# A state older than the EMA's `stale_after_s` (30 s) counts as none, and one may get lost.
MOST_PERIOD_S = 14.0
# A tick is spread over so many slices.
SLICES = 10
# Who was not answered twice (5 s, then 10 s) is not welcome, or nobody is there.
SILENT_S = 3 * AGAIN_S
HINT = "; an EMA takes devices that no [[device]] names where its site_broker or site_coap is open, most_guests of them"


class VirtualLed(Lamp):
    """A simulated LED that says it is one."""

    kind = "virtual"


def virtual_leds(
    first: int, count: int, boot: int, clock: Clock, rated_w: float, priority: int = 0, safe_on: bool = True
) -> list[VirtualLed]:
    """``count`` of them from dev/``first`` on; ``boot`` must grow over restarts of the process."""
    assert first + count - 1 <= MAX_DEV
    rated_mw = round(rated_w * 1000)
    return [
        VirtualLed(dev, priority, boot, plants.TwinLamp(lamp.Lamp(clock, rated_w)), rated_mw, safe_on=safe_on)
        for dev in range(first, first + count)
    ]


def period_for(count: int) -> float:
    """Seconds between two states of one of ``count``, where nobody says otherwise."""
    return min(max(LEAST_PERIOD_S, count / STATES_PER_S), MOST_PERIOD_S)


class Member:
    """One of them. Seconds are the clock's: ``last`` moved to, ``due`` its next periodic state."""

    __slots__ = ("again_at", "again_s", "agent", "announced", "answered", "due", "last")

    def __init__(self, agent: Agent, now: float) -> None:
        self.agent = agent
        self.last = now
        self.due = now
        self.announced = False
        self.answered = False
        self.again_s = AGAIN_S
        self.again_at = now


class VirtualFleet:
    """A link below it adds ``run``, ``_announce`` and ``_look``."""

    def __init__(
        self,
        agents: Sequence[Agent],
        clock: Clock,
        rng: random.Random,
        period_s: float | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        now = clock.monotonic()
        self.commands = 0
        self.malformed = 0
        self._clock = clock
        self._rng = rng
        self._period_s = period_s or period_for(len(agents))
        self._tick_s = min(tick_s, self._period_s)
        self._began = now
        # States stand on a grid of their own for each, so that a command to all does not bring them together.
        self._phase = {agent.dev: now + self._period_s * i / len(agents) for i, agent in enumerate(agents)}
        self.members = {agent.dev: self._member(agent, now) for agent in agents}
        self._order = list(self.members.values())
        self._waiting: dict[int, Member] = {}
        self._credit = 0.0
        self._told_all = False
        self._told_silent = False
        self.refusal = ""

    def _member(self, agent: Agent, now: float) -> Member:
        return Member(agent, now)

    # What a link adds.

    async def run(self) -> None:
        """Serve until cancelled; then say good-bye for all."""
        raise NotImplementedError

    def _announce(self, member: Member) -> None:
        """Say ``connected``."""
        raise NotImplementedError

    def _look(self, member: Member) -> None:
        """Say what this one has to say now."""
        raise NotImplementedError

    # What is there.

    @property
    def here(self) -> int:
        """How many the EMA has answered."""
        return sum(member.answered for member in self._order)

    @property
    def watts(self) -> float:
        """What all of them draw."""
        return sum(member.agent.plant.mw() for member in self._order) / 1000

    # Time.

    async def _turn(self) -> None:
        """Move all of them, a slice at a time, until cancelled."""
        turn = 0
        while True:
            await self._clock.sleep(self._tick_s / SLICES)
            for member in self._order[turn::SLICES]:
                self._advance(member)
                self._look(member)
            self._let_in(self._tick_s / SLICES)
            turn = (turn + 1) % SLICES
            if turn == 0:
                self._tell()

    def _advance(self, member: Member) -> None:
        elapsed_ms = int((self._clock.monotonic() - member.last) * 1000)
        if elapsed_ms > 0:
            member.last += elapsed_ms / 1000
            member.agent.tick(elapsed_ms)

    def _queue(self, member: Member) -> None:
        """It is to announce itself, in its turn."""
        self._waiting[member.agent.dev] = member

    def _let_in(self, seconds: float) -> None:
        self._credit = min(self._credit + PACE_PER_S * seconds, PACE_PER_S)
        while self._waiting and self._credit >= 1:
            self._credit -= 1
            dev = next(iter(self._waiting))
            member = self._waiting.pop(dev)
            self._advance(member)
            self._announce(member)

    def _wanted(self, member: Member) -> bool:
        return member.agent.changed or member.last >= member.due

    def _status(self, member: Member) -> bytes:
        past = member.last - self._phase[member.agent.dev]
        member.due = member.last + self._period_s - past % self._period_s
        return member.agent.status()

    # What a person reads.

    def _tell(self) -> None:
        here = self.here
        if here == len(self._order):
            if not self._told_all:
                log.info("all %d virtual LEDs are there, dev/%d to dev/%d", here, *self._ends())
            self._told_all, self._told_silent = True, False
            self.refusal = ""
        elif not self._told_silent and not self._waiting and self._clock.monotonic() - self._began > SILENT_S:
            self._told_silent = True
            why = f" ({self.refusal})" if self.refusal else ""
            hint = "" if self._told_all else HINT
            log.warning(
                "%d of %d virtual LEDs are not answered%s%s", len(self._order) - here, len(self._order), why, hint
            )

    def _ends(self) -> tuple[int, int]:
        return self._order[0].agent.dev, self._order[-1].agent.dev

    def _refused(self, where: str, err: Exception) -> None:
        level = logging.DEBUG if self.malformed else logging.WARNING
        self.malformed += 1
        log.log(level, "%s: refused: %s", where, err)
