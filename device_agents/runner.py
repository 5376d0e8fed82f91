"""What both links of a device do alike under CPython: the agent's time, its button, what it refused."""

from __future__ import annotations

import logging

from device_agents.agent import Agent
from device_agents.protocol import Ack, Message, RdrAnswer, Setpoint, WireError
from gateway.clock import Clock

# How often the agent looks at its lease and its plant, in seconds of its clock.
TICK_S = 1.0
# `connected` is said again after this long without an answer, then after twice as long, up to the most.
AGAIN_S = 5.0
AGAIN_MOST_S = 60.0
# The good-bye may hold up the end of a device no longer than this.
GOODBYE_S = 1.0


class Runner:
    """An agent on a clock. A link below it calls ``_advance`` before it hands a body to the agent."""

    def __init__(self, agent: Agent, clock: Clock, period_s: float, tick_s: float = TICK_S) -> None:
        self.agent = agent
        self.malformed = 0
        self._clock = clock
        self._period_s = period_s
        self._tick_s = min(tick_s, period_s)
        self._last = clock.monotonic()
        self._status_due = 0.0
        self._log = logging.getLogger(f"{__package__}.{agent.kind}-{agent.dev}")

    async def run(self) -> None:
        """Serve until cancelled, or until the device's user ends it; then say good-bye."""
        raise NotImplementedError

    def press_button(self) -> bool:
        """Ask the power back. False: nothing to ask, an answer is awaited, or the EMA cannot be reached."""
        self._advance()
        asked = self.reachable and self.agent.press()
        self._wake()
        return asked

    def key(self, code: int) -> str:
        """A code of the device's console; returns a line for a person."""
        self._advance()
        words = self.agent.key(code)
        if not self.reachable and self.agent.take_rdr() is not None:
            # Sent when the EMA returns, it would ask for a wish long past.
            words = "no EMA to ask"
        self._wake()
        return words

    @property
    def reachable(self) -> bool:
        """Is the link to the EMA up."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Send what the agent has to say now."""
        raise NotImplementedError

    def _advance(self) -> None:
        elapsed_ms = int((self._clock.monotonic() - self._last) * 1000)
        if elapsed_ms > 0:
            self._last += elapsed_ms / 1000
            self.agent.tick(elapsed_ms)

    def _status_wanted(self) -> bool:
        return self.agent.changed or self._last >= self._status_due

    def _status(self) -> bytes:
        self._status_due = self._last + self._period_s
        return self.agent.status()

    async def _tick(self) -> None:
        """Until the agent's user ends it."""
        while not self.agent.quit:
            await self._clock.sleep(self._tick_s)
            self._advance()
            self._wake()

    def _told(self, message: Message) -> None:
        """What the EMA said, in the log."""
        if isinstance(message, Ack):
            return
        agent = self.agent
        if isinstance(message, RdrAnswer):
            words = f"RDR {message.rdr}" + (f": {message.why}" if message.why else "")
        elif isinstance(message, Setpoint):
            words = f"command {message.id}"
        else:
            words = f"lab's {message}"
        self._log.info("%s-%d: %s, now %.1f W", agent.kind, agent.dev, words, agent.plant.mw() / 1000)

    def _refused(self, where: str, err: WireError) -> None:
        level = logging.DEBUG if self.malformed else logging.WARNING
        self.malformed += 1
        self._log.log(level, "%s: refused: %s", where, err)
