"""A lease against ourselves: local outputs go to their safe state when control stands still.

Control shows that it lives by a number that changes (``pulse``) and by its commands. A loop that still turns finds
out by itself that the number stands; when the loop itself hangs, a thread does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gateway.clock import Clock

# Looks in one lease: it ends between 1.0 and 1.1 leases after the last sign of life.
LOOKS = 10
# On a scaled clock a lease can be shorter than this machine's own pauses.
LEAST_REAL_S = 2.0


class Deadman:
    """``trip`` is called once, from either thread, when nothing showed life for ``lease_s``."""

    def __init__(
        self,
        lease_s: float,
        clock: Clock,
        pulse: Callable[[], int] | None,
        trip: Callable[[], None],
        least_real_s: float = LEAST_REAL_S,
    ) -> None:
        self.tripped = False
        self._clock = clock
        self._least_real_s = least_real_s
        self.set_lease(lease_s)
        self._pulse = pulse
        self._seen: int | None = None
        self._alive_at = clock.monotonic()
        self._trip = trip
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def set_lease(self, lease_s: float) -> None:
        """Another lease, from now on."""
        self.lease_s = lease_s * max(1.0, self._least_real_s / self._clock.real(lease_s))

    @property
    def step_s(self) -> float:
        """How often the loop should call ``look``."""
        return self.lease_s / LOOKS

    def alive(self) -> None:
        """A command came: control lives."""
        self._alive_at = self._clock.monotonic()

    def look(self) -> bool:
        """From the loop. True once, when control lives again after a trip."""
        pulse = self._pulse() if self._pulse is not None else None
        if pulse is None or pulse != self._seen:
            self._seen = pulse
            self.alive()
        self._check()
        with self._lock:
            if self.tripped and not self._late():
                self.tripped = False
                return True
        return False

    def _late(self) -> bool:
        return self._clock.monotonic() - self._alive_at > self.lease_s

    def _check(self) -> None:
        with self._lock:
            if self.tripped or not self._late():
                return
            self.tripped = True
        self._trip()

    def start(self) -> None:
        """Start the thread; it sleeps nearly always."""
        self.alive()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="output lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._clock.real(self.step_s)):
            self._check()
