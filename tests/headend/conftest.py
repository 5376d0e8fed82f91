"""An EMS service without wires."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.headend.support import Bench


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = await Bench().start()
    yield made
    await made.stop()
