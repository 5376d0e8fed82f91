"""Keeps every part running: one that fails is restarted with back-off and never takes the others along.

docs/architecture.md, rule 5. Owned by one TaskGroup.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.clock import Clock
from gateway.errors import OperatorError, SmartemaError
from gateway.transport.backoff import Backoff

log = logging.getLogger("smartema")

# A part that ran this long before it failed starts again from the shortest wait.
HEALTHY_AFTER_S = 60.0
# All parts together have so long to end, then each wait that is left in them is broken off.
END_S = 0.5
CUT_EVERY_S = 0.02


class Supervisor:
    """Starts parts by name in a TaskGroup, restarts what fails, stops what is taken away.

    While ``starting`` (until all parts opened what they serve) an ``OperatorError`` of a part ends the whole group:
    the operator stands in front of it.
    Later it is logged and tried again, for then nobody does.
    """

    def __init__(self, group: asyncio.TaskGroup, clock: Clock, rng: random.Random) -> None:
        self.starting = True
        self._group = group
        self._clock = clock
        self._rng = rng
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[str] = set()
        self.restarts: dict[str, int] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a part until ``stop`` or the end of the group."""
        assert name not in self._tasks, name
        self._tasks[name] = self._group.create_task(self._keep(name, run), name=name)

    async def stop(self, name: str) -> None:
        """Cancel a part and wait until it has ended."""
        task = self._tasks.get(name)
        if task is None:
            return
        self._ending.add(name)
        task.cancel()
        await asyncio.wait([task])
        self._ending.discard(name)
        del self._tasks[name]

    async def stop_all(self, within_s: float = END_S) -> None:
        """Cancel every part, last started first; whatever a part still awaits after ``within_s`` is cut short."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        self._ending.update(self._tasks)
        for task in reversed(self._tasks.values()):
            task.cancel()
            await asyncio.wait([task], timeout=max(end - loop.time(), 0))
        late = [task for task in self._tasks.values() if not task.done()]
        if late:
            log.warning("at the end: cut short: %s", ", ".join(task.get_name() for task in late))
        while late:
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=CUT_EVERY_S)
            late = [task for task in late if not task.done()]
        self._tasks.clear()

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(self._rng, 0.5, 60.0)
        failed = False
        while True:
            began = self._clock.monotonic()
            try:
                await run()
                reason = "ended by itself"
            except Exception as failure:
                if name in self._ending:
                    # It failed at its own end: who stops it waits for that, and not for another start.
                    log.debug("%s, at its end", name, exc_info=True)
                    raise asyncio.CancelledError from failure
                err = _first(failure)
                if isinstance(err, OperatorError) and self.starting:
                    raise err from None
                if isinstance(err, SmartemaError):
                    reason = str(err)
                else:
                    log.debug("%s", name, exc_info=True)
                    reason = f"{type(err).__name__}: {err}"
            if self._clock.monotonic() - began > HEALTHY_AFTER_S:
                backoff.reset()
                failed = False
            wait_s = backoff.next()
            log.log(logging.DEBUG if failed else logging.WARNING, "%s: %s; again in %.1f s", name, reason, wait_s)
            failed = True
            self.restarts[name] = self.restarts.get(name, 0) + 1
            await self._clock.sleep(wait_s)


def _first(err: Exception) -> Exception:
    """What went wrong in a part of several tasks."""
    while isinstance(err, ExceptionGroup):
        err = err.exceptions[0]
    return err
