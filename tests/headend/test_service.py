"""RDR, device commands, reports and presence, on a clock moved by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headend.ems import views
from headend.ems.errors import Conflict, Unknown
from headend.ems.state import Rdr, ReportCount
from tests.headend.support import Bench
from tests.support.wait import until


def _why(bench: Bench) -> list[Rdr]:
    seen: list[Rdr] = []
    bench.service.book.on_change.append(
        lambda change: seen.append(Rdr(**change.data)) if change.kind == "rdr" else None
    )
    return seen


@pytest.mark.parametrize(
    ("policy", "limits", "power", "asks", "expected"),
    [
        # policy  limits                       power of gw/1, gw/2   who asks what       granted or denied
        ("deny", "gw/1=9000", "100 0", "gw/1/4:60", "denied"),
        ("grant", "", "100 0", "gw/1/4:60", "granted"),
        ("limit", "", "100 0", "gw/1/4:60", "granted"),  # nothing is asked of it: it holds its own limit
        ("limit", "", "- -", "gw/1/4:60", "granted"),
        ("limit", "gw/1=160", "100 0", "gw/1/4:60", "granted"),
        ("limit", "gw/1=159", "100 0", "gw/1/4:60", "denied"),
        ("limit", "gw/1=200", "100 0", "gw/1/4:60 gw/1/5:60", "granted denied"),  # the first is not read back yet
        ("limit", "gw/1=200", "100 0", "gw/1/4:60 gw/1/4:60", "granted granted"),  # the same device again
        ("limit", "total=200", "100 50", "gw/1/4:60", "denied"),
        ("limit", "total=210", "100 50", "gw/1/4:60 gw/2/4:1", "granted denied"),
        ("limit", "total=900 gw/1=110", "100 50", "gw/1/4:60 gw/2/4:60", "denied granted"),
        ("limit", "gw/1=900", "- 50", "gw/1/4:60", "denied"),  # power not known: worst case
        ("limit", "total=900", "100 -", "gw/1/4:60", "denied"),  # another's power is not known
    ],
)
async def test_rdr(bench: Bench, policy: str, limits: str, power: str, asks: str, expected: str) -> None:
    bench.register("gw/1", "gw/2")
    await bench.service.rdr.set_policy(policy)
    for limit in limits.split():
        scope, _, watts = limit.partition("=")
        await bench.service.set_limit(scope, float(watts))
    for name, watts in zip(("gw/1", "gw/2"), power.split(), strict=True):
        if watts != "-":
            bench.report(name, "1", float(watts))
    bench.head.take()
    results = _why(bench)
    for asked, ask in enumerate(asks.split(), 1):
        device, _, watts = ask.partition(":")
        ema, number = device.rsplit("/", 1)
        bench.service.asked(ema, "mqtt", int(number), float(watts))
        await until(lambda asked=asked: len(results) == asked, what="the answer")  # type: ignore[misc]
    assert [rdr.state for rdr in results] == expected.split()
    assert [line.split()[-1] for line in bench.head.take() if line.startswith("rdr")] == expected.split()
    assert all(rdr.why for rdr in results)


async def test_a_grant_is_room_again_when_the_reading_must_show_it(bench: Bench) -> None:
    bench.register("gw/1")
    await bench.service.set_limit("gw/1", 200)
    bench.report("gw/1", "1", 100)
    results = _why(bench)
    bench.service.asked("gw/1", "mqtt", 4, 60)
    await until(lambda: results)
    await bench.pass_time(bench.settings.rdr_hold_s + 1)
    bench.report("gw/1", "2", 100)  # the lamp was not switched on after all
    bench.service.asked("gw/1", "mqtt", 5, 60)
    await until(lambda: [rdr.state for rdr in results] == ["granted", "granted"])


async def test_a_grant_is_held_for_its_time_whatever_the_wall_clock_does(bench: Bench) -> None:
    bench.register("gw/1")
    await bench.service.set_limit("gw/1", 200)
    bench.report("gw/1", "1", 100)
    results = _why(bench)
    bench.service.asked("gw/1", "mqtt", 4, 60)
    await until(lambda: len(results) == 1)
    bench.clock.jump_wall(60)
    bench.report("gw/1", "2", 100)
    bench.service.asked("gw/1", "mqtt", 5, 60)
    await until(lambda: len(results) == 2)
    assert [rdr.state for rdr in results] == ["granted", "denied"]


async def test_grants_that_are_over_are_not_kept(bench: Bench) -> None:
    bench.register("gw/1")
    await bench.service.rdr.set_policy("grant")
    results = _why(bench)
    for number in range(1, 6):
        bench.service.asked("gw/1", "mqtt", number, 60)
        await until(lambda number=number: len(results) == number)  # type: ignore[misc]
        await bench.pass_time(bench.settings.rdr_hold_s + 1)
    assert len(bench.service.rdr._holds) == 1


async def test_a_grant_that_cannot_be_written_is_a_denial(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told of a grant that is not on disk, and its watts are free again."""
    bench.register("gw/1")
    await bench.service.set_limit("gw/1", 200)
    bench.report("gw/1", "1", 100)
    await until(lambda: bench.head.sent)
    bench.head.take()
    results = _why(bench)
    kept = []
    save = bench.store.save
    monkeypatch.setattr(bench.store, "save", lambda things, done=None: kept.append((list(things), done)))
    bench.service.asked("gw/1", "mqtt", 4, 60)
    bench.service.asked("gw/1", "mqtt", 5, 60)  # while the first is held
    assert bench.head.take() == ["rdr gw/1 5 denied"]
    [([row], done)] = [(things, done) for things, done in kept if any(isinstance(t, Rdr) for t in things)]
    assert (row.number, row.state) == (4, "granted")
    done(None, OSError("database or disk is full"))
    assert bench.head.take() == ["rdr gw/1 4 denied"]
    assert (results[-1].state, results[-1].why) == ("denied", "the EMS cannot write the grant now")
    monkeypatch.setattr(bench.store, "save", save)
    bench.service.asked("gw/1", "mqtt", 5, 60)
    await until(lambda: bench.head.take() == ["rdr gw/1 5 granted"])


