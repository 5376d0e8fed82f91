"""Waiting for a condition instead of sleeping for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Return as soon as the condition holds; fail the test, naming ``what``, when it does not in that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        await asyncio.sleep(0.01)


async def shows(
    read: Callable[[], Awaitable[T]], condition: Callable[[T], object], what: str, seconds: float = 30.0
) -> T:
    """What is read as soon as the condition holds for it; fail the test, showing what was read last."""
    end = time.monotonic() + seconds
    while True:
        found = await read()
        if condition(found):
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}\n{found}")
        await asyncio.sleep(0.02)
