"""The journal cannot write: shedding goes on, nothing is promised that is not kept, and it heals."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.errors import TransientError
from gateway.links.mir2017.client import EventReceived
from gateway.site.event import RdrResult
from gateway.upstream.ems_jobs import Jobs
from tests.gateway.field.site import listening_logger
from tests.support.site import FakeUpstream, Site
from tests.support.wait import until


class Disk:
    """Full until ``room``."""

    def __init__(self, site: Site) -> None:
        self.essential = site.journal._essential
        self.write = self.essential.write

    def fill(self) -> None:
        def full(batch: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        self.essential.write = full  # type: ignore[method-assign,assignment]

    def room(self) -> None:
        self.essential.write = self.write  # type: ignore[method-assign]


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path, 60.0, 60.0, threshold_w=100.0)
    site.all_come()
    await site.turn(2)
    yield site
    await site.close()


async def test_an_event_sheds_at_once_and_is_answered_when_it_is_said_again(site: Site) -> None:
    disk = Disk(site)
    await site.journal.durable()
    disk.fill()
    event = site.event(30.0)
    with pytest.raises(TransientError, match="full"):
        await site.engine.take_event(event)
    await site.turn(2)
    assert site.power_w <= 30
    disk.room()
    assert await site.engine.take_event(event) is True


async def test_a_grant_that_cannot_be_written_is_denied_and_not_in_force(site: Site) -> None:
    disk = Disk(site)
    site.engine.upstreams.append(FakeUpstream())
    await site.journal.durable()
    limit = site.engine.limit(site.clock.now()).import_w
    sent = len(site.field.sent)
    disk.fill()
    assert site.engine.asked_back(1, 500.0, 60.0).result is RdrResult.PENDING
    await until(lambda: site.field.answers, what="the device gets an answer")
    number, answer = site.field.answers[0]
    assert (number, answer.result) == (1, RdrResult.DENIED)
    assert "cannot be written" in answer.why
    assert site.engine.grants == []
    assert site.engine.limit(site.clock.now()).import_w == limit
    assert len(site.field.sent) == sent
    granted, why = await site.engine.rdr.ask_above(10.0, 60.0)
    assert not granted
    assert "cannot be written" in why
    disk.room()
    site.engine.asked_back(1, 500.0, 60.0)
    await until(lambda: len(site.field.answers) == 2, what="and another one")
    assert site.field.answers[1][1].result is RdrResult.GRANTED


async def test_shedding_outlasts_the_reserve_of_numbers(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(site)
    await site.journal.durable()
    disk.fill()
    commands, decisions = site.journal._commands, site.journal._decisions
    before = commands.upto
    for numbers in (commands, decisions):
        numbers._next = numbers.upto
    await site.clock.advance(1)
    with pytest.raises(TransientError):
        await site.engine.take_event(site.event(30.0))
    await site.turn(2)
    assert site.power_w <= 30
    assert site.field.sent[-1].id >= before
    assert "go on beyond" not in caplog.text, "the clock vouches for them"
    last = site.field.sent[-1].id
    await site.clock.advance(1)
    disk.room()
    await site.restart()
    assert site.journal.next_command_id() > last


async def test_the_upstream_says_it_once() -> None:
    logger, lines = listening_logger("jobs")
    full = True

    class Desk:
        async def take(self, event: object) -> None:
            if full:
                raise TransientError("the essential journal cannot be written: full")

    jobs = Jobs("ems", None, Desk(), logger)  # type: ignore[arg-type]
    task = asyncio.ensure_future(jobs.run())
    for _ in range(3):
        jobs.put(EventReceived(event=None))  # type: ignore[arg-type]
    await until(lambda: len(lines.records) == 3)
    full = False
    jobs.put(EventReceived(event=None))  # type: ignore[arg-type]
    await until(lambda: lines.at(logging.INFO))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(lines.at(logging.WARNING)) == 1
    assert len(lines.at(logging.DEBUG)) == 2
    assert not [r for r in lines.records if r.exc_info]
