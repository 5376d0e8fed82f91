"""Waiting for a condition instead of sleeping for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Return as soon as the condition holds; fail the test, naming ``what``, when it does not in that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        await asyncio.sleep(0.01)
