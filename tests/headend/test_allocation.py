"""A total divided among EMAs, told as events: one part an EMA, whoever asks at once."""

from __future__ import annotations

import asyncio

from headend.ems.allocation import Stated
from tests.headend.support import Bench


async def test_two_allocations_at_once_leave_one_part_an_ema(bench: Bench) -> None:
    bench.register("gw/1", "gw/2")
    desk, names = bench.service.allocation, ("gw/1", "gw/2")
    stated = {name: Stated(demand_w=1000.0, own_w=0.0) for name in names}
    start, end = bench.now, bench.now + 600
    first, second = await asyncio.gather(
        *(desk.apply("priority", total, stated, start, end) for total in (1000.0, 600.0))
    )
    standing = [event for event in bench.service.book.events.values() if event.state(bench.now) == "running"]
    assert sorted(name for event in standing for name in event.deliveries) == ["gw/1", "gw/2"]
    assert [part.event for part in first.parts] == [part.event for part in second.parts]
    assert sum(event.value_w for event in standing) == 600
    assert await desk.end() == 2
    assert {event.state(bench.now) for event in bench.service.book.events.values()} == {"cancelled"}
