"""The engine with its real journal and real control: what an event, an RDR, a silent device and a restart bring."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway.errors import OperatorError
from gateway.site.command import Command, Source
from gateway.site.event import RdrResult
from gateway.site.resource import Setting
from gateway.verbs import Verbs
from tests.support.site import FakeUpstream, Lamp
from tests.support.wait import until


async def test_an_event_sheds_by_priority_and_its_end_brings_everything_back(make) -> None:
    site = make(60.0, 60.0, 60.0)
    assert await site.engine.take_event(site.event(130.0, seconds=300)) is True
    await site.turn(2)
    assert [lamp.on for lamp in site.field.lamps.values()] == [False, True, True]
    assert site.power_w <= 130
    await site.turn(310)
    assert all(lamp.on for lamp in site.field.lamps.values())


async def test_the_command_leaves_before_the_journal_is_waited_for(make, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make(60.0, 60.0)
    order = []
    durable = site.journal.durable

    async def watched() -> None:
        await asyncio.sleep(0)
        order.append(f"durable after {len(site.field.sent)}")
        await durable()

    monkeypatch.setattr(site.journal, "durable", watched)
    await site.engine.take_event(site.event(70.0))
    assert order == ["durable after 1"]


async def test_every_command_of_a_pass_leaves_before_one_of_them_is_written(make, monkeypatch) -> None:
    site = make(60.0, 60.0, 60.0)
    order: list[str] = []
    send, save = site.field.send, site.journal.save_command

    def sent(command: Command) -> Awaitable[None]:
        order.append(f"sent {command.number}")
        return send(command)

    def saved(command: Command, at: float) -> None:
        order.append(f"written {command.number}")
        save(command, at)

    monkeypatch.setattr(site.field, "send", sent)
    monkeypatch.setattr(site.journal, "save_command", saved)
    site.engine.threshold(60.0, "ems")
    assert order == ["sent 1", "sent 2", "written 1", "written 2"]


async def test_an_event_that_came_twice_takes_effect_once(make) -> None:
    site = make(60.0, 60.0)
    event = site.event(70.0)
    await site.engine.take_event(event)
    sent = len(site.field.sent)
    assert await site.engine.take_event(event) is True
    assert len(site.field.sent) == sent
    assert len([d for d in site.decisions if d.startswith("opt:")]) == 1


async def test_a_change_replaces_and_a_cancel_ends(make) -> None:
    site = make(60.0, 60.0)
    event = site.event(70.0)
    await site.engine.take_event(event)
    await site.turn(2)
    assert site.power_w == 60
    await site.engine.take_event(replace(event, modification=1, limit_w=30.0))
    await site.turn(2)
    assert site.power_w == 0
    await site.engine.take_event(replace(event, modification=2, end=event.start))
    await site.turn(5)
    assert site.power_w == 120


@pytest.mark.parametrize(
    ("policy", "limit_w", "ended", "expected"),
    [
        ("always", 70.0, False, True),
        ("never", 70.0, False, False),
        ("always", 70.0, True, False),  # it was over before it came
        ("able", 70.0, False, True),
    ],
)
async def test_opt(make, policy: str, limit_w: float, ended: bool, expected: bool) -> None:
    site = make(60.0, 60.0, opt=policy)
    event = site.event(limit_w)
    if ended:
        event = replace(event, start=event.start - 1000, end=event.start - 500)
    assert await site.engine.take_event(event) is expected
    await site.turn(2)
    assert (site.power_w <= limit_w) is expected


async def test_opted_out_because_unable_changes_nothing_for_long(make) -> None:
    site = make(60.0, 60.0, opt="able")
    for lamp in site.field.lamps.values():
        site.engine.appeared(site.field, replace(lamp.resource, never_shed=True))
    assert await site.engine.take_event(site.event(70.0)) is False
    await site.turn(3)
    assert site.power_w == 120
    assert any("opted out, 50 W would be over with all off that may be shed" in d for d in site.decisions)


async def test_a_restart_takes_up_the_running_event_and_what_is_held(make) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_event(site.event(70.0))
    await site.turn(2)
    command_ids = {c.id for c in site.field.sent}
    await site.restart()
    limit = site.engine.limit(site.clock.now())
    assert limit.import_w == 70
    assert site.engine.opted("ems", 17) == 0
    site.all_come()
    await site.turn(3)
    assert site.power_w == 60
    assert site.engine.states[1].held == Setting(on=False)
    assert not {c.id for c in site.field.sent[len(command_ids) :]} & command_ids, "a command id is never used twice"
    await site.turn(650)
    assert site.power_w == 120, "what was held before the restart comes back after the event"


async def test_after_a_restart_nothing_is_given_back_before_everybody_was_heard(make) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_event(site.event(90.0))
    await site.turn(2)
    await site.restart()
    site.engine.appeared(site.field, site.field.lamps[1].resource)
    site.field.report(1)
    await site.turn(5)
    assert not site.field.lamps[1].on, "led-2 may still draw its 60 W"
    answer = site.engine.asked_back(1, 60.0, 60.0)
    assert (answer.result, "not heard since the restart: led-2" in answer.why) == (RdrResult.DENIED, True)
    await site.turn(60)
    assert site.field.lamps[1].on, "a lease later led-2 counts as gone"


async def test_a_deaf_lamp_is_told_twice_alarmed_and_the_next_is_shed(make) -> None:
    site = make(60.0, 60.0)
    site.field.lamps[1].deaf = True
    await site.engine.take_event(site.event(70.0))
    await site.turn(6)
    assert [c.number for c in site.field.sent] == [1, 1, 2]
    assert any(d.startswith("alarm: led-1 did not confirm 'off'") for d in site.decisions)
    assert site.power_w == 60


async def test_rdr_within_the_margin_is_granted_at_once(make) -> None:
    site = make(10.0, 100.0)
    await site.engine.take_event(site.event(100.0))
    await site.turn(3)
    assert not site.field.lamps[1].on
    site.field.lamps[2].on = False
    site.field.report(2)
    answer = site.engine.asked_back(1, 10.0, 600.0)
    assert answer.result is RdrResult.GRANTED
    await site.turn(3)
    assert site.field.lamps[1].on


async def test_grants_that_were_lost_on_the_way_do_not_leave_the_lamp_off_for_good(make) -> None:
    site = make(10.0, 100.0)
    await site.engine.take_event(site.event(100.0, seconds=300.0))
    await site.turn(3)
    lamp = site.field.lamps[1]
    assert not lamp.on
    site.field.lamps[2].on = False
    site.field.report(2)
    lamp.deaf = True
    for _ in range(2):  # the button is pressed again while the first command is under way
        site.engine.asked_back(1, 10.0, 20.0)
        await site.turn(1)
    await site.turn(10)
    assert any(d.startswith("alarm: led-1 did not confirm") for d in site.decisions)
    lamp.deaf = False
    await site.turn(400)
    assert lamp.on


@pytest.mark.parametrize(
    ("answer", "result", "why"),
    [
        ((True, "OK"), RdrResult.GRANTED, "granted: ems says OK"),
        ((False, "Deny"), RdrResult.DENIED, "denied: ems says Deny"),
        (None, RdrResult.DENIED, "denied: ems did not answer within 2 s"),
    ],
)
async def test_rdr_beyond_the_margin_is_asked_upwards(make, answer, result: RdrResult, why: str) -> None:
    site = make(60.0, 100.0)
    above = FakeUpstream(answer)
    site.engine.upstreams.append(above)
    await site.engine.take_event(site.event(110.0))
    await site.turn(3)
    assert site.engine.asked_back(1, 60.0, 300.0).result is RdrResult.PENDING
    assert site.engine.asked_back(1, 60.0, 300.0).result is RdrResult.PENDING, "one request in flight a device"
    await site.turn(3)
    assert above.asked == [(1, 60.0)]
    await until(lambda: site.field.answers, what="the answer, once the grant is on disk")
    ((number, given),) = site.field.answers
    assert (number, given.result) == (1, result)
    assert why in given.why
    assert site.field.lamps[1].on is (result is RdrResult.GRANTED)
    if result is RdrResult.GRANTED:
        assert site.engine.limit(site.clock.now()).import_w == 170
        await site.turn(305)
        assert site.engine.limit(site.clock.now()).import_w == 110, "the grant ends after for_s"
        assert site.power_w <= 110


async def test_rdr_without_anybody_above_is_denied_with_the_reason(make) -> None:
    site = make(60.0, 100.0)
    await site.engine.take_event(site.event(110.0))
    await site.turn(3)
    answer = site.engine.asked_back(1, 60.0, 300.0)
    assert answer.result is RdrResult.DENIED
    assert "nobody above to ask" in answer.why


@pytest.mark.parametrize(
    ("number", "setting", "words"),
    [
        (9, Setting(on=True), "refused: there is no device 9"),
        (1, Setting(level=3), "led-1 cannot be dimmed"),
        (1, Setting(setpoint_w=10.0), "its set points: none"),
        (1, Setting(on=True), "is over the limit of 110 W"),
        (2, Setting(on=False), "led-2 off"),
    ],
)
async def test_an_operators_command(make, number: int, setting: Setting, words: str) -> None:
    site = make(60.0, 100.0)
    await site.engine.take_event(site.event(110.0))
    await site.turn(3)
    assert words in await site.engine.take_setting(number, setting, Source.EMS)


async def test_what_an_operator_switched_off_is_not_restored(make) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_setting(1, Setting(on=False), Source.MENU)
    await site.turn(30)
    assert not site.field.lamps[1].on


async def test_a_device_that_vanished_still_counts_and_one_that_said_good_bye_does_not(make) -> None:
    site = make(60.0, 60.0)
    site.engine.gone(1, "lease", lost=True)
    assert site.engine.power().watts == 120
    site.engine.gone(2, "good-bye")
    assert site.engine.power().watts == 60


async def test_reports_and_notices_reach_the_outbox(make) -> None:
    site = make(60.0, 60.0)
    site.engine.upstreams.append(FakeUpstream())
    site.journal.reader("ems")
    site.engine.reporter.has_readers = True
    await site.turn(25)
    reports = site.reports()
    assert len(reports) >= 2
    assert reports[-1].power_w == 120
    assert {line.number for line in reports[-1].devices} == {1, 2}


async def test_a_jump_of_the_wall_clock_ends_no_event_early(make) -> None:
    site = make(60.0, 60.0)
    site.clock.jump_wall(-1_700_000_000)
    now = site.clock.now()
    assert not now.trusted
    await site.turn(3)
    assert site.power_w == 120


async def test_a_restore_that_was_not_obeyed_is_made_again_later(make) -> None:
    site = make(60.0, 60.0)
    event = site.event(70.0)
    await site.engine.take_event(event)
    await site.turn(2)
    site.field.lamps[1].deaf = True
    await site.engine.take_event(replace(event, modification=1, end=event.start))
    await site.turn(8)
    assert not site.field.lamps[1].on
    assert site.engine.states[1].held == Setting(on=False), "it is still to be given back"
    site.field.lamps[1].deaf = False
    await site.turn(70)
    assert site.field.lamps[1].on


async def test_a_shed_obeyed_too_late_is_given_back_after_the_event(make) -> None:
    site = make(60.0, 60.0)
    site.field.lamps[1].deaf = True
    await site.engine.take_event(site.event(70.0, seconds=120))
    await site.turn(6)
    site.field.lamps[1].on = False
    site.field.lamps[1].deaf = False
    site.field.report(1)
    await site.turn(200)
    assert all(lamp.on for lamp in site.field.lamps.values())


async def test_a_device_that_announces_itself_and_says_no_state_does_not_block_the_site_for_ever(make) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_event(site.event(90.0, seconds=10))
    silent = site.resource(3, 40.0)
    site.field.lamps[3] = Lamp(silent, deaf=True)
    site.engine.appeared(site.field, silent)
    site.field.lamps.pop(3)
    await site.turn(25)
    assert not site.field.lamps[1].on, "who said nothing may draw anything"
    await site.turn(40)
    assert site.field.lamps[1].on
    assert not site.engine.states[3].present


async def test_at_the_good_bye_nothing_is_commanded(make) -> None:
    site = make(60.0, 60.0)
    await site.engine.take_event(site.event(130.0))
    site.engine.end()
    sent = len(site.field.sent)
    assert await site.engine.take_event(replace(site.event(130.0), modification=1, limit_w=30.0)) is True
    site.engine.pass_now()
    assert "ending" in site.engine.operator.set(1, Setting(on=False), Source.MENU)
    assert site.engine.asked_back(1, 10.0, 60.0).result is RdrResult.DENIED
    await site.turn(30)
    assert len(site.field.sent) == sent
    assert all(lamp.on for lamp in site.field.lamps.values())
    assert next(iter(site.engine.book.events.values())).limit_w == 30.0, "kept for the next start"


async def test_an_rdr_without_watts_asks_what_the_device_lacks(make) -> None:
    site = make(100.0)
    above = FakeUpstream((False, "Deny"))
    site.engine.upstreams.append(above)
    site.engine.appeared(site.field, replace(site.field.lamps[1].resource, levels=True))
    site.field.report(1)
    await site.engine.take_event(site.event(80.0))
    await site.turn(3)
    assert site.power_w == 80
    await Verbs(SimpleNamespace(engine=site.engine)).do_rdr({"number": 1})
    await until(lambda: above.asked)
    assert above.asked == [(1, 20.0)]


async def test_an_rdr_without_watts_of_a_device_that_never_said_what_it_draws(make) -> None:
    site = make(0.0)
    verbs = Verbs(SimpleNamespace(engine=site.engine))
    with pytest.raises(OperatorError, match=r"write `smartema menu 1 1 WATTS`"):
        await verbs.do_rdr({"number": 1})


async def test_a_grant_for_a_device_that_went_while_it_was_asked_for_lifts_no_limit(make) -> None:
    site = make(60.0, 60.0, threshold_w=70.0)
    above = FakeUpstream(None)
    site.engine.upstreams.append(above)
    await site.turn(2)
    held = next(number for number, lamp in site.field.lamps.items() if not lamp.on)
    said: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
    above.ask_rdr = lambda number, watts, for_s: said
    assert site.engine.asked_back(held, 60.0, 600.0).result is RdrResult.PENDING
    await site.turn(0)
    site.engine.gone(held, "it said good-bye")
    said.set_result((True, "OK"))
    await until(lambda: site.engine.rdr.log, what="it is settled")
    assert site.engine.rdr.log[-1].result is RdrResult.DENIED
    assert site.engine.limit(site.clock.now()).import_w == 70
    assert site.journal.grants() == []


async def test_a_reading_before_a_command_left_does_not_confirm_it(make, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make(60.0, 60.0)
    monkeypatch.setattr(site.field, "at_once", 1, raising=False)
    site.field.lamps[1].deaf = True
    await site.engine.take_setting(1, Setting(on=False), Source.MENU)
    # The second waits behind the first, and shows already what it is to be told.
    await site.engine.take_setting(2, Setting(on=True), Source.MENU)
    state = site.engine.states[2]
    assert state.pending is not None
    assert state.pending.waits
    site.field.report(2)
    assert site.engine.dispatcher.waiting(2) is not None
    await site.turn(1)
    assert [command.number for command in site.field.sent] == [1, 2]
    state = site.engine.states[2]
    assert state.pending is not None
    assert state.pending.confirmed_at is not None
    assert site.engine.dispatcher.waiting(2) is None


async def test_who_is_lost_while_its_command_waits_counts_as_it_was(make, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make(60.0, 60.0)
    monkeypatch.setattr(site.field, "at_once", 1, raising=False)
    await site.engine.take_setting(1, Setting(on=False), Source.MENU)
    await site.engine.take_setting(2, Setting(on=False), Source.MENU)
    site.engine.gone(2, "its link broke", lost=True)
    assert site.engine.states[2].pending is None
    assert site.engine.watts() == 60.0
