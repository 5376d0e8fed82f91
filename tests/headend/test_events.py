"""Events on a clock moved by hand: who is told what, and when again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from gateway.clock import EARLIEST_TRUSTED_WALL, ManualClock
from gateway.links.mir2017 import happenings as h
from headend.ems.app import Ems
from headend.ems.errors import Conflict, Refused, Unknown
from headend.ems.settings import EmsSettings
from headend.ems.state import Delivery, Event
from headend.ems.translate import REQUEST_IDS, REQUEST_STEP
from tests.headend.support import Bench
from tests.support.wait import until


async def _event(bench: Bench, targets: list[str] | str, watts: float = 800, minutes: float = 10) -> Event:
    return await bench.service.events.create(watts, bench.now, bench.now + minutes * 60, targets)


def _answer(bench: Bench, ema: str, event: int, modification: int | None = None, opt_in: bool = True) -> None:
    bench.service.answered(ema, "mqtt", event, modification, opt_in)


@pytest.mark.parametrize(
    ("targets", "there", "expected"),
    [
        # to whom               registered            what goes out
        (["gw/1"], "gw/1 gw/2", ["push gw/1 1.0 800"]),  # unicast
        (["gw/1", "gw/3"], "gw/1 gw/2 gw/3", ["push gw/1 1.0 800", "push gw/3 1.0 800"]),  # multicast: one each
        (["gw/1", "gw/1"], "gw/1", ["push gw/1 1.0 800"]),  # named twice, told once
        ("all", "gw/1 gw/2", ["broadcast 1.0 800"]),  # one message for all
        ("all", "gw/1", ["push gw/1 1.0 800"]),  # all of them is one
        ("all", "", []),  # nobody is there yet
    ],
)
async def test_who_is_told(bench: Bench, targets: list[str] | str, there: str, expected: list[str]) -> None:
    bench.register(*there.split())
    await _event(bench, targets)
    assert bench.head.take() == expected


async def test_for_all_is_also_for_who_comes_while_it_is_written(bench: Bench) -> None:
    making = asyncio.ensure_future(_event(bench, "all"))
    await asyncio.sleep(0)
    assert not making.done()
    bench.register("gw/1")
    await making
    assert bench.head.take() == ["push gw/1 1.0 800"]


async def test_sent_again_with_longer_waits_until_answered(bench: Bench) -> None:
    bench.register("gw/1")
    event = await _event(bench, ["gw/1"])
    at = []
    for second in range(50):
        if bench.head.take():
            at.append(second)
        await bench.pass_time(1)
    assert at == [0, 3, 9, 21, 45]  # after 3, 6, 12, 24 s
    _answer(bench, "gw/1", event.id)
    await bench.pass_time(500)
    assert bench.head.take() == []


async def test_given_up_after_so_often_and_begun_again_with_a_new_session(bench: Bench) -> None:
    bench.register("gw/1")
    event = await _event(bench, ["gw/1"], minutes=600)
    for _ in range(60):
        await bench.pass_time(60)
        bench.service.seen("gw/1", "mqtt")
    assert len(bench.head.take()) == bench.settings.resend_most
    assert bench.service.events.given_up(event, event.deliveries["gw/1"])
    bench.register("gw/1")
    assert bench.head.take() == ["push gw/1 1.0 800"]


async def test_kept_for_who_is_away_and_told_when_it_comes(bench: Bench) -> None:
    bench.register("gw/1", "gw/2")
    bench.service.disconnected("gw/1")
    event = await _event(bench, ["gw/1", "gw/2"])
    _answer(bench, "gw/2", event.id)
    assert bench.head.take() == ["push gw/2 1.0 800"]
    await bench.pass_time(300)
    assert bench.head.take() == []
    bench.register("gw/1")
    assert bench.head.take() == ["push gw/1 1.0 800"]


async def test_not_told_when_it_comes_too_late(bench: Bench) -> None:
    bench.register("gw/1")
    bench.service.disconnected("gw/1")
    await _event(bench, ["gw/1"], minutes=2)
    await bench.pass_time(240)
    bench.register("gw/1")
    assert bench.head.take() == []


async def test_told_again_with_each_session_for_it_may_have_lost_its_memory(bench: Bench) -> None:
    bench.register("gw/1")
    event = await _event(bench, ["gw/1"])
    _answer(bench, "gw/1", event.id)
    bench.head.take()
    bench.service.registering("gw/1", "mqtt")
    assert bench.head.take() == []  # not before its set-up is through
    bench.service.registered("gw/1", "MIR_VEN1", "mqtt")
    assert bench.head.take() == ["push gw/1 1.0 800"]


async def test_everybody_is_also_who_comes_while_it_runs(bench: Bench) -> None:
    bench.register("gw/1")
    await _event(bench, "all")
    bench.head.take()
    bench.register("gw/9")
    assert bench.head.take() == ["push gw/9 1.0 800"]


async def test_who_polls_gets_it_with_a_poll_and_nothing_is_pushed(bench: Bench) -> None:
    bench.register("gw/1")
    bench.service.polled("gw/1", "mqtt")
    event = await _event(bench, ["gw/1"])
    later = await _event(bench, ["gw/1"], watts=500)
    await bench.pass_time(2)
    bench.service.polled("gw/1", "mqtt")
    bench.service.polled("gw/1", "mqtt")
    bench.service.polled("gw/1", "mqtt")  # both are on their way
    _answer(bench, "gw/1", event.id)
    _answer(bench, "gw/1", later.id)
    assert bench.head.take() == ["poll gw/1 nothing", "poll gw/1 1.0 800", "poll gw/1 2.0 500", "poll gw/1 nothing"]


async def test_who_stops_polling_is_pushed(bench: Bench) -> None:
    bench.register("gw/1")
    bench.service.polled("gw/1", "mqtt")
    await _event(bench, ["gw/1"])
    bench.head.take()
    await bench.pass_time(40)
    assert bench.head.take()[0] == "push gw/1 1.0 800"


async def test_mode_poll_is_never_pushed(bench: Bench) -> None:
    bench.register("gw/1")
    await bench.service.set_mode("gw/1", "poll")
    await _event(bench, ["gw/1"])
    await bench.pass_time(100)
    assert bench.head.take() == []
    bench.service.polled("gw/1", "mqtt")
    assert bench.head.take() == ["poll gw/1 1.0 800"]


async def test_a_change_has_a_higher_modification_and_only_it_counts_as_answered(bench: Bench) -> None:
    bench.register("gw/1")
    event = await _event(bench, ["gw/1"])
    await bench.service.events.change(event.id, value_w=600)
    _answer(bench, "gw/1", event.id, modification=0)  # late, to the first
    assert bench.service.events.wanted(event, event.deliveries["gw/1"])
    _answer(bench, "gw/1", event.id, modification=1, opt_in=False)
    assert not bench.service.events.wanted(event, event.deliveries["gw/1"])
    assert event.deliveries["gw/1"].opt == "out"
    assert bench.head.take() == ["push gw/1 1.0 800", "push gw/1 1.1 600"]


async def test_a_cancel_goes_to_those_that_were_told(bench: Bench) -> None:
    bench.register("gw/1", "gw/2")
    bench.service.disconnected("gw/2")
    event = await _event(bench, ["gw/1", "gw/2"])
    await bench.service.events.cancel(event.id)
    bench.register("gw/2")
    assert bench.head.take() == ["push gw/1 1.0 800", "push gw/1 1.1 cancel"]


async def test_who_was_away_at_the_cancel_hears_of_it(bench: Bench) -> None:
    bench.register("gw/1")
    event = await _event(bench, ["gw/1"])
    _answer(bench, "gw/1", event.id)
    bench.service.disconnected("gw/1")
    await bench.service.events.cancel(event.id)
    bench.head.take()
    bench.register("gw/1")
    assert bench.head.take() == ["push gw/1 1.1 cancel"]


async def test_who_is_not_meant_any_more_gets_a_cancel(bench: Bench) -> None:
    bench.register("gw/1", "gw/2")
    event = await _event(bench, ["gw/1"])
    await bench.service.events.change(event.id, targets=["gw/2"])
    assert bench.head.take() == ["push gw/1 1.0 800", "push gw/1 1.1 cancel", "push gw/2 1.1 800"]


async def test_nothing_is_sent_while_the_broker_is_down_and_all_of_it_after(bench: Bench) -> None:
    bench.register("gw/1")
    bench.head.up = False
    event = await _event(bench, ["gw/1"])
    await bench.pass_time(60)
    assert (bench.head.take(), event.deliveries["gw/1"].attempts) == ([], 0)
    bench.head.up = True
    bench.service.link_changed(bench.head)
    await bench.pass_time(0)
    assert bench.head.take() == ["push gw/1 1.0 800"]


@pytest.mark.parametrize(
    ("keys", "field", "error"),
    [
        ({"value_w": -1}, "value_w", Refused),
        ({"value_w": float("nan")}, "value_w", Refused),
        ({"value_w": 2e9}, "value_w", Refused),
        ({"end": -60}, "end", Refused),  # in the past
        ({"start": 600, "end": 600}, "end", Refused),
        ({"start": 400 * 86_400, "end": 401 * 86_400}, "start", Refused),
        ({"end": 32 * 86_400}, "end", Refused),
        ({"end": float("inf")}, "start", Refused),
        ({"targets": []}, "targets", Refused),
        ({"targets": "gw/1"}, "targets", Refused),
        ({"targets": ["gw/7"]}, "targets", Unknown),
    ],
)
async def test_a_wrong_event_is_refused_beside_its_field(
    bench: Bench, keys: dict[str, object], field: str, error: type[Refused]
) -> None:
    bench.register("gw/1")
    given = {"value_w": 800.0, "start": 0.0, "end": 600.0, "targets": ["gw/1"], **keys}
    for time in ("start", "end"):
        given[time] += bench.now  # type: ignore[operator]
    with pytest.raises(error) as caught:
        await bench.service.events.create(**given)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert bench.head.take() == []


async def test_what_is_over_cannot_be_changed(bench: Bench) -> None:
    bench.register("gw/1")
    event = await _event(bench, ["gw/1"], minutes=1)
    await bench.pass_time(180)
    for call in (bench.service.events.cancel(event.id), bench.service.events.change(event.id, value_w=5)):
        with pytest.raises(Conflict):
            await call
    with pytest.raises(Unknown):
        await bench.service.events.cancel(99)


async def test_times_are_the_whole_minutes_that_the_wire_can_say(bench: Bench) -> None:
    bench.register("gw/1")
    minute = bench.now // 60 * 60
    event = await bench.service.events.create(800, minute + 59, minute + 61, ["gw/1"])
    assert (event.start, event.end) == (minute, minute + 120)


async def test_an_answer_to_what_was_never_sent_is_refused(bench: Bench) -> None:
    bench.register("gw/1", "gw/2")
    event = await _event(bench, ["gw/1"])
    _answer(bench, "gw/2", event.id)
    _answer(bench, "gw/1", 77)
    _answer(bench, "gw/1", event.id, modification=5)
    assert bench.service.refused == 3
    assert event.deliveries["gw/1"].answered is None


async def test_no_id_is_used_twice_not_even_by_a_database_that_was_erased(bench: Bench) -> None:
    """An EMA that remembers event 1 takes another event 1 for it, and holds nothing."""
    bench.register("gw/1")
    first, second = await _event(bench, ["gw/1"]), await _event(bench, ["gw/1"])
    assert (first.id, second.id) == (int(bench.now - EARLIEST_TRUSTED_WALL), first.id + 1)
    erased = await Bench().start()
    try:
        await erased.clock.advance(60)
        erased.register("gw/1")
        assert (await _event(erased, ["gw/1"])).id > second.id
        erased.service.events.load(7)  # an old copy that was put back
        assert (await _event(erased, ["gw/1"])).id > second.id
    finally:
        await erased.stop()


async def test_ids_go_on_where_the_clock_cannot_be_right() -> None:
    bench = Bench()
    bench.clock = bench.service.book.clock = ManualClock(wall=100.0)  # type: ignore[assignment]
    await bench.start()
    try:
        bench.register("gw/1")
        bench.service.events.load(41)
        assert [(await _event(bench, ["gw/1"])).id for _ in range(2)] == [42, 43]
    finally:
        await bench.stop()


async def test_an_answer_says_by_its_request_id_which_form_it_means(tmp_path: Path) -> None:
    """And it stays below 2**31, which is all that some EMAs can say."""
    ems = Ems(EmsSettings(state_dir=str(tmp_path), db="sqlite://"), ManualClock(), random.Random(1), http=False)
    await ems.store.open()
    try:
        await ems.service.start()
        ems.service.registered("gw/1", "MIR_VEN1", "mqtt")
        now = ems.service.book.wall
        event = await ems.create_event(800, now, now + 600, ["gw/1"])
        event.deliveries["gw/1"] = Delivery("gw/1", sent=1)
        event.modification = 1
        for modification in (0, 1):
            number = event.id % REQUEST_IDS * REQUEST_STEP + modification
            assert number < 2**31
            ems.heads[0]._translator.happened(h.EventAnswered(1, event.id, number, True))
            assert event.deliveries["gw/1"].answered == modification
    finally:
        await ems.service.stop()
        await ems.store.close()


async def test_an_opt_is_acknowledged_once_it_is_on_disk_and_a_useless_one_is_refused(bench: Bench) -> None:
    bench.register("gw/1")
    event = await _event(bench, ["gw/1"])
    _answer(bench, "gw/1", event.id)
    assert bench.head.opts == []
    await until(lambda: bench.head.opts == ["gw/1 200"])
    _answer(bench, "gw/1", 77)
    assert bench.head.opts == ["gw/1 200", "gw/1 400"]


async def test_a_change_that_cannot_be_written_did_not_happen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.register("gw/1", "gw/2")
    event = await _event(bench, ["gw/1"])
    bench.head.take()
    ticks: list[float] = []

    async def full(*_: object) -> None:
        ticks.append(bench.service.tick())  # whoever looks meanwhile sees the event as it was
        raise OSError("disk full")

    monkeypatch.setattr(bench.store, "save_now", full)
    for call in (
        bench.service.events.change(event.id, value_w=5, targets="all"),
        bench.service.events.cancel(event.id),
    ):
        with pytest.raises(OSError, match="full"):
            await call
    assert (event.modification, event.value_w, event.everyone, event.cancelled) == (0, 800, False, False)
    assert set(event.deliveries) == {"gw/1"}
    bench.service.polled("gw/2", "mqtt")
    assert len(ticks) == 2
    assert bench.head.take() == ["poll gw/2 nothing"]


@pytest.mark.parametrize("made", ["made", "changed"])
async def test_who_comes_while_an_event_for_all_is_written_is_told_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    bench.register("gw/1")
    event = await _event(bench, ["gw/1"]) if made == "changed" else None
    bench.head.take()
    save_now = bench.store.save_now

    async def slow(*things: object) -> None:
        await save_now(*things)
        bench.register("gw/2")

    monkeypatch.setattr(bench.store, "save_now", slow)
    if event is None:
        event = await _event(bench, "all")
    else:
        await bench.service.events.change(event.id, targets="all")
    assert set(event.deliveries) == {"gw/1", "gw/2"}
    assert bench.head.take()[-1].startswith("broadcast")
    _answer(bench, "gw/1", event.id)
    await bench.pass_time(4)
    assert bench.head.take()[-1].startswith("push gw/2")
