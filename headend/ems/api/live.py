"""Changes as server-sent events, for pages that stay open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from headend.ems.state import Change

# A page that falls this far behind is told to read everything again.
MOST_QUEUED = 500
MOST_LISTENERS = 200
# Proxies close what is silent for a minute. Of the machine's clock: it is about sockets.
HEARTBEAT_S = 15.0


class LiveHub:
    """Hands each change to every open page."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str]] = set()
        self._closed = False

    @property
    def full(self) -> bool:
        return len(self._queues) >= MOST_LISTENERS

    def tell(self, change: Change) -> None:
        """To all; never waits."""
        if not self._queues:
            return
        body = json.dumps({"ema": change.ema, **change.data}, default=str)
        self._put(f"event: {change.kind}\ndata: {body}\n\n")

    def _put(self, text: str) -> None:
        for queue in self._queues:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait("event: resync\ndata: {}\n\n")
            else:
                queue.put_nowait(text)

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._put("")

    async def stream(self, first: str, allowed: Callable[[], bool]) -> AsyncIterator[str]:
        """``first``, then each change, until closed or not allowed any more (looked at with each heartbeat)."""
        queue: asyncio.Queue[str] = asyncio.Queue(MOST_QUEUED)
        self._queues.add(queue)
        try:
            yield f"event: hello\ndata: {first}\n\n"
            while not self._closed:
                try:
                    text = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    text = ": still here\n\n"
                    if not allowed():
                        return
                if not text:
                    return
                yield text
        finally:
            self._queues.discard(queue)
