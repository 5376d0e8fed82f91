"""The whole EMS over a real mosquitto, with EMAs of few lines below it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest_asyncio

from gateway.clock import SystemClock
from gateway.links.mir2017 import client_happenings as h
from gateway.links.mir2017 import messages as wire
from headend.ems.app import Ems
from headend.ems.settings import EmsSettings
from headend.ems.state import Change, ReportCount
from tests.headend.support import ScriptedEma
from tests.support.mosquitto import Mosquitto
from tests.support.wait import until


class Site:
    """One EMS and its EMAs, as tasks of one group."""

    def __init__(self, broker: Mosquitto, state: Path, tasks: asyncio.TaskGroup, **keys: object) -> None:
        self.broker = broker
        self._tasks = tasks
        self._settings = EmsSettings(  # type: ignore[arg-type]
            **{"broker": f"127.0.0.1:{broker.port}", "state_dir": str(state), "resend_s": 0.2, **keys}
        )
        self.running: asyncio.Task[None] | None = None

    async def ems(self) -> Ems:
        ems = Ems(self._settings, SystemClock(), random.Random(1), http=False)
        self.running = self._tasks.create_task(ems.run())
        await ems.ready()
        await until(lambda: ems.connected, what="EMS's session")
        return ems

    async def stop_ems(self) -> None:
        assert self.running is not None
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    async def ema(self, number: int) -> ScriptedEma:
        ema = ScriptedEma(self.broker.port, number)
        self._tasks.create_task(ema.run())
        await ema.session()
        return ema


@pytest_asyncio.fixture
async def site(mosquitto: Mosquitto, tmp_path: Path) -> AsyncIterator[Site]:
    tasks: set[asyncio.Task[None]] = set()

    class Tasks:
        def create_task(self, coroutine: object) -> asyncio.Task[None]:
            task = asyncio.ensure_future(coroutine)  # type: ignore[arg-type]
            tasks.add(task)
            return task  # type: ignore[no-any-return]

    yield Site(mosquitto, tmp_path / "ems", Tasks())  # type: ignore[arg-type]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_event_goes_to_those_that_are_meant_and_their_answer_is_known(site: Site) -> None:
    ems = await site.ems()
    one, two = await site.ema(1), await site.ema(2)
    two.opt_in = False
    await until(lambda: len(ems.counts()) == 2)
    now = SystemClock().now().wall

    event = await ems.create_event(800, now, now + 600, ["gw/1"])
    await until(lambda: event.deliveries["gw/1"].opt == "in", what="optIn of gw/1")
    assert [(e.event_id, e.value, e.target) for e in one.events] == [(event.id, 800, "MIR_VEN1")]
    assert two.events == []

    both = await ems.create_event(500, now, now + 600, "all")
    await until(lambda: {d.opt for d in both.deliveries.values()} == {"in", "out"}, what="opts of both")

    await ems.change_event(event.id, value_w=700)
    await until(lambda: event.deliveries["gw/1"].answered == 1, what="answer to the change")
    await ems.cancel_event(event.id)
    await until(lambda: event.deliveries["gw/1"].answered == 2, what="answer to the cancel")
    assert [(e.modification, e.value, e.cancelled) for e in one.events if e.event_id == event.id] == [
        (0, 800, False),
        (1, 700, False),
        (2, 700, True),
    ]


async def test_reports_are_acknowledged_once_on_disk_and_stored_once(site: Site) -> None:
    ems = await site.ems()
    seen: list[Change] = []
    ems.on_change = seen.append
    ema = await site.ema(1)
    for number in (10, 11, 11, 12, 10):
        ema.report(number, 100 + number)
    await until(lambda: len(ema.acknowledged) == 5, what="five acknowledgements")
    assert ems.counts() == {"gw/1": ReportCount(3, 2)}
    assert await ems.store.counts() == {"gw/1": ReportCount(3, 2)}
    assert [change.data["power_w"] for change in seen if change.kind == "power"][-1] == 110


async def test_an_ema_that_polls_gets_its_event_and_the_wish_for_a_report_with_its_polls(site: Site) -> None:
    ems = await site.ems()
    ema = await site.ema(1)
    ema.send(ema.client.poll())
    await until(lambda: any(isinstance(x, h.PollAnswered) for x in ema.happened))
    now = SystemClock().now().wall
    event = await ems.create_event(800, now, now + 600, ["gw/1"])
    ems.service.want_report("gw/1")
    ema.send(ema.client.poll())
    await until(lambda: event.deliveries["gw/1"].opt == "in")
    assert [e.pulled for e in ema.events] == [True]
    ema.send(ema.client.poll())
    await until(lambda: any(isinstance(x, h.ReportRequested) for x in ema.happened), what="wish for a report")


async def test_devices_are_known_commanded_and_confirmed(site: Site) -> None:
    ems = await site.ems()
    ema = await site.ema(1)
    ema.send(ema.client.device_connect(wire.DeviceText(1, 4, True, 5, 60, 2)))
    await until(lambda: h.DeviceAcknowledged(4, True) in ema.happened, what="the device's acknowledgement")
    off = ems.service.commands.send("gw/1", 4, "off", "test")
    await until(lambda: h.DeviceControl(4, False) in ema.happened)
    ema.send(ema.client.device_info(wire.DeviceText(1, 4, False, 5, 0, 2)))
    await until(lambda: off.state == "confirmed")
    down = ems.service.commands.send("gw/1", 4, "down", "test")
    await until(lambda: h.Dimming(4, -1) in ema.happened)
    ema.report(77, 0, devices=(wire.DeviceEntry(4, False, 4, 0, 2),))
    await until(lambda: down.state == "confirmed")


async def test_a_device_asks_its_power_back(site: Site) -> None:
    ems = await site.ems()
    ema = await site.ema(1)
    ema.report(1, 700)
    await until(lambda: ems.counts()["gw/1"].stored == 1)
    await ems.set_limit("gw/1", 800)
    ema.send(ema.client.rdr(4, 60))
    ema.send(ema.client.rdr(5, 60))

    def answers() -> list[tuple[int, bool, str]]:
        return [(x.number, x.granted, x.description) for x in ema.happened if isinstance(x, h.RdrAnswered)]

    await until(lambda: len(answers()) == 2)
    why = "Deny: 60 W asked, 40 W left (limit of gw/1 800 W, power 700 W, granted before 60 W)"
    assert sorted(answers()) == [(4, True, "OK"), (5, False, why)]


async def test_the_last_will_shows_and_what_an_ema_missed_waits_for_it(site: Site) -> None:
    ems = await site.ems()
    ema = ScriptedEma(site.broker.port, 3)
    task = asyncio.ensure_future(ema.run())
    await ema.session()
    await until(lambda: ems.service.book.emas["gw/3"].connected)
    task.cancel()
    # aiomqtt says good-bye to the broker on a cancel, so the will is sent by hand as the daemon does.
    await asyncio.gather(task, return_exceptions=True)
    other = await site.ema(4)
    other.send([ema.client.will])
    await until(lambda: not ems.service.book.emas["gw/3"].connected, what="gw/3 gone")

    now = SystemClock().now().wall
    event = await ems.create_event(800, now, now + 600, ["gw/3"])
    assert event.deliveries["gw/3"].sent is None
    back = await site.ema(3)
    await until(lambda: event.deliveries["gw/3"].opt == "in", what="the event that waited")
    assert [e.event_id for e in back.events] == [event.id]


async def test_a_killed_broker_costs_nothing_that_was_said(site: Site) -> None:
    ems = await site.ems()
    ema = await site.ema(1)
    site.broker.kill()
    await until(lambda: not ems.connected, what="the EMS notices")
    now = SystemClock().now().wall
    event = await ems.create_event(800, now, now + 600, "all")
    await site.broker.start()
    await until(lambda: event.deliveries["gw/1"].opt == "in", 20, "the event made without a broker")
    ema.report(5, 50)
    await until(lambda: ema.acknowledged == [5])


async def test_a_restarted_ems_knows_its_events_and_reports(site: Site) -> None:
    ems = await site.ems()
    ema = await site.ema(1)
    ema.report(1, 500)
    await until(lambda: ema.acknowledged == [1])
    now = SystemClock().now().wall
    event = await ems.create_event(800, now, now + 600, ["gw/1"])
    await until(lambda: event.deliveries["gw/1"].opt == "in")
    await ems.set_limit("total", 5000)
    await site.stop_ems()

    again = await site.ems()
    assert again.counts() == {"gw/1": ReportCount(1, 0)}
    known = again.service.book.events[event.id]
    assert (known.value_w, known.deliveries["gw/1"].opt, again.service.book.limits) == (800, "in", {"total": 5000})
    # The EMA has not noticed; its next word, a report sent twice, brings it back into the picture.
    ema.report(1, 500)
    await until(lambda: ema.acknowledged == [1, 1])
    assert again.counts() == {"gw/1": ReportCount(1, 1)}
    assert again.service.book.emas["gw/1"].connected
    later = await again.create_event(600, now, now + 600, ["gw/1"])
    assert later.id > event.id
    await until(lambda: later.deliveries["gw/1"].opt == "in")


async def test_a_retained_message_is_not_taken_and_counted(site: Site) -> None:
    ems = await site.ems()
    ema = await site.ema(1)
    retained = aiomqtt.Client("127.0.0.1", site.broker.port)
    async with retained:
        await retained.publish("EMS/UpdateReport", b'{"GW":"gw/1","VENID":"x","RequestID":7,"Power":5}', 1, retain=True)
    await site.stop_ems()
    again = await site.ems()
    ema.report(8, 6)
    await until(lambda: 8 in ema.acknowledged)
    assert (ems.heads[0].link().kept, again.heads[0].link().kept) == (0, 1)
    async with retained:
        await retained.publish("EMS/UpdateReport", b"", 1, retain=True)
