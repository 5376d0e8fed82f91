"""What all twins share: time that is handed in, and energy that is the exact integral of power over it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.clock import Clock

TimeSource = Clock | Callable[[], float]


def moments(clock: TimeSource) -> Callable[[], tuple[float, float]]:
    """(monotonic, wall) seconds now. A plain callable gives both: seconds since 1970 where the sun matters."""
    if callable(clock):
        seconds = clock

        def both() -> tuple[float, float]:
            value = seconds()
            return value, value

        return both
    source = clock

    def read() -> tuple[float, float]:
        now = source.now()
        return now.mono, now.wall

    return read


class Twin:
    """A physical thing. Every look at it first lets the time since the last look go by.

    Power in W, energy in Wh; consumption positive, generation and discharge negative. ``energy_wh`` is net, since
    it was made.
    """

    def __init__(self, clock: TimeSource) -> None:
        self._moments = moments(clock)
        self._mono, self._wall = self._moments()
        self._energy_wh = 0.0

    @property
    def power_w(self) -> float:
        """Now."""
        self._advance()
        return self._power_w()

    @property
    def energy_wh(self) -> float:
        """Net energy taken up to now."""
        self._advance()
        return self._energy_wh

    def _advance(self) -> None:
        mono, wall = self._moments()
        elapsed = mono - self._mono
        if elapsed > 0:
            # The wall clock may have been set meanwhile; what went by is told by the monotonic one.
            self._wall = wall - elapsed
            self._mono = mono
            self._pass(elapsed)
        self._wall = wall

    def _pass(self, seconds: float) -> None:
        """Let time go by from ``_wall`` on, and count the energy."""
        raise NotImplementedError

    def _power_w(self) -> float:
        raise NotImplementedError
