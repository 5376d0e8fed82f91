"""Fixtures that every part of the tests may use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.mosquitto import MOSQUITTO, Mosquitto


@pytest_asyncio.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """A running mosquitto without accounts, on a free port of loopback."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    broker = Mosquitto(tmp_path / "broker")
    await broker.start()
    yield broker
    broker.stop()