async def test_a_grant_written_too_late_is_a_denial(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.register("gw/1")
    await bench.service.rdr.set_policy("manual")
    bench.service.asked("gw/1", "mqtt", 4, 60)
    waiting: list[Any] = []
    monkeypatch.setattr(bench.store, "save", lambda things, done=None: waiting.append(done))
    answering = asyncio.ensure_future(bench.service.rdr.answer(1, True, "kim"))
    await until(lambda: waiting)
    await bench.clock.advance(5)  # the EMA has taken the silence for a denial
    waiting[0](None, None)
    assert (await answering).state == "denied"
    assert bench.head.take() == ["rdr gw/1 4 denied"]


async def test_without_a_limit_an_event_is_what_is_held(bench: Bench) -> None:
    bench.register("gw/1", "gw/2")
    results = _why(bench)
    event = await bench.service.events.create(800, bench.now, bench.now + 600, ["gw/1"])
    bench.service.asked("gw/1", "mqtt", 4, 60)
    why = f"event {event.id} asks 800 W; no limit says what may be granted (smartema ems limit gw/1 W)"
    assert (results[-1].state, results[-1].why) == ("denied", why)
    bench.service.asked("gw/2", "mqtt", 4, 60)
    await until(lambda: len(results) == 2)
    why = "no event asks anything of gw/2, no limit is set; it holds its own hard limit"
    assert (results[-1].state, results[-1].why) == ("granted", why)
    bench.service.answered("gw/1", "mqtt", event.id, 0, False)  # it holds nothing
    bench.service.asked("gw/1", "mqtt", 4, 60)
    await until(lambda: len(results) == 3)
    assert results[-1].state == "granted"


async def test_an_old_power_is_no_ground_for_a_grant(bench: Bench) -> None:
    bench.register("gw/1")
    await bench.service.set_limit("gw/1", 900)
    bench.report("gw/1", "1", 100)
    await bench.pass_time(bench.settings.stale_s + 1)
    results = _why(bench)
    bench.service.asked("gw/1", "mqtt", 4, 60)
    why = "power of gw/1 is not known now, its last report is of 61 s ago"
    assert (results[0].state, results[0].why) == ("denied", why)


async def test_an_operator_answers_by_hand_in_time(bench: Bench) -> None:
    bench.register("gw/1")
    await bench.service.rdr.set_policy("manual")
    bench.service.asked("gw/1", "mqtt", 4, 60)
    bench.service.asked("gw/1", "mqtt", 4, 60)  # the same, still waiting
    bench.service.asked("gw/1", "mqtt", 5, 60)
    assert bench.head.take() == []
    await bench.service.rdr.answer(1, True, "kim")
    await bench.pass_time(2)
    assert bench.head.take() == ["rdr gw/1 4 granted", "rdr gw/1 5 denied"]
    with pytest.raises(Conflict):
        await bench.service.rdr.answer(2, True, "kim")
    with pytest.raises(Unknown):
        await bench.service.rdr.answer(9, True, "kim")


@pytest.mark.parametrize(
    ("action", "before", "after", "state"),
    [
        ("off", "on 5", "off 5", "confirmed"),
        ("on", "off 5", "on 5", "confirmed"),
        ("off", "on 5", "on 5", "sent"),
        ("up", "on 5", "on 6", "confirmed"),
        ("up", "on 9", "on 9", "confirmed"),  # it goes no higher
        ("down", "on 5", "on 4", "confirmed"),
        ("down", "on 5", "on 6", "sent"),
    ],
)
async def test_a_command_is_confirmed_by_the_device(
    bench: Bench, action: str, before: str, after: str, state: str
) -> None:
    def tell(words: str) -> None:
        on, level = words.split()
        bench.device("gw/1", 4, on=on == "on", dimming=int(level))

    bench.register("gw/1")
    tell(before)
    command = bench.service.commands.send("gw/1", 4, action, "kim")
    tell(after)
    assert command.state == state


async def test_a_command_nobody_confirms_is_said_again_and_fails_but_a_step_is_said_once(bench: Bench) -> None:
    bench.register("gw/1")
    bench.device("gw/1", 4, on=True, dimming=5)
    bench.device("gw/1", 5, on=True, dimming=5)
    off = bench.service.commands.send("gw/1", 4, "off", "kim")
    up = bench.service.commands.send("gw/1", 5, "up", "kim")
    await bench.pass_time(bench.settings.command_s + 1)
    assert sorted(bench.head.take()) == ["control gw/1 4 off"] * 3 + ["dim gw/1 5 up"]
    assert (off.state, up.state) == ("failed", "failed")


async def test_commands_need_somebody_to_carry_them_out(bench: Bench) -> None:
    bench.register("gw/1")
    bench.device("gw/1", 4, on=True)
    bench.device("gw/1", 5, connected=False)
    with pytest.raises(Unknown):
        bench.service.commands.send("gw/2", 4, "on", "kim")
    with pytest.raises(Unknown):
        bench.service.commands.send("gw/1", 9, "on", "kim")
    with pytest.raises(Conflict):
        bench.service.commands.send("gw/1", 5, "on", "kim")
    bench.service.disconnected("gw/1")
    with pytest.raises(Conflict):
        bench.service.commands.send("gw/1", 4, "on", "kim")


async def test_reports_and_devices_are_acknowledged_after_the_commit(bench: Bench) -> None:
    bench.register("gw/1")
    bench.report("gw/1", "1", 100)
    bench.report("gw/1", "1", 100)
    bench.device("gw/1", 4, acknowledge=True, on=True)
    assert bench.head.take() == []  # nothing before the disk has it
    await until(lambda: len(bench.head.sent) == 3)
    assert sorted(bench.head.take()) == ["device gw/1 4 came", "report gw/1 1", "report gw/1 1"]
    assert await bench.store.counts() == {"gw/1": ReportCount(1, 1)}


async def test_an_old_report_does_not_replace_what_is_known_of_now(bench: Bench) -> None:
    bench.register("gw/1")
    bench.report("gw/1", "2", 200, at=bench.now)
    bench.report("gw/1", "1", 900, at=bench.now - 3000)
    ema = bench.service.book.emas["gw/1"]
    assert (ema.power_w, bench.service.book.power(ema)) == (200, 200)


async def test_a_silent_ema_is_gone_and_back_with_its_next_word(bench: Bench) -> None:
    bench.register("gw/1")
    await bench.pass_time(200)
    assert not bench.service.book.emas["gw/1"].connected
    bench.report("gw/1", "1", 5)
    assert bench.service.book.emas["gw/1"].connected


async def test_numbers_of_strangers_do_not_fill_the_memory() -> None:
    bench = await Bench(most_emas=3, most_devices=2).start()
    try:
        for number in range(1, 50):
            bench.register(f"gw/{number}")
            bench.device("gw/1", number)
        assert (len(bench.service.book.emas), len(bench.service.book.devices)) == (3, 2)
        assert bench.service.refused > 50
    finally:
        await bench.stop()


async def test_the_first_screen_says_what_is_wrong(bench: Bench) -> None:
    bench.register("gw/1", "gw/2", "gw/3")
    event = await bench.service.events.create(100, bench.now, bench.now + 3600, ["gw/1", "gw/2", "gw/3"])
    bench.service.answered("gw/1", "mqtt", event.id, 0, True)
    bench.service.answered("gw/2", "mqtt", event.id, 0, False)
    bench.service.disconnected("gw/3")
    await bench.service.events.change(event.id, value_w=90)
    await bench.pass_time(61)
    bench.report("gw/1", "1", 150, generate_w=-20, storage_w=10)
    bench.report("gw/2", "1", 50)
    seen = views.overview(bench.service.book, bench.service.events, "UTC", "limit")
    assert (seen.flow.grid_w, seen.flow.load_w, seen.flow.not_known) == (200, 210, [])
    assert [(alarm.kind, alarm.ema) for alarm in seen.alarms] == [
        ("over", "gw/1"),
        ("optout", "gw/2"),
        ("offline", "gw/3"),
    ]
    assert [(ema.name, ema.state) for ema in seen.emas] == [("gw/1", "alarm"), ("gw/2", "limited"), ("gw/3", "offline")]


async def test_a_request_id_that_comes_again_with_another_report_is_another_report(bench: Bench) -> None:
    """An EMA that lost its journal counts from the same number again; the lab's EMA always says 1."""
    bench.register("gw/1")
    for power, at in ((100.0, bench.now), (100.0, bench.now), (200.0, bench.now + 1), (None, None), (None, None)):
        bench.report("gw/1", "7", power, at)  # type: ignore[arg-type]
    bench.report("gw/1", "1", 300.0)
    bench.report("gw/1", "1", 301.0)
    await until(lambda: sum(line.startswith("report") for line in bench.head.sent) == 7, what="all are acknowledged")
    counts = await bench.store.counts()
    assert (counts["gw/1"].stored, counts["gw/1"].duplicates) == (5, 2)


async def test_who_polls_and_does_not_report_is_asked_to_until_it_does(bench: Bench) -> None:
    bench.register("gw/1")
    bench.service.polled("gw/1", "mqtt")
    assert bench.head.take() == ["poll gw/1 nothing"], "one of mode 2 reports with its poll"
    await bench.pass_time(11)
    bench.service.polled("gw/1", "mqtt")
    assert bench.head.take() == ["poll gw/1 report!"]
    bench.report("gw/1", "1", 100.0, bench.now)
    await until(lambda: "report gw/1 1" in bench.head.sent, what="it is acknowledged")
    bench.service.polled("gw/1", "mqtt")
    await bench.pass_time(19)
    bench.service.polled("gw/1", "mqtt")
    assert "poll gw/1 report!" not in bench.head.take()
    await bench.pass_time(2)
    bench.service.polled("gw/1", "mqtt")
    bench.service.polled("gw/1", "mqtt")
    assert bench.head.take() == ["poll gw/1 report!", "poll gw/1 nothing"]
    await bench.pass_time(11)
    bench.service.polled("gw/1", "mqtt")
    assert bench.head.take() == ["poll gw/1 report!"], "the answer may have been lost"
