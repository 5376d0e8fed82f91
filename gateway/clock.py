"""Time, handed in everywhere (docs/architecture.md, rule 1): real, scaled, or moved by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

from gateway.record import slim

# Before this the wall clock cannot be right: routers without a battery clock start in 1970.
EARLIEST_TRUSTED_WALL = 1_735_689_600.0  # 2025-01-01T00:00:00Z
# Linux's CLOCK_MONOTONIC stands still while the machine is suspended: after an hour of that, a reading would look
# fresh and a lease alive. CLOCK_BOOTTIME counts it. The loop's own timers stand still all the same: what was to be
# done in a second is done a second after the machine woke.
_COUNTS_SUSPEND = getattr(time, "CLOCK_BOOTTIME", None)


def machine_monotonic() -> float:
    """Seconds that never go back and include those in which the machine was suspended, where its kernel can tell."""
    return time.monotonic() if _COUNTS_SUSPEND is None else time.clock_gettime(_COUNTS_SUSPEND)


def systemd_monotonic() -> float:
    """The clock that systemd's protocol names (sd_notify(3), MONOTONIC_USEC); for nothing else."""
    return time.monotonic()


@slim(frozen=True, slots=True)
class Instant:
    """One moment, read once and handed to everything that decides at that moment.

    ``mono``: seconds on the monotonic clock. ``wall``: seconds since 1970 (UTC).
    ``trusted``: False while the wall clock cannot be right.
    """

    mono: float
    wall: float
    trusted: bool = True


class Clock(Protocol):
    """The only source of time in the project."""

    def now(self) -> Instant:
        """This moment."""

    def monotonic(self) -> float:
        """Seconds on the monotonic clock; the machine's suspended time counts (``machine_monotonic``)."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of this clock."""

    def real(self, seconds: float) -> float:
        """How many seconds of the machine's clock so many seconds of this clock are (for time-outs)."""

    def patience(self, seconds: float) -> float:
        """So many seconds of this clock, but not fewer than as many of the machine's: for waiting on what the
        machine itself must do, such as the answer of a peer."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> Instant:
        wall = time.time()
        return Instant(machine_monotonic(), wall, wall >= EARLIEST_TRUSTED_WALL)

    def monotonic(self) -> float:
        return machine_monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def real(self, seconds: float) -> float:
        return seconds

    def patience(self, seconds: float) -> float:
        return seconds


class ScaledClock:
    """A clock that runs ``speed`` times as fast as the machine's, from the moment it is made."""

    def __init__(self, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"speed: {speed} is not above 0")
        self.speed = speed
        self._mono0 = machine_monotonic()
        self._wall0 = time.time()

    def now(self) -> Instant:
        elapsed = (machine_monotonic() - self._mono0) * self.speed
        wall = self._wall0 + elapsed
        return Instant(self._mono0 + elapsed, wall, wall >= EARLIEST_TRUSTED_WALL)

    def monotonic(self) -> float:
        return self._mono0 + (machine_monotonic() - self._mono0) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)

    def real(self, seconds: float) -> float:
        return seconds / self.speed

    def patience(self, seconds: float) -> float:
        return seconds * max(self.speed, 1.0)


class ManualClock:
    """A clock that stands until ``advance`` moves it: tests and simulation in virtual time."""

    def __init__(self, mono: float = 1000.0, wall: float = 1_760_000_000.0) -> None:
        self._mono = mono
        self._wall = wall
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> Instant:
        return Instant(self._mono, self._wall, self._wall >= EARLIEST_TRUSTED_WALL)

    def monotonic(self) -> float:
        return self._mono

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._mono + seconds, next(self._order), future))
        await future

    def real(self, seconds: float) -> float:
        return seconds

    def patience(self, seconds: float) -> float:
        return seconds

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as NTP does."""
        self._wall += seconds

    async def advance(self, seconds: float) -> None:
        """Move time, waking each sleeper at its own moment and in order."""
        end = self._mono + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._step(max(due - self._mono, 0.0))
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._step(end - self._mono)
        await self._settle()

    async def _settle(self) -> None:
        """Let what is ready run until it sleeps again."""
        for _ in range(20):
            await asyncio.sleep(0)

    def _step(self, seconds: float) -> None:
        self._mono += seconds
        self._wall += seconds


async def wait(clock: Clock, event: asyncio.Event, seconds: float) -> bool:
    """Return True as soon as ``event`` is set (and clear it), False after ``seconds`` of this clock."""
    if not event.is_set():
        sleeper = asyncio.ensure_future(clock.sleep(seconds))
        waiter = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((sleeper, waiter), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waiter.cancel()
    happened = event.is_set()
    event.clear()
    return happened
