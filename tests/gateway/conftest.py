"""Fixtures for the tests of the engine and what stands around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest_asyncio

from tests.support.site import Site


@pytest_asyncio.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Site]]:
    """Makes sites of lamps that are there already; each is closed at the end."""
    made: list[Site] = []

    def build(*watts: float, **control: object) -> Site:
        site = Site(tmp_path / str(len(made)), *watts, **control)
        site.all_come()
        made.append(site)
        return site

    yield build
    for site in made:
        await site.close()
