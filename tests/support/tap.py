"""Listens to a whole broker, or says something on it, as a stranger would."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any

from gateway.clock import SystemClock
from gateway.transport.mqtt import MqttLink, MqttSettings
from tests.support.wait import until


class Tap:
    """``heard`` is all that was published on ``topics``: (topic, body)."""

    def __init__(self, port: int, topics: Sequence[str] = ("#",), **settings: Any) -> None:
        self.heard: list[tuple[str, bytes]] = []
        wanted = MqttSettings("127.0.0.1", port, subscriptions=tuple((t, 1) for t in topics), **settings)
        self.link = MqttLink(wanted, SystemClock(), random.Random(9), lambda t, b: self.heard.append((t, b)))
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Tap:
        self._task = asyncio.create_task(self.link.run())
        await until(lambda: self.link.up, 20, "the tap is at its broker")
        return self

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def on(self, topic: str) -> list[bytes]:
        """Bodies on exactly this topic, oldest first."""
        return [body for heard, body in self.heard if heard == topic]
