"""The EMS's disk is full: nobody is told that something is kept or granted, and all goes on once there is room."""

from __future__ import annotations

import pytest

pytest.importorskip("apsw")
from sqlalchemy.exc import SQLAlchemyError

from headend.ems import views
from headend.ems.store import Store
from tests.headend.disk import WatchedDisk, connect
from tests.headend.support import LOG, Bench
from tests.support.wait import until


async def test_a_full_disk() -> None:
    disk = WatchedDisk()
    bench = await Bench(Store("sqlite://", LOG, connect(disk))).start()
    service, head = bench.service, bench.head
    try:
        bench.register("gw/1")
        await service.set_limit("gw/1", 1000)
        event = await service.events.create(800, bench.now, bench.now + 600, ["gw/1"])
        await until(lambda: not len(bench.store.writer))
        head.take()

        disk.room = 0
        bench.report("gw/1", "1", 100, at=bench.now)
        bench.device("gw/1", 4, acknowledge=True, on=True)
        service.asked("gw/1", "mqtt", 4, 60)
        service.answered("gw/1", "mqtt", event.id, 0, True)
        for call in (
            service.events.create(500, bench.now, bench.now + 600, "all"),
            service.events.change(event.id, value_w=100),
            service.set_limit("gw/1", 1),
            service.set_mode("gw/1", "poll"),
        ):
            with pytest.raises(SQLAlchemyError, match="no room"):
                await call
        await until(lambda: len(head.sent) == 2, what="both are answered")
        assert sorted(head.take()) == ["rdr gw/1 4 denied", "refuse gw/1 1 503"]
        assert head.opts == []
        assert (set(service.book.events), event.value_w) == ({event.id}, 800)
        assert (service.book.limits, service.book.emas["gw/1"].mode) == ({"gw/1": 1000}, "auto")
        alarms = views.alarms(service.book, service.events)
        assert [alarm.kind for alarm in alarms if "no room" in alarm.text] == ["database"]

        disk.room = None
        bench.report("gw/1", "1", 100, at=bench.now)
        bench.device("gw/1", 4, acknowledge=True, on=True)
        service.asked("gw/1", "mqtt", 4, 60)
        service.answered("gw/1", "mqtt", event.id, 0, True)
        await until(lambda: len(head.sent) == 3)
        assert sorted(head.take()) == ["device gw/1 4 came", "rdr gw/1 4 granted", "report gw/1 1"]
        await until(lambda: head.opts == ["gw/1 200"])
        assert views.alarms(service.book, service.events) == []
    finally:
        disk.room = None
        await bench.stop()
