"""An EMA below in a whole site: real engine and journal on a clock moved by hand, its link a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config.model import EmaBelowConfig, EmasBelowConfig
from gateway.errors import TransientError
from gateway.field.emas_below import EmasBelow
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.site.command import Command, Source
from gateway.site.resource import Setting
from tests.gateway.field.test_emas_below import Wire
from tests.support.site import FakeUpstream, Site
from tests.support.wait import until

PRIORITY = 0  # before every lamp


class Street:
    """Lamps of ours, and gw/2 that draws ``draws`` and answers events at once: ``opts`` None not at all."""

    def __init__(self, directory: Path, *lamps: float, draws: float = 300.0, **control: object) -> None:
        self.site = Site(directory, *lamps, **control)
        self.wire = Wire()
        self.draws = draws
        self.opts: bool | None = True
        self.seq = 0
        self._answered: set[tuple[int, int]] = set()
        self.emas = EmasBelow(
            EmasBelowConfig(mqtt=True),
            (EmaBelowConfig(number=2, max_w=500.0, priority=PRIORITY),),
            self.site.config.control,
            self.site.engine,
            self.site.journal,
            self.site.clock,
        )
        self.emas.add(self.wire)
        self.task = asyncio.get_running_loop().create_task(self.emas.run())

    def report(self) -> None:
        self.seq += 1
        number = wire.request_id(1, self.seq)
        at = round(self.site.clock.now().wall * 1000)
        report = wire.UpdateReport(2, "MIR_VEN2", number, at, round(self.draws))
        self.emas.happened("mqtt", h.Reported(2, number, report))

    def answer(self) -> None:
        """It takes, or refuses, what it was told since."""
        for event in self.wire.events:
            key = (event.event_id, event.modification)
            if self.opts is None or key in self._answered:
                continue
            self._answered.add(key)
            if self.opts:
                self.draws = 300.0 if event.cancelled else min(300.0, float(event.value))
            self.emas.happened("mqtt", h.EventAnswered(2, event.event_id, event.request_id, self.opts))

    async def turn(self, seconds: float = 1.0) -> None:
        for _ in range(round(seconds)):
            await self.site.turn(1.0)
            self.answer()
            self.report()

    async def told(self) -> tuple[object, ...]:
        """The answer to its RDR, which waits for the disk."""
        await until(lambda: any(said[0] == "rdr" for said in self.wire.said), 10, "the answer")
        return next(said for said in self.wire.said if said[0] == "rdr")

    @property
    def watts(self) -> float:
        return self.draws + self.site.power_w

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.site.close()


@pytest_asyncio.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    made = Street(tmp_path, 100.0, 100.0, threshold_w=1000.0)
    made.site.all_come()
    made.report()
    await made.turn(2)
    yield made
    await made.close()


async def test_an_event_of_ours_becomes_one_of_theirs(street: Street) -> None:
    assert street.watts == 500
    await street.site.engine.take_event(street.site.event(350))
    await street.turn(2)
    assert street.watts == 350
    assert street.site.power_w == 200, "the smaller number alone"
    assert [e.value for e in street.wire.events] == [150]
    assert "shed: over by 150 W of 350 W (event 17): gw/2 at most 150 W" in street.site.decisions
    await street.site.engine.take_event(street.site.event(350, modification=1, seconds=-2))
    await street.turn(3)
    assert street.watts == 500
    assert street.wire.events[-1].cancelled


async def test_who_opts_out_is_alarmed_and_gone_on_without(street: Street) -> None:
    street.opts = False
    await street.site.engine.take_event(street.site.event(400))
    await street.turn(2)
    alarm = next(line for line in street.site.decisions if line.startswith("alarm"))
    assert "gw/2 does not take '200 W': it opted out of event" in alarm
    assert street.watts <= 400, "a lamp of ours is off instead"
    assert street.draws == 300


async def test_who_says_nothing_is_told_twice_and_alarmed(street: Street) -> None:
    street.opts = None
    await street.site.engine.take_event(street.site.event(400))
    await street.turn(14)
    assert any(line.startswith("alarm: gw/2 did not confirm") for line in street.site.decisions)
    assert street.watts <= 400
    assert len({(e.event_id, e.modification) for e in street.wire.events}) == 1, "said again, never as a new one"


async def test_silent_it_counts_with_the_most_it_may_draw(street: Street) -> None:
    await street.site.turn(31)
    assert street.site.engine.power().watts == 700
    assert "gw/2" in street.site.engine.power().stale
    street.report()
    assert street.site.engine.power().watts == 500


@pytest.mark.parametrize(("limit", "expected"), [(600.0, True), (500.0, False)])
async def test_rdr_from_below(street: Street, limit: float, expected: bool) -> None:
    """Within our margin granted, and reserved until its report shows it; nobody above is there to ask."""
    await street.site.engine.take_event(street.site.event(limit))
    await street.turn(1)
    street.emas.happened("mqtt", h.RdrAsked(2, 4, 100))
    answer = await street.told()
    assert answer[:4] == ("rdr", 2, 4, expected)
    assert street.wire.events == [], "the answer alone lifts its limit"
    assert street.site.engine.power().reserved_w == (100 if expected else 0)
    if not expected:
        assert "nobody above to ask" in str(answer[4])


async def test_an_rdr_asked_upwards_has_what_is_left_of_the_time_below(street: Street) -> None:
    above = FakeUpstream(None)
    street.site.engine.upstreams.append(above)
    await street.site.engine.take_event(street.site.event(500))
    await street.turn(1)
    street.emas.happened("mqtt", h.RdrAsked(2, 4, 100))
    await street.site.clock.advance(1.5)
    assert above.asked == [(90_002, 100.0)]
    assert not [said for said in street.wire.said if said[0] == "rdr"]
    await street.site.clock.advance(0.2)
    refused = await street.told()
    assert refused[3] is False
    assert "did not answer within 1.6 s" in str(refused[4])


async def test_a_grant_from_above_lifts_our_limit_for_it(street: Street) -> None:
    street.site.engine.upstreams.append(FakeUpstream((True, "OK")))
    await street.site.engine.take_event(street.site.event(500))
    await street.turn(1)
    street.emas.happened("mqtt", h.RdrAsked(2, 4, 100))
    assert (await street.told())[3] is True
    assert street.site.engine.limit(street.site.clock.now()).import_w == 600
    street.site.engine.give_back(90_002, 100.0, "it came too late")
    assert street.site.engine.limit(street.site.clock.now()).import_w == 500
    assert street.site.decisions[-1] == "rdr: 100 W granted to gw/2 are given back: it came too late"


async def test_taken_away_by_the_operator(street: Street) -> None:
    street.emas.configure(EmasBelowConfig(mqtt=True), (), street.site.config.control)
    street.site.engine.forget(90_002, "taken out of the configuration")
    assert street.site.engine.power().watts == 200
    street.report()
    assert 90_002 not in street.site.engine.states
    command = Command(1, "gw/2", 90_002, Setting(free=True), Source.MENU, 60.0, 0.0)
    with pytest.raises(TransientError, match="is not there"):
        await street.emas.send(command)
