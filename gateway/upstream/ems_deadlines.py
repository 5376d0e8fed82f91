"""Named deadlines on an injected clock, watched by one task that sleeps until the nearest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.clock import Clock, wait


class Deadlines:
    """What is to be done when nobody answers. Setting a name again moves its deadline."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[str, tuple[float, Callable[[], None]]] = {}
        self._changed = asyncio.Event()
        self._until: float | None = None  # what ``run`` sleeps for; None: for nothing

    def __contains__(self, name: str) -> bool:
        return name in self._due

    def after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call it in that many seconds, once."""
        due = self._clock.monotonic() + seconds
        self._due[name] = (due, call)
        if self._until is None or due < self._until:
            self._changed.set()

    def answer_within(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """The same for a peer's answer: on a clock that runs faster than real time the peer keeps its real time."""
        self.after(name, self._clock.patience(seconds), call)

    def cancel(self, *names: str) -> None:
        """Forget these."""
        for name in names:
            self._due.pop(name, None)

    def cancel_all(self) -> None:
        self._due.clear()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            for name in [name for name, (due, _) in self._due.items() if due <= now]:
                entry = self._due.pop(name, None)
                if entry is not None:
                    entry[1]()
            if self._changed.is_set():
                continue
            self._until = min((due for due, _ in self._due.values()), default=None)
            if self._until is None:
                await self._changed.wait()
            else:
                await wait(self._clock, self._changed, max(self._until - self._clock.monotonic(), 0.0))
